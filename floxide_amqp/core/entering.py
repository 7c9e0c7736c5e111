"""How nodes are entered other than by a plain edge: joined after a fan-out, once more, or side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Never, cast

from typing_extensions import TypeVar

from floxide_amqp.core.connections import Connections, Entry, connections_of, side_by_side
from floxide_amqp.core.joins import Gathering
from floxide_amqp.core.path import DrawnPath, Path, TakesList
from floxide_amqp.exceptions import DefinitionError

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  # input; the letter every signature of the package uses
O = TypeVar("O")  # noqa: E741  # output


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
    return DrawnPath(side_by_side(tuple(paths), "fan_out(...)"))
