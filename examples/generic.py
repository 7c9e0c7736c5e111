"""Generic node: written once for any type; where it is used, the brackets say for which."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from floxide_amqp import DefinitionError, Node, Workflow, WorkflowCtx, node

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repeat(Node[T, list[T]], Generic[T]):
    times: int

    async def process(self, ctx: WorkflowCtx[Any], input: T, /) -> list[T]:
        return [input] * self.times


@node
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@node
async def song(verses: list[str]) -> str:
    return " ".join(verses)


thrice = Repeat[int](3)
twice = Repeat[str](2)


class Multiply(Workflow[int, int]):
    start = thrice
    edges = (thrice >> total,)  # thrice >> song would be a type error


class Sing(Workflow[str, str]):
    start = twice
    edges = (twice >> song,)


async def main() -> tuple[int, str, str]:
    try:
        mistake = str(Repeat(2))  # pyright: ignore[reportUnknownArgumentType]  # the mistake is the point
    except DefinitionError as error:
        mistake = str(error)
    return await Multiply.run(14), await Sing.run("la"), mistake


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
