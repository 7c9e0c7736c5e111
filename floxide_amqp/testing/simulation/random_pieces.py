"""What random workflows are put together from, and what their nodes pass on and keep."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from floxide_amqp import Context, Sum, Union, WorkflowCtx
from floxide_amqp.core.path import Path

Chain = Path[Any, Any]
MODULUS = 1_000_003


class Tally(Context):
    """What a random workflow keeps: how many steps counted, and who was held before."""

    steps: Annotated[int, Sum()] = 0
    seen: Annotated[set[str], Union()] = set()  # noqa: RUF012 - defaults are copied per run


class BrokenError(Exception):
    """What a node that fails on purpose raises."""


class UnseenError(Exception):
    """A node did not see what the node before it wrote."""


@dataclass(frozen=True)
class Marked:
    """A number, and the item whose mark must be in the context wherever it comes to."""

    by: str
    x: int


@dataclass(frozen=True)
class Part:
    """One of so many parts of a number that wait for each other."""

    group: str
    number: int
    size: int
    x: int


@dataclass
class Told:
    """What a piece does to a number: the value it passes on (None: the branch ends), and steps that count."""

    value: int | None
    steps: int


@dataclass
class Piece:
    """A part of a workflow with one way in and one way out."""

    chain: Chain
    tell: Callable[[int], Told]


class Maker(Protocol):
    """What those who make pieces need of a `Recipe`: names that no other node has, plain nodes, and other pieces.

    Attributes:
        chance: Draws.
        edges: Paths of the workflow besides the one that leads through it.
    """

    chance: random.Random
    edges: list[Chain]

    def inner(self) -> Maker:
        """Return a recipe for a workflow of its own, drawn from this one's."""
        ...

    def look(self, ctx: WorkflowCtx[Tally]) -> None:
        """Make sure that a node sees the steps that lead to it."""
        ...

    def name(self, word: str) -> str:
        """Return a name that no other node has."""
        ...

    def add(self, amount: int, word: str = "add") -> Chain:
        """Return a node that does arithmetic."""
        ...

    @staticmethod
    def plain(x: int, amount: int) -> int:
        """What a node of `add` makes of a number."""
        ...

    def step(self) -> Piece:
        """Return one plain node."""
        ...

    def join(self) -> Chain:
        """Return a join of numbers, whose order counts."""
        ...

    def some(self, depth: int) -> Piece:
        """Return some piece, with others in it up to a depth."""
        ...

    def line(self, depth: int, length: int) -> Piece | None:
        """Return pieces one after the other; None for none."""
        ...


def folded(xs: list[int]) -> int:
    """A number that tells lists apart, their order included."""
    total = len(xs)
    for x in xs:
        total = (total * 31 + x) % MODULUS
    return total
