"""10, Arbitrary Cycles: a loop with several ways in and several ways out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import completed, opened
from floxide_amqp import Orchestrator, Workflow, node, repeat


@dataclass(frozen=True)
class Draft:
    faults: int


@dataclass(frozen=True)
class Proof:
    faults: int


@dataclass(frozen=True)
class Rejected:
    why: str


@dataclass(frozen=True)
class Printed:
    copies: int


@node
async def submit(text: Draft | Proof) -> Draft | Proof:
    return text


@node
async def edit(draft: Draft) -> Proof | Rejected:
    return Rejected("it cannot be read") if draft.faults > 9 else Proof(draft.faults // 2)


@node
async def check(proof: Proof) -> Draft | Printed:
    return Draft(proof.faults) if proof.faults else Printed(copies=500)


@node
async def send_back(rejected: Rejected) -> str:
    return f"sent back: {rejected.why}"


@node
async def deliver(printed: Printed) -> str:
    return f"{printed.copies} copies"


class Printing(Workflow[Draft | Proof, str]):
    start = submit
    edges = (
        submit.when(Draft) >> edit,  # one way in
        submit.when(Proof) >> check,  # another
        edit.when(Proof) >> check,
        edit.when(Rejected) >> send_back,  # one way out
        check.when(Draft) >> repeat(edit, max_iterations=1_000),
        check.when(Printed) >> deliver,  # another
    )


async def play(desk: Orchestrator) -> list[str]:
    lines: list[str] = []
    for text in (Draft(4), Proof(2), Draft(12), Proof(12)):
        run = await desk.start(Printing, text)
        lines.append(f"{await run.result(60)} by way of {', '.join((await completed(run))[1:-1])}")
    return lines


async def main() -> list[str]:
    async with opened(Printing) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
