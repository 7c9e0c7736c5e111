"""Child workflows: runs that a node starts and waits for; what becomes of them when the parent ends first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from floxide_amqp import (
    Abort,
    ChildRunFailedError,
    ChildWorkflow,
    Floxide,
    NextAll,
    RunStatus,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)


@dataclass(frozen=True)
class Parcel:
    address: str
    grams: int


@node
async def weigh(parcel: Parcel) -> Parcel | Abort:
    return parcel if parcel.grams < 5_000 else Abort(ValueError(f"{parcel.grams} g is too heavy"))


@node
async def label(parcel: Parcel) -> str:
    return f"to {parcel.address}"


class Sending(Workflow[Parcel, str]):  # can be started by itself as well
    start = weigh
    edges = (weigh >> label,)


@node
async def split_up(parcels: list[Parcel]) -> NextAll[Parcel]:
    return NextAll(parcels)


@node
async def apologise(ctx: WorkflowCtx[Any], parcel: Parcel) -> str:
    assert ctx.failure is not None
    return f"not to {parcel.address}"


@node
async def report(labels: list[str]) -> str:
    return ", ".join(labels)


sending = ChildWorkflow(Sending)


class Shipment(Workflow[list[Parcel], str]):
    start = split_up
    edges = (
        split_up >> sending >> gather(report),
        sending.on_failure(ChildRunFailedError) >> apologise >> gather(report),
    )


@node
async def wait_for_spring(ctx: WorkflowCtx[Any], parcel: Parcel) -> str:
    await ctx.sleep(3_600)
    return parcel.address


class Sowing(Workflow[Parcel, str]):
    start = wait_for_spring


class Garden(Workflow[Parcel, str]):
    start = ChildWorkflow(Sowing)


async def main() -> list[str]:
    lines: list[str] = []
    parcels = [Parcel("Ada", 300), Parcel("Bert", 9_000), Parcel("Cleo", 700)]
    async with Floxide(workflows=[Shipment, Garden]).orchestrator() as orchestrator:
        shipment = await orchestrator.start(Shipment, parcels, run_id="shipment")
        lines.append(await shipment.result(60))
        children = (await orchestrator.children("shipment")).children
        lines.append(", ".join(sorted(str(child.status) for child in children)))

        garden = await orchestrator.start(Garden, parcels[0], run_id="garden")
        while not (started := (await orchestrator.children("garden")).children):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)
        await garden.cancel("a hard winter")  # goes down the tree, and comes back as news
        while started[0].status is not RunStatus.CANCELLED:
            await asyncio.sleep(0.01)
            started = (await orchestrator.children("garden")).children
        child = await orchestrator.run_info(started[0].run_id)
        lines.append(f"{child.workflow} of {child.parent}: {child.status}")
    return lines


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
