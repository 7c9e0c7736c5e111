"""Branching: what a node returns decides where the run goes on, by type, by enum member, or by a guard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from floxide_amqp import Workflow, node


@dataclass(frozen=True)
class Small:
    amount: int


@dataclass(frozen=True)
class Large:
    amount: int


class Verdict(Enum):
    PAY = "pay"
    REFUSE = "refuse"


@node
async def classify(amount: int) -> Small | Large:
    return Small(amount) if amount < 100 else Large(amount)


@node
async def review(claim: Small | Large) -> Verdict:  # what .otherwise leaves is for the checkers the whole union
    return Verdict.PAY if claim.amount < 1_000 else Verdict.REFUSE


@node
async def pay_at_once(claim: Small) -> str:
    return f"paid {claim.amount} at once"


@node
async def call_a_manager(claim: Large) -> str:
    return f"a manager looks at {claim.amount}"


@node
async def pay(verdict: Verdict) -> str:
    return f"reviewed: {verdict.value}"


@node
async def refuse(verdict: Verdict) -> str:
    return f"reviewed: {verdict.value}"


class Claims(Workflow[int, str]):
    start = classify
    edges = (
        classify.when(Small) >> pay_at_once,
        classify.when(Large, lambda claim: claim.amount >= 10_000) >> call_a_manager,
        classify.otherwise >> review,  # what no .when() took
        review.when(Verdict.PAY) >> pay,
        review.when(Verdict.REFUSE) >> refuse,
    )


async def main() -> list[str]:
    return [await Claims.run(amount) for amount in (20, 500, 5_000, 20_000)]


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
