"""17, Interleaved Parallel Routing: each of several activities once, in any order, never two at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import opened
from floxide_amqp import Concurrency, Context, EventLog, Orchestrator, Workflow, WorkflowCtx, all_of, node


@dataclass(frozen=True)
class Applicant:
    number: int
    name: str


class Recruitment(Context):
    log: EventLog[str] = EventLog()


one_at_a_time = Concurrency("applicant", limit=1, key=lambda applicant: applicant.number)


@node
async def admit(applicant: Applicant) -> Applicant:
    return applicant


@node(concurrency=one_at_a_time)
async def test_reading(ctx: WorkflowCtx[Recruitment], applicant: Applicant) -> int:
    return await examine(ctx, "reading")


@node(concurrency=one_at_a_time)
async def test_swimming(ctx: WorkflowCtx[Recruitment], applicant: Applicant) -> int:
    return await examine(ctx, "swimming")


@node(concurrency=one_at_a_time)
async def test_eyes(ctx: WorkflowCtx[Recruitment], applicant: Applicant) -> int:
    return await examine(ctx, "eyes")


async def examine(ctx: WorkflowCtx[Recruitment], what: str) -> int:
    ctx.state.log.append(what)
    await ctx.sleep(0.01)  # the others could begin meanwhile
    return len(what)


@node
async def grade(ctx: WorkflowCtx[Recruitment], points: tuple[int, int, int]) -> str:
    return f"{sum(points)} points in {', '.join(sorted(ctx.state.log))}"


class Recruiting(Workflow[Applicant, str, Recruitment]):
    start = admit
    edges = (
        admit >> (test_reading, test_swimming, test_eyes),
        all_of(test_reading, test_swimming, test_eyes) >> grade,
    )


async def play(desk: Orchestrator) -> list[str]:
    runs = [await desk.start(Recruiting, Applicant(*who)) for who in enumerate(("Ada", "Bert"))]
    return [await run.result(60) for run in runs]


async def main() -> list[str]:
    async with opened(Recruiting) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
