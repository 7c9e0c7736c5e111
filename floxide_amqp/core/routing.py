"""Which edges a value or an error takes out of one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from floxide_amqp.core.conditions import (
    Always,
    OnFailure,
    Otherwise,
    ValueCondition,
    WhenMember,
    WhenTrue,
    WhenType,
    spell_condition,
)
from floxide_amqp.core.edges import Edge
from floxide_amqp.core.failure import kind_of
from floxide_amqp.core.type_args import runtime_class, union_members
from floxide_amqp.core.typing_rules import covers
from floxide_amqp.exceptions import CodecError, UnroutedValueError

if TYPE_CHECKING:
    from floxide_amqp.core.payload import PayloadType

ValueTest = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Way:
    """One way out of a node.

    Attributes:
        condition: When it is taken.
        test: Says so for a value; None for a plain way and for ``otherwise``.
        edge: Where it leads; None where the branch ends.
    """

    condition: ValueCondition
    test: ValueTest | None
    edge: Edge | None


@dataclass(frozen=True)
class Router:
    """Chooses the ways a value takes.

    Every plain way is taken and every ``when`` that matches; ``otherwise`` where no ``when`` matched.

    Attributes:
        node: Name of the node, for the error.
        ways: In the order written.
    """

    node: str
    ways: tuple[Way, ...] = ()

    @cached_property
    def only(self) -> tuple[Edge, ...] | None:
        """The edges that every value takes, where nothing about the ways depends on it."""
        if any(not isinstance(way.condition, Always) or way.test is not None for way in self.ways):
            return None
        return tuple(way.edge for way in self.ways if way.edge is not None)

    def route(self, value: object) -> tuple[Edge, ...]:
        """Return the edges the value takes; none where its branch ends.

        Raises:
            UnroutedValueError: There are ways and none takes the value.
            Exception: Whatever a guard or predicate raises.
        """
        if not self.ways:
            return ()
        if self.only is not None:
            return self.only
        matched = [way.test is not None and way.test(value) for way in self.ways]
        is_matched = any(matched)
        taken = [
            way
            for way, is_match in zip(self.ways, matched, strict=True)
            if is_match
            or isinstance(way.condition, Always)
            or (isinstance(way.condition, Otherwise) and not is_matched)
        ]
        if not taken:
            ways = tuple(f"{self.node}{spell_condition(way.condition)}" for way in self.ways)
            raise UnroutedValueError(node=self.node, value_type=type(value).__name__, ways=ways)
        return tuple(way.edge for way in taken if way.edge is not None)


@dataclass(frozen=True, slots=True)
class FailureRouter:
    """Chooses the edges an error takes: those for the nearest of its classes; the bare ones where none is for any.

    Attributes:
        edges: In the order written, each with the ``module.Class`` names it is for; empty for a bare one.
    """

    edges: tuple[tuple[Edge, frozenset[str]], ...] = ()

    def names(self, error: type[Exception]) -> bool:
        """Say whether an edge is for just this class."""
        return any(kind_of(error) in wanted for _, wanted in self.edges)

    def route(self, kinds: tuple[str, ...]) -> tuple[Edge, ...]:
        """Return the edges an error with these ``module.Class`` names, most derived first, takes."""
        for kind in kinds:
            nearest = tuple(edge for edge, wanted in self.edges if kind in wanted)
            if nearest:
                return nearest
        return tuple(edge for edge, wanted in self.edges if not wanted)


def failure_router(edges: tuple[Edge, ...]) -> FailureRouter:
    """Return the router of a node's failure edges."""
    pairs: list[tuple[Edge, frozenset[str]]] = []
    for edge in edges:
        errors = edge.condition.errors if isinstance(edge.condition, OnFailure) else ()
        pairs.append((edge, frozenset(kind_of(error) for error in errors)))
    return FailureRouter(tuple(pairs))


def make_way(condition: ValueCondition, edge: Edge | None, output: PayloadType) -> Way:
    """Return the way for a condition on values of a payload type."""
    return Way(condition, _value_test(condition, output), edge)


def _value_test(condition: ValueCondition, output: PayloadType) -> ValueTest | None:
    match condition:
        case Always() | Otherwise():
            return None
        case WhenTrue(predicate):
            return predicate
        case WhenMember(member, guard):
            return _guarded(lambda value: value is member or (type(value) is type(member) and value == member), guard)
        case WhenType(variant, guard):
            return _guarded(_type_test(variant, output), guard)


def _type_test(variant: object, output: PayloadType) -> ValueTest:
    """Decide by the member of the union that the value belongs to; by class where the variant is narrower than it."""
    covered = {id(member) for member in output.members if covers(variant, member.annotation)}
    if len(covered) == len(output.members):
        return lambda _: True
    others = [member for member in output.members if id(member) not in covered]
    narrower = tuple(
        asked
        for part in union_members(variant)
        if any(covers(member.annotation, part) for member in others) and (asked := runtime_class(part)) is not None
    )

    def test(value: object) -> bool:
        if isinstance(value, narrower):
            return True
        try:
            return id(output.member_of(value)) in covered
        except CodecError:  # of no declared type: no edge takes it, which the router reports
            return False

    return test


def _guarded(test: ValueTest, guard: Callable[[Any], bool] | None) -> ValueTest:
    if guard is None:
        return test
    return lambda value: test(value) and guard(value)
