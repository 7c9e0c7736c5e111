"""18, Milestone: an activity can be done only while the case is in a certain state: not before, and not afterwards."""

from __future__ import annotations

import asyncio
from enum import Enum

from examples.patterns.place import opened, until
from floxide_amqp import (
    Context,
    Fixed,
    Hold,
    ItemCompleted,
    ItemHeld,
    Orchestrator,
    Signal,
    Workflow,
    WorkflowCtx,
    all_of,
    node,
)


class Stage(Enum):
    ORDERED = "ordered"
    PACKED = "packed"
    GONE = "gone"


class Parcel(Context):
    content: Fixed[str]
    address: str
    stage: Stage = Stage.ORDERED


PACKER = Signal("packer", str)
COURIER = Signal("courier", str)
NEW_ADDRESS = Signal("new_address", str)
MOVED_ON = Signal("moved_on", Stage)  # what the one branch tells the other


@node
async def accept(order: int) -> int:
    return order


@node
async def pack(ctx: WorkflowCtx[Parcel], order: int) -> int | Hold:
    if ctx.received(PACKER) is None:
        return Hold(until=PACKER)
    ctx.state.stage = Stage.PACKED  # from here on the address can be changed ...
    ctx.signal(ctx.run_id, MOVED_ON, Stage.PACKED)
    return order


@node(isolated=True)  # what it has seen of the state holds until it commits, or its body runs again
async def hand_over(ctx: WorkflowCtx[Parcel], order: int) -> str | Hold:
    if ctx.received(COURIER) is None:
        return Hold(until=COURIER)
    ctx.state.stage = Stage.GONE  # ... to here
    ctx.signal(ctx.run_id, MOVED_ON, Stage.GONE)
    return f"{ctx.state.content} gone to {ctx.state.address}"


@node(isolated=True)
async def change_address(ctx: WorkflowCtx[Parcel], order: int) -> str | Hold:
    ctx.received(MOVED_ON)
    if ctx.state.stage is Stage.ORDERED:
        return Hold(until=MOVED_ON)
    if ctx.state.stage is Stage.GONE:
        return "too late for another address"
    address = ctx.received(NEW_ADDRESS)
    if address is None:
        return Hold(until=(NEW_ADDRESS, MOVED_ON))
    ctx.state.address = address
    return f"another address: {address}"


@node
async def tell(ends: tuple[str, str]) -> str:
    return ", ".join(ends)


class Sending(Workflow[int, str, Parcel]):
    start = accept
    edges = (
        accept >> (pack >> hand_over, change_address),
        all_of(hand_over, change_address) >> tell,
    )


async def play(desk: Orchestrator) -> list[str]:
    early = await desk.start(Sending, 7, context=Parcel(content="pen", address="Rome"))
    await early.signal(NEW_ADDRESS, "Oslo")
    await until(early, ItemHeld, "pack", "change_address")  # not packed yet: the change is known, and waits
    await early.signal(PACKER, "Bert")
    await until(early, ItemCompleted, "change_address")
    await early.signal(COURIER, "Iris")

    late = await desk.start(Sending, 8, context=Parcel(content="ink", address="Rome"))
    await late.signal(PACKER, "Bert")
    await late.signal(COURIER, "Iris")
    await until(late, ItemCompleted, "hand_over")
    return [await run.result(60) for run in (early, late)]


async def main() -> list[str]:
    async with opened(Sending) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
