"""19, Cancel Activity: one activity is withdrawn, waiting or at work, and the case goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import opened, until
from floxide_amqp import Context, Hold, ItemHeld, Orchestrator, Signal, Workflow, WorkflowCtx, all_of, first, node


@dataclass(frozen=True)
class Withdrawn:
    why: str


WITHDRAWAL = Signal("withdrawal", Withdrawn)


@node
async def plan(trip: str) -> str:
    return trip


@node
async def book_flight(trip: str) -> str:
    return f"flight to {trip}"


@node
async def want_hotel(trip: str) -> str:
    return trip


@node
async def look_for_hotel(ctx: WorkflowCtx[Context], trip: str) -> str:
    await ctx.sleep(3_600)
    return f"hotel in {trip}"


@node
async def await_withdrawal(ctx: WorkflowCtx[Context], trip: str) -> Withdrawn | Hold:
    return ctx.received(WITHDRAWAL) or Hold(until=WITHDRAWAL)


@node
async def note_hotel(found: str | Withdrawn) -> str:
    return f"no hotel: {found.why}" if isinstance(found, Withdrawn) else found


@node
async def itinerary(parts: tuple[str, str]) -> str:
    return ", ".join(parts)


class Travelling(Workflow[str, str]):
    start = plan
    edges = (
        plan >> (book_flight, want_hotel),
        want_hotel >> (look_for_hotel, await_withdrawal) >> first(note_hotel),  # the first ends the other
        all_of(book_flight, note_hotel) >> itinerary,
    )


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Travelling, "Rome")
    await until(run, ItemHeld, "await_withdrawal")
    await run.signal(WITHDRAWAL, Withdrawn("we sleep in the car"))
    lines = [await run.result(60)]
    items = {item.node: item.status.value for item in await desk.work_items(run.run_id)}
    return [*lines, f"look_for_hotel is {items['look_for_hotel']}, the run is {await run.status()}"]


async def main() -> list[str]:
    async with opened(Travelling) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
