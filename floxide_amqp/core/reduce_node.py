"""A join that folds what arrives, page by page, so that neither its number nor its size matters."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from typing_extensions import TypeVar

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.conditions import describe_function
from floxide_amqp.core.node import Node
from floxide_amqp.core.node_names import check_name
from floxide_amqp.core.signature import EnclosingNames, NodeSignature, resolve_annotations
from floxide_amqp.core.type_args import list_of
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Folding:
    """What a step of a fold is given: what the values before came to, and the next ones.

    Attributes:
        state: Of no account in the first step.
        after: Behind which arrival the next step goes on; empty where this one is the last.
    """

    state: Any
    values: list[Any]
    is_first: bool
    after: str


class ReduceNode(Node[list[T], S]):
    """Folds a list into one value: ``gather(ReduceNode(add, 0))`` does so with what a fan-out leads to.

    A gathered list is not held in memory: it is folded in fan-out order, at most 1,000 values in one step, and each
    step is durable. A step that is repeated calls the function again, on the same values.

    Args:
        function: A plain function of what the values before came to and the next one, annotated; it returns what they
            come to together. It may change and return its first argument.
        initial: What no values come to; it is copied.
        name: The node's name; the function's where none is given.

    Raises:
        DefinitionError: The function's annotations do not say what it takes.
    """

    _needs_arguments = False

    def __init__(self, function: Callable[[S, T], S], initial: S, *, name: str = "") -> None:
        shown = describe_function(function)
        where = f"ReduceNode({shown})"
        self._function = function
        self._initial = initial
        self.name = check_name(name or shown, where=where)
        self._known = _signature_of(function, where)

    def signature(self) -> NodeSignature:
        """Return what the node takes and returns."""
        return self._known

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name folds by the same function, from the same beginning."""
        if not isinstance(other, ReduceNode):
            return False
        twin = cast(Any, other)
        return bool(twin._function is self._function and twin._initial == self._initial)

    def process(self, ctx: WorkflowCtx[Any], input: list[T], /) -> S:
        """Fold the values, or the next ones of them."""
        del ctx
        given: object = input
        if not isinstance(given, Folding):
            return self._fold(copy.deepcopy(self._initial), input)
        state: Any = copy.deepcopy(self._initial) if given.is_first else given.state
        return self._fold(state, given.values)

    def _fold(self, state: S, values: Iterable[T]) -> S:
        for value in values:
            state = self._function(state, value)
        return state


def _signature_of(function: Callable[..., Any], where: str) -> NodeSignature:
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{where}: the function is async. Let the nodes before do what needs waiting.")
    inner = inspect.unwrap(function)
    names = EnclosingNames(getattr(function, "__qualname__", ""), getattr(function, "__globals__", {}))()
    annotations: dict[str, Any] = getattr(inner, "__annotations__", {})
    parameters = [name for name in inspect.signature(inner).parameters if name in annotations]
    if len(parameters) != 2 or "return" not in annotations:
        raise DefinitionError(
            f"{where}: the function must take two values and be annotated, such as "
            "def add(total: int, value: int) -> int: ..."
        )
    hints = resolve_annotations(annotations, getattr(inner, "__globals__", {}), names, where=where)
    output = hints["return"]
    return NodeSignature(input=list_of(hints[parameters[1]]), output=output, takes_ctx=False, is_async=False)
