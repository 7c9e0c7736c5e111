"""What paths are made of: where they are entered, where they go on from, and every connection on the way.

The connections are kept as a tree that later paths share, so that a chain of thousands of nodes costs no copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.conditions import ALWAYS, EdgeCondition, describe_function, spell_condition
from floxide_amqp.core.joins import ALL_THERE_ARE, Gathering, JoinGroup
from floxide_amqp.exceptions import DefinitionError


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


class Connected:
    """What can stand in ``>>``: a path, of which a node is the shortest."""

    def connections(self) -> Connections:
        """Return what the path is made of, for the compiler of workflows."""
        raise NotImplementedError


def side_by_side(paths: tuple[object, ...], where: str) -> Connections:
    """Return what parallel paths are made of together.

    Args:
        paths: At least one.
        where: How the user wrote them, for errors.

    Raises:
        DefinitionError: There is none, or something in it cannot stand in ``>>``.
    """
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


def joined(first: Connections, second: Connections) -> Connections:
    """Return what a path is made of that leads from one to another.

    Raises:
        DefinitionError: Nothing can lead into the second, or the two are joins of edges.
    """
    own = tuple(_link(source, target) for source in first.exits for target in _entries_of(second))
    return Connections(first.entries, second.exits, LinkTree((first.links, second.links), own))


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
    if isinstance(given, Connected):
        return given.connections()
    if isinstance(given, tuple):
        return side_by_side(cast("tuple[object, ...]", given), "A tuple of parallel branches")
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


def spell_entries(connections: Connections) -> str:
    """Return the names of the nodes that a path is entered by."""
    return ", ".join(entry.node.name for entry in connections.entries)
