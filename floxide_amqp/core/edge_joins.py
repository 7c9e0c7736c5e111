"""Joins over edges: a node that runs once for what several others return, wherever these are in the graph.

``all_of(a, b) >> node`` waits for both, ``any_of(a, b) >> node`` for the first, ``n_of(2, a, b, c) >> node`` for two. A
value that an edge did not take never comes: when nothing else is at work in the scope around them, joins that wait for
it are resolved, those first that others depend on: they fail, or go on without it, as `missing` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Never, cast, overload

from typing_extensions import TypeVar

from floxide_amqp.core.connections import Connections, Exit, LinkTree, connections_of
from floxide_amqp.core.joins import JoinGroup, JoinShape, Missing
from floxide_amqp.core.path import DrawnPath, Path
from floxide_amqp.exceptions import DefinitionError

O = TypeVar("O")  # noqa: E741  # output; the letter every signature of the package uses
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
A6 = TypeVar("A6")


@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    /,
    *,
    missing: Literal["fail"] = "fail",
) -> Path[Never, tuple[A1, A2]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    /,
    *,
    missing: Literal["skip"],
) -> Path[Never, tuple[A1 | None, A2 | None]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    /,
    *,
    missing: Literal["fail"] = "fail",
) -> Path[Never, tuple[A1, A2, A3]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    /,
    *,
    missing: Literal["skip"],
) -> Path[Never, tuple[A1 | None, A2 | None, A3 | None]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    /,
    *,
    missing: Literal["fail"] = "fail",
) -> Path[Never, tuple[A1, A2, A3, A4]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    /,
    *,
    missing: Literal["skip"],
) -> Path[Never, tuple[A1 | None, A2 | None, A3 | None, A4 | None]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    e: Path[Any, A5],
    /,
    *,
    missing: Literal["fail"] = "fail",
) -> Path[Never, tuple[A1, A2, A3, A4, A5]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    e: Path[Any, A5],
    /,
    *,
    missing: Literal["skip"],
) -> Path[Never, tuple[A1 | None, A2 | None, A3 | None, A4 | None, A5 | None]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    e: Path[Any, A5],
    f: Path[Any, A6],
    /,
    *,
    missing: Literal["fail"] = "fail",
) -> Path[Never, tuple[A1, A2, A3, A4, A5, A6]]: ...
@overload
def all_of(
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    e: Path[Any, A5],
    f: Path[Any, A6],
    /,
    *,
    missing: Literal["skip"],
) -> Path[Never, tuple[A1 | None, A2 | None, A3 | None, A4 | None, A5 | None, A6 | None]]: ...
def all_of(*sources: Path[Any, Any], missing: Missing = "fail") -> Path[Any, Any]:
    """Wait for one value of each source; the node behind it takes them as a tuple, in the order written.

    Args:
        sources: Two nodes or paths or more, each with one way out; for many generated ones see `all_of_each`.
        missing: What happens when one of them can come no more, because its edge was not taken: ``"fail"`` fails the
            node with `JoinIncompleteError`, ``"skip"`` goes on with None in its place.

    Raises:
        DefinitionError: A source is none, or has several ways out.
    """
    return _joined("all_of", JoinShape.TUPLE, sources, len(sources), missing)


def all_of_each(sources: Iterable[Path[Any, O]], *, missing: Missing = "fail") -> Path[Never, list[O]]:
    """Wait for one value of each of many sources; the node behind it takes the list of them, in their order.

    Args:
        sources: One node or path or more, each with one way out.
        missing: What happens when one of them can come no more: ``"fail"`` fails the node with `JoinIncompleteError`,
            ``"skip"`` goes on without it.

    Raises:
        DefinitionError: There is no source, or one is none or has several ways out.
    """
    given = tuple(sources)
    return _joined("all_of_each", JoinShape.LIST, given, len(given), missing)


@overload
def any_of(a: Path[Any, A1], b: Path[Any, A2], /) -> Path[Never, A1 | A2]: ...
@overload
def any_of(a: Path[Any, A1], b: Path[Any, A2], c: Path[Any, A3], /) -> Path[Never, A1 | A2 | A3]: ...
@overload
def any_of(
    a: Path[Any, A1], b: Path[Any, A2], c: Path[Any, A3], d: Path[Any, A4], /
) -> Path[Never, A1 | A2 | A3 | A4]: ...
@overload
def any_of(
    a: Path[Any, O],
    b: Path[Any, O],
    c: Path[Any, O],
    d: Path[Any, O],
    e: Path[Any, O],
    /,
    *more: Path[Any, O],
) -> Path[Never, O]: ...
def any_of(*sources: Path[Any, Any]) -> Path[Any, Any]:
    """Go on with the first value that comes; those that come later are dropped.

    The branches that come too late are not stopped. Where they begin at one fan-out, ``first(node)`` stops them.

    Args:
        sources: Two nodes or paths or more, each with one way out.

    Raises:
        DefinitionError: A source is none, or has several ways out.
    """
    return _joined("any_of", JoinShape.ONE, sources, 1, "fail")


@overload
def n_of(m: int, a: Path[Any, A1], b: Path[Any, A2], /, *, missing: Missing = "fail") -> Path[Never, list[A1 | A2]]: ...
@overload
def n_of(
    m: int,
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    /,
    *,
    missing: Missing = "fail",
) -> Path[Never, list[A1 | A2 | A3]]: ...
@overload
def n_of(
    m: int,
    a: Path[Any, A1],
    b: Path[Any, A2],
    c: Path[Any, A3],
    d: Path[Any, A4],
    /,
    *,
    missing: Missing = "fail",
) -> Path[Never, list[A1 | A2 | A3 | A4]]: ...
@overload
def n_of(
    m: int,
    a: Path[Any, O],
    b: Path[Any, O],
    c: Path[Any, O],
    d: Path[Any, O],
    e: Path[Any, O],
    /,
    *more: Path[Any, O],
    missing: Missing = "fail",
) -> Path[Never, list[O]]: ...
def n_of(m: int, /, *sources: Path[Any, Any], missing: Missing = "fail") -> Path[Any, Any]:
    """Go on with the first `m` values that come, as a list in the order of the sources; later ones are dropped.

    Args:
        m: How many, from 1 to the number of sources.
        sources: Two nodes or paths or more, each with one way out.
        missing: What happens when so many can come no more: ``"fail"`` fails the node with `JoinIncompleteError`,
            ``"skip"`` goes on with those that came.

    Raises:
        DefinitionError: A source is none or has several ways out, or `m` is out of range.
    """
    number = cast(object, m)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= len(sources):
        raise DefinitionError(
            f"n_of({number!r}, ...): the number must be a whole number, from 1 to that of the sources ({len(sources)})."
        )
    return _joined("n_of", JoinShape.LIST, sources, number, missing)


def _joined(
    word: str, shape: JoinShape, sources: tuple[Path[Any, Any], ...], need: int, missing: Missing
) -> Path[Any, Any]:
    if len(sources) < (1 if word == "all_of_each" else 2):
        few = "one" if sources else "none"
        raise DefinitionError(f"{word}(...) joins several sources, and this has {few}. Connect one with a plain >>.")
    if cast(object, missing) not in ("fail", "skip"):
        raise DefinitionError(f'{word}(..., missing={missing!r}): it is "fail" or "skip".')
    group = JoinGroup(word=word, shape=shape, size=len(sources), need=need, missing=missing)
    parts = [connections_of(source) for source in sources]
    exits: dict[tuple[int, int], Exit] = {}
    for position, part in enumerate(parts):
        out = _only_exit(word, part)
        known = exits.setdefault((id(out.node), id(out.condition)), Exit(out.node, out.condition, group, position))
        if known.position != position:
            raise DefinitionError(f"{word}(...): {out.spell()} is given twice. A source gives one value: name it once.")
    return DrawnPath(Connections((), tuple(exits.values()), LinkTree(tuple(part.links for part in parts))))


def _only_exit(word: str, part: Connections) -> Exit:
    if len(part.exits) == 1 and part.exits[0].group is None:
        return part.exits[0]
    shown = " and ".join(f"{out.group.word}(...)" if out.group is not None else out.spell() for out in part.exits)
    raise DefinitionError(
        f"{word}(...): each source must have one way out, and one of them has {shown or 'none: it leads back'}. "
        "Lead its ends to one node, and give that."
    )
