"""15, Multiple Instances without a priori Runtime Knowledge: more are begun while others run; then all synchronized."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import opened, until
from floxide_amqp import (
    Context,
    Hold,
    ItemCompleted,
    Orchestrator,
    Signal,
    Workflow,
    WorkflowCtx,
    gather,
    node,
    repeat,
)


@dataclass(frozen=True)
class Claim:
    by: str


@dataclass(frozen=True)
class Witness:
    name: str


@dataclass(frozen=True)
class NoMore:
    pass


REPORT: Signal[Witness | NoMore] = Signal("report", Witness | NoMore)


@node
async def open_claim(claim: Claim) -> Claim:
    return claim


@node
async def hear_claimant(claim: Claim) -> str:
    return claim.by


@node
async def await_witness(ctx: WorkflowCtx[Context], so_far: Claim | Witness) -> Witness | NoMore | Hold:
    return ctx.received(REPORT) or Hold(until=REPORT)


@node
async def hear(witness: Witness) -> str:
    return witness.name


@node
async def decide(heard: list[str]) -> str:
    return f"decided after {len(heard)} were heard: {', '.join(sorted(heard))}"


class Insurance(Workflow[Claim, str]):
    start = open_claim
    edges = (
        open_claim >> hear_claimant >> gather(decide),
        open_claim >> await_witness,
        await_witness.when(Witness) >> hear >> gather(decide),  # one more instance
        await_witness.when(Witness) >> repeat(await_witness, max_iterations=1_000),  # and wait for the next
        await_witness.when(NoMore),
    )


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Insurance, Claim("Ada"))
    await run.signal(REPORT, Witness("Bert"))
    await until(run, ItemCompleted, "hear", "hear_claimant")
    for name in ("Cleo", "Dora"):  # nobody knew of them when Bert was heard
        await run.signal(REPORT, Witness(name))
    await run.signal(REPORT, NoMore())
    return [await run.result(60)]


async def main() -> list[str]:
    async with opened(Insurance) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
