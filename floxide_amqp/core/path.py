"""Paths: how nodes are connected with ``>>``.

A path is a value that remembers what it is made of (`floxide_amqp.core.connections`); each operation gives a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast, overload

from typing_extensions import TypeIs, TypeVar

from floxide_amqp.core.conditions import ALWAYS, OTHERWISE, OnFailure, ValueCondition, spell_condition
from floxide_amqp.core.connections import Connected, Connections, Exit, connections_of, joined, spell_entries
from floxide_amqp.core.when import condition_of
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


class TakesList(Protocol[T_contra, O_co]):
    """A node that takes a list; for type checkers only.

    ``Path[list[T], O]`` would not do: lists are invariant, so a node for ``list[Good | Bad]`` could not gather a branch
    of nothing but `Good` where a checker infers ``T`` from what the branch gives.
    """

    def _takes_list(self) -> Callable[[T_contra], O_co]: ...


class Path(Connected, Generic[I_contra, O_co]):
    """Nodes connected with ``>>``: what enters is of the first type, what comes out of the second."""

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
                f"{spell_entries(mine)} leads back with repeat(...), so nothing can follow it. "
                "Write the way out of the loop as a path of its own, such as node.otherwise >> next."
            )
        return DrawnPath(joined(mine, others))

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
        return self._with_condition(condition_of(variant, guard, self._spell()))

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
            raise DefinitionError(f"{spell_entries(mine)} leads back with repeat(...), so it has no output to test.")
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
        return f"<Path {spell_entries(self._connections)} >> ... >> {exits or 'repeat'}>"


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
