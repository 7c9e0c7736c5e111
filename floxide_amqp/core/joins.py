"""What a join over edges is: how many of its sources it waits for, and what it does with what does not come.

Such a join is a node that edges from anywhere lead to, and that runs once for several of their values: once for each
instance of the scope around it, for each element of a fan-out in that scope, and for each iteration of a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from floxide_amqp.core.ids import RunId, WorkItemId, derive_item_id
from floxide_amqp.core.records import Order, ScopePath, WorkItem

if TYPE_CHECKING:  # heavy to import
    from floxide_amqp.core.payload import PayloadType

Missing: TypeAlias = Literal["fail", "skip"]
"""What a join does when nothing can come any more: it fails, or goes on without what has not come."""

SETTLED: Final = 1_000_000_000
"""Added to the number of a join's arrivals when it was resolved without all of them: it is never reached again."""


class JoinShape(Enum):
    """What a join's node receives."""

    TUPLE = "tuple"
    """One value of each source, in the order of the sources."""
    LIST = "list"
    """The values in the order of the sources, without those that did not come."""
    ONE = "one"
    """The first value."""


@dataclass(frozen=True, slots=True, eq=False)
class JoinGroup:
    """One call of `all_of`, `all_of_each`, `any_of` or `n_of`.

    Attributes:
        word: Which of them, for errors.
        size: How many sources it has.
        need: How many of them let it run, 1 to `size`.
    """

    word: str
    shape: JoinShape
    size: int
    need: int
    missing: Missing = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """How a gather closes its fan-out.

    Attributes:
        first: With so many arrivals, and not only when nothing is live any more; 0 for all there are.
        is_one: Whether its node takes the first value instead of a list.
        collects: Whether an element that fails for good arrives as a `FailureInfo` instead of failing the run.
    """

    first: int = 0
    is_one: bool = False
    collects: bool = False


ALL_THERE_ARE: Final = Gathering()


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeJoin:
    """A join in a compiled graph.

    Attributes:
        need: How many arrivals let it run.
        sources: What leads to it, as the user wrote it, by position.
        parts: Types of what arrives, by position; a single one where all are of one type.
        place: Where it stands among the items of its scope and element: see `floxide_amqp.core.join_orders`.
        level: Greater than that of every join from which a way leads here.
        loops: Ids of the bounded edges whose loops it is part of: each iteration has its own instance.
        per_element: Whether each element of the fan-out around it has its own instance.
    """

    shape: JoinShape
    need: int
    missing: Missing
    sources: tuple[str, ...]
    parts: tuple[PayloadType, ...]
    place: Order
    level: int
    loops: tuple[str, ...] = ()
    per_element: bool = False

    @property
    def waits(self) -> bool:
        """Whether it needs more than one arrival, so that some may wait for others."""
        return self.need > 1

    def part(self, position: int) -> PayloadType:
        """Return the type of what arrives at a position."""
        return self.parts[position] if self.shape is JoinShape.TUPLE else self.parts[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinInstance:
    """One instance of a join: the item that it becomes, and what it is known by.

    Attributes:
        join_id: The id of its item.
        order: Where that stands among those of its fan-outs.
        loops: Iterations so far of the loops that it is part of.
    """

    join_id: WorkItemId
    node: str
    order: Order
    loops: tuple[tuple[str, int], ...]


def instance_of(
    run_id: RunId, node: str, join: EdgeJoin, item: WorkItem, order: Order, scope: ScopePath, base: Order
) -> JoinInstance:
    """Return the instance of a join that a value arrives at.

    Args:
        run_id: The run.
        node: The join's node.
        join: The join.
        item: The item that the value comes from.
        order: Where the value stands.
        scope: The scopes around the join.
        base: Where the fan-out stands that opened the innermost of them; empty for the run itself.
    """
    element = order[len(base) : len(base) + 1] if join.per_element else ()
    counts = dict(item.loops)
    loops = tuple((edge, counts[edge]) for edge in join.loops if edge in counts)
    place = (*element, *(counts.get(edge, 0) for edge in join.loops))
    return JoinInstance(
        join_id=derive_item_id(run_id, scope[-1] if scope else "", f"all of {node}", place),
        node=node,
        order=(*base, *element, *join.place),
        loops=loops,
    )


def arrived(join_id: str) -> str:
    """The counter of what arrived at an instance of a join."""
    return f"j:{join_id}"


def waiting(scope: ScopePath) -> str:
    """The counter of a scope's joins at which something arrived and that wait for more."""
    return f"jw:{scope[-1] if scope else ''}"


def resolved(scope: ScopePath) -> str:
    """The counter of how often a scope's joins were to be resolved, because nothing else was live."""
    return f"jr:{scope[-1] if scope else ''}"


def gathered(scope: ScopePath) -> str:
    """The counter of what arrived at a gather that closes its fan-out before everything has."""
    return f"ja:{scope[-1] if scope else ''}"


def closed(scope: ScopePath) -> str:
    """The counter of whether a scope was closed so: 1 then."""
    return f"jc:{scope[-1] if scope else ''}"
