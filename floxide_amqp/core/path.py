"""Paths: how nodes are connected with ``>>``.

A path is a value that remembers where it is entered, where it goes on from, and every connection made on the way. The
connections are kept as a tree that later paths share, so that a chain of thousands of nodes costs no copies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, NewType, Protocol, cast, get_origin, overload

from typing_extensions import TypeIs, TypeVar, is_typeddict

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.conditions import (
    ALWAYS,
    OTHERWISE,
    EdgeCondition,
    OnFailure,
    ValueCondition,
    WhenMember,
    WhenTrue,
    WhenType,
    describe_function,
    spell_condition,
)
from floxide_amqp.core.joins import ALL_THERE_ARE, Gathering, JoinGroup
from floxide_amqp.core.type_args import union_members
from floxide_amqp.exceptions import DefinitionError, HoldTimeoutError

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  # input; the letter every signature of the package uses
O = TypeVar("O")  # noqa: E741  # output
P = TypeVar("P")
V = TypeVar("V")
E = TypeVar("E", bound=Enum)
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
A6 = TypeVar("A6")
I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """Where a path is entered.

    Attributes:
        node: The node that receives the value.
        is_gather: Whether it receives the list of all that arrive.
        max_iterations: Bound of an edge that leads back; None for other edges.
        gathering: Of a gather, when it closes its fan-out.
    """

    node: AnyNode
    is_gather: bool = False
    max_iterations: int | None = None
    gathering: Gathering = ALL_THERE_ARE


@dataclass(frozen=True, slots=True, eq=False)
class Exit:
    """Where a path goes on from, and when.

    Attributes:
        group: The join that waits for it and for others; None where nothing does.
        position: Its place among the sources of that join.
    """

    node: AnyNode
    condition: EdgeCondition = ALWAYS
    group: JoinGroup | None = None
    position: int = 0

    def spell(self) -> str:
        """Return the exit as the user wrote it: ``approve.when(Rejected)``."""
        return f"{self.node.name}{spell_condition(self.condition)}"


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One connection between two nodes."""

    source: Exit
    target: Entry


@dataclass(frozen=True, slots=True, eq=False)
class LinkTree:
    """Connections in the order written: those of the parts first, then the own."""

    parts: tuple[LinkTree, ...] = ()
    own: tuple[Link, ...] = ()

    def __iter__(self) -> Iterator[Link]:
        todo: list[LinkTree | tuple[Link, ...]] = [self]
        seen: set[int] = set()
        while todo:
            top = todo.pop()
            if isinstance(top, tuple):
                yield from top
            elif id(top) not in seen:  # a part shared by several paths is told once
                seen.add(id(top))
                todo.append(top.own)
                todo.extend(reversed(top.parts))


NO_LINKS = LinkTree()


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """What a path is made of."""

    entries: tuple[Entry, ...]
    exits: tuple[Exit, ...]
    links: LinkTree = NO_LINKS


class TakesList(Protocol[T_contra, O_co]):
    """A node that takes a list; for type checkers only.

    ``Path[list[T], O]`` would not do: lists are invariant, so a node for ``list[Good | Bad]`` could not gather a branch
    of nothing but `Good` where a checker infers ``T`` from what the branch gives.
    """

    def _takes_list(self) -> Callable[[T_contra], O_co]: ...


class Path(Generic[I_contra, O_co]):
    """Nodes connected with ``>>``: what enters is of the first type, what comes out of the second."""

    def connections(self) -> Connections:
        """Return what the path is made of, for the compiler of workflows."""
        raise NotImplementedError

    if TYPE_CHECKING:

        def _takes_list(self: Path[list[T], O]) -> Callable[[T], O]: ...

    @overload
    def __rshift__(self, other: Path[O_co, P]) -> Path[I_contra, P]: ...
    @overload
    def __rshift__(self, other: tuple[Path[O_co, A1], Path[O_co, A2]]) -> Path[I_contra, A1 | A2]: ...
    @overload
    def __rshift__(
        self, other: tuple[Path[O_co, A1], Path[O_co, A2], Path[O_co, A3]]
    ) -> Path[I_contra, A1 | A2 | A3]: ...
    @overload
    def __rshift__(
        self, other: tuple[Path[O_co, A1], Path[O_co, A2], Path[O_co, A3], Path[O_co, A4]]
    ) -> Path[I_contra, A1 | A2 | A3 | A4]: ...
    @overload
    def __rshift__(
        self, other: tuple[Path[O_co, A1], Path[O_co, A2], Path[O_co, A3], Path[O_co, A4], Path[O_co, A5]]
    ) -> Path[I_contra, A1 | A2 | A3 | A4 | A5]: ...
    @overload
    def __rshift__(
        self,
        other: tuple[Path[O_co, A1], Path[O_co, A2], Path[O_co, A3], Path[O_co, A4], Path[O_co, A5], Path[O_co, A6]],
    ) -> Path[I_contra, A1 | A2 | A3 | A4 | A5 | A6]: ...
    def __rshift__(self, other: object) -> Path[Any, Any]:
        """Connect this path to another, or to a tuple of parallel ones (for generated ones see `fan_out`).

        Raises:
            DefinitionError: `other` is neither, or the path has ended in ``repeat(...)``.
        """
        mine, others = self.connections(), connections_of(other)
        if not mine.exits:
            raise DefinitionError(
                f"{_spell_entries(mine)} leads back with repeat(...), so nothing can follow it. "
                "Write the way out of the loop as a path of its own, such as node.otherwise >> next."
            )
        own = tuple(_link(source, target) for source in mine.exits for target in _entries_of(others))
        return DrawnPath(Connections(mine.entries, others.exits, LinkTree((mine.links, others.links), own)))

    @overload
    def when(self, variant: E, guard: Callable[[E], bool] | None = None) -> Path[I_contra, O_co]: ...
    @overload
    def when(self, variant: None) -> Path[I_contra, None]: ...
    @overload
    def when(self, variant: type[V], guard: Callable[[V], bool] | None = None) -> Path[I_contra, V]: ...
    @overload
    def when(self, variant: Callable[[O_co], TypeIs[V]]) -> Path[I_contra, V]: ...
    @overload
    def when(self, variant: Callable[[O_co], bool]) -> Path[I_contra, O_co]: ...
    def when(self, variant: object, guard: object = None) -> Path[Any, Any]:
        """Go on only with some values: of a type, equal to an enum member, or that a predicate says yes to.

        Every ``when`` of a node that matches is taken. Alone in `edges`, without ``>>``, it declares that the branch
        of these values ends there. Guards and predicates must be fast, synchronous and depend on the value alone.

        Args:
            variant: A member of the output's union, an enum member, or a predicate.
            guard: A further condition on values of `variant`.

        Raises:
            DefinitionError: The variant is none of these, or the path has a condition already.
        """
        return self._with_condition(_when(variant, guard, self._spell()))

    @property
    def otherwise(self) -> Path[I_contra, O_co]:
        """Go on with values that no ``when`` of the node matched."""
        return self._with_condition(OTHERWISE)

    @property
    def on_failure(self) -> FailurePath[I_contra]:
        """Go on when the node has failed for good, with the input it failed on.

        Called with exception classes it takes only theirs, and the nearest class wins, as in method resolution; bare,
        it takes every error that no typed edge takes.
        """
        self._require_single_nodes()
        return FailurePath(self.connections(), OnFailure())

    @property
    def on_timeout(self) -> Path[I_contra, I_contra]:
        """Go on when the node was held for a time, or at most so long, and that is over, with the node's input.

        Without such an edge the node runs again, and `WorkflowCtx.timed_out` tells it.
        """
        self._require_single_nodes()
        return FailurePath(self.connections(), OnFailure((HoldTimeoutError,)))

    def _with_condition(self, condition: ValueCondition) -> Path[Any, Any]:
        mine = self.connections()
        for out in mine.exits:
            if out.group is not None:
                raise DefinitionError(
                    f"{out.group.word}(...){spell_condition(condition)}: what a join gives is its node's input. "
                    f"Lead it to a node, {out.group.word}(...) >> node, and test what that returns: "
                    f"node{spell_condition(condition)}."
                )
            if out.condition is not ALWAYS:
                raise DefinitionError(
                    f"{out.spell()}{spell_condition(condition)}: a condition cannot follow another. "
                    f"Give .when a guard, or a predicate that asks both: {out.node.name}.when(lambda value: ...)."
                )
        if not mine.exits:
            raise DefinitionError(f"{_spell_entries(mine)} leads back with repeat(...), so it has no output to test.")
        exits = tuple(Exit(out.node, condition) for out in mine.exits)
        return DrawnPath(Connections(mine.entries, exits, mine.links))

    def _require_single_nodes(self) -> None:
        """A fallback receives its node's input, so what fails must be a node, not a chain or a gather."""
        mine = self.connections()
        entered = [entry.node for entry in mine.entries if not entry.is_gather and entry.max_iterations is None]
        left = [out.node for out in mine.exits if out.condition is ALWAYS]
        if len(entered) != len(mine.entries) or list(map(id, entered)) != list(map(id, left)):
            last = mine.exits[0].node.name if mine.exits else mine.entries[0].node.name
            raise DefinitionError(
                f".on_failure belongs to a node, not to a path: write {last}.on_failure >> ... as a path of its own."
            )

    def _spell(self) -> str:
        exits = self.connections().exits
        return exits[0].spell() if exits else "the path"


class DrawnPath(Path[I_contra, O_co]):
    """A path that was put together from others."""

    __slots__ = ("_connections",)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connections(self) -> Connections:
        """Return what the path is made of."""
        return self._connections

    def __repr__(self) -> str:
        exits = " | ".join(out.spell() for out in self._connections.exits)
        return f"<Path {_spell_entries(self._connections)} >> ... >> {exits or 'repeat'}>"


class FailurePath(DrawnPath[I, I]):
    """What ``node.on_failure`` gives: a path for every error, and callable to choose some."""

    def __init__(self, connections: Connections, condition: OnFailure) -> None:
        exits = tuple(Exit(out.node, condition) for out in connections.exits)
        super().__init__(Connections(connections.entries, exits, connections.links))

    def __call__(self, *errors: type[Exception]) -> Path[I, I]:
        """Go on only for these exception classes and their subclasses.

        Raises:
            DefinitionError: Something given is not an exception class.
        """
        given = cast("tuple[object, ...]", errors)
        if not given or not all(isinstance(error, type) and issubclass(error, Exception) for error in given):
            shown = ", ".join(getattr(error, "__name__", repr(error)) for error in given)
            raise DefinitionError(
                f"{self._connections.entries[0].node.name}.on_failure({shown}): it takes exception classes, "
                "such as on_failure(ValueError); without parentheses it takes every error."
            )
        return FailurePath(self._connections, OnFailure(errors))


def is_path(given: object) -> TypeIs[Path[Any, Any]]:
    """Say whether something can stand in ``>>``."""
    return isinstance(given, Path)


def gather(
    node: TakesList[T, O], *, errors: Literal["fail", "collect"] = "fail", at_most: int | None = None
) -> Path[T, O]:
    """Enter a node once for everything that its fan-out leads to, as a list in fan-out order.

    It closes the nearest fan-out that every way to it passes. Skipped, empty and nested branches are fine: what does
    not arrive is left out.

    Args:
        node: A node that takes a list.
        errors: What an element does that fails for good and has no `on_failure` edge: ``"fail"`` fails the run, which
            cancels the others; with ``"collect"`` it arrives as a `FailureInfo`, which the node's list must allow.
        at_most: Close the fan-out as soon as so many have arrived, 1 or more; what is still at work in it is cancelled.

    Raises:
        DefinitionError: It is no node, or an argument is out of range.
    """
    bound = cast(object, at_most)
    if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool) or bound < 1):
        raise DefinitionError(f"gather(..., at_most={bound!r}): it must be a whole number, 1 or more.")
    if cast(object, errors) not in ("fail", "collect"):
        raise DefinitionError(f'gather(..., errors={errors!r}): it is "fail" or "collect".')
    return _gather(node, "gather", "a list", Gathering(first=at_most or 0, collects=errors == "collect"))


def first(node: Path[T, O]) -> Path[T, O]:
    """Enter a node with the first value that its fan-out leads to; what is still at work in it is cancelled.

    It closes the nearest fan-out that every way to it passes, as `gather` does. If nothing arrives, the node fails with
    `JoinIncompleteError`.

    Args:
        node: A node that takes one of the values.

    Raises:
        DefinitionError: It is no node.
    """
    return _gather(node, "first", "a value", Gathering(first=1, is_one=True))


def _gather(node: object, word: str, takes: str, gathering: Gathering) -> Path[Any, Any]:
    inner = connections_of(node)
    if len(inner.entries) != 1 or inner.entries[0].is_gather or inner.entries[0].max_iterations is not None:
        raise DefinitionError(f"{word}(...) takes one node that takes {takes}, such as {word}(pack).")
    entry = Entry(inner.entries[0].node, is_gather=True, gathering=gathering)
    return DrawnPath(Connections((entry,), inner.exits, inner.links))


def repeat(target: Path[I, Any], *, max_iterations: int) -> Path[I, Never]:
    """Lead back to a node that ran before; the bound is per value that entered the loop.

    Args:
        target: The node to go back to.
        max_iterations: How often at most, 1 or more; asking for more fails the node that asks.

    Raises:
        DefinitionError: The target is no node, or the bound is not a positive number.
    """
    inner = connections_of(target)
    entry = inner.entries[0] if len(inner.entries) == 1 else None
    if entry is None or tuple(inner.links) or entry.is_gather or entry.max_iterations is not None:
        raise DefinitionError("repeat(...) takes one node to go back to, such as repeat(draft, max_iterations=3).")
    bound = cast(object, max_iterations)
    if not isinstance(bound, int) or isinstance(bound, bool) or bound < 1:
        raise DefinitionError(
            f"repeat({entry.node.name}, max_iterations={bound!r}): the bound must be a whole number, 1 or more."
        )
    return DrawnPath(Connections((Entry(entry.node, max_iterations=bound),), ()))


def fan_out(paths: Iterable[Path[I, O]]) -> Path[I, O]:
    """Put parallel paths side by side: what enters goes into each of them.

    For a few written out, a tuple does the same and keeps each one's type: ``a >> (b, c)``.

    Args:
        paths: At least one path.

    Raises:
        DefinitionError: There is none, or something in it is no path.
    """
    return DrawnPath(_side_by_side(tuple(paths), "fan_out(...)"))


def _side_by_side(paths: tuple[object, ...], where: str) -> Connections:
    if not paths:
        raise DefinitionError(f"{where} is empty: give at least one path.")
    parts = [connections_of(path) for path in paths]
    for part in parts:
        _entries_of(part)
    entries = {(id(e.node), e.is_gather, e.max_iterations, e.gathering): e for part in parts for e in part.entries}
    exits = {(id(out.node), id(out.condition)): out for part in parts for out in part.exits}
    return Connections(
        tuple(entries.values()),
        tuple(exits.values()),
        LinkTree(tuple(part.links for part in parts)),
    )


def _entries_of(connections: Connections) -> tuple[Entry, ...]:
    """Return where a path is entered, which a join of edges is not: what leads to it is written inside it."""
    if not connections.entries:
        word = next((out.group.word for out in connections.exits if out.group is not None), "all_of")
        raise DefinitionError(
            f"Nothing leads into {word}(...) but what it is given. Write what leads to its sources as paths of their "
            f"own: start >> (a, b), {word}(a, b) >> node."
        )
    return connections.entries


def _link(source: Exit, target: Entry) -> Link:
    if source.group is not None and (target.is_gather or target.max_iterations is not None):
        word, name = source.group.word, target.node.name
        into = f"gather({name})" if target.is_gather else f"repeat({name}, ...)"
        raise DefinitionError(
            f"{word}(...) >> {into}: one join cannot be entered by another. Put a node between the two."
        )
    return Link(source, target)


def connections_of(given: object) -> Connections:
    """Return what a node, a path or a tuple of parallel ones is made of.

    Raises:
        DefinitionError: It is none of these.
    """
    if is_path(given):
        return given.connections()
    if isinstance(given, tuple):
        return _side_by_side(cast("tuple[object, ...]", given), "A tuple of parallel branches")
    if isinstance(given, list):
        raise DefinitionError(
            "Parallel branches are written as a tuple, a >> (b, c), or as fan_out([...]) where they are generated; "
            "a list would hide a wrong one from the type checkers."
        )
    if isinstance(given, type):
        raise DefinitionError(f"{given.__name__} is a class: connect a node of it, such as {given.__name__}(...).")
    if callable(given):
        raise DefinitionError(f"The function {describe_function(given)} is not a node: put @node above it.")
    raise DefinitionError(f"{given!r} cannot be connected with >>: it is neither a node nor a path.")


def _spell_entries(connections: Connections) -> str:
    return ", ".join(entry.node.name for entry in connections.entries)


def _when(variant: object, guard: object, where: str) -> ValueCondition:
    if guard is not None:
        _check_function(guard, f"{where}.when(..., guard)")
    if isinstance(variant, Enum):
        return WhenMember(variant, cast("Callable[[Any], bool] | None", guard))
    if _is_type_form(variant):
        return WhenType(variant, cast("Callable[[Any], bool] | None", guard))
    _check_function(variant, f"{where}.when(...)")
    if guard is not None:
        raise DefinitionError(
            f"{where}.when(predicate, guard): a predicate takes no guard. Ask both in the predicate, "
            "or give a type first: .when(Approved, guard)."
        )
    return WhenTrue(cast("Callable[[Any], bool]", variant))


def _is_type_form(variant: object) -> bool:
    if variant is None or isinstance(variant, type | NewType) or is_typeddict(variant):
        return True
    return get_origin(variant) not in (None, Literal) or len(union_members(variant)) > 1


def _check_function(given: object, where: str) -> None:
    if not callable(given) or isinstance(given, Path | type):
        raise DefinitionError(
            f"{where}: {given!r} is neither a type, an enum member nor a function from a value to True or False."
        )
    if inspect.iscoroutinefunction(given):
        raise DefinitionError(
            f"{where}: {describe_function(given)} is async. Conditions are decided between steps: use a plain "
            "function, and let a node fetch what it needs."
        )
