"""Functions as nodes: what `@node` makes of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any, Generic, Protocol, cast, overload

from typing_extensions import TypeVar

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.compensation import Compensation
from floxide_amqp.core.context import Context
from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.node import Node
from floxide_amqp.core.node_names import OPTION_NAMES, check_name
from floxide_amqp.core.options import Executor, NodeOptions, check_node_options
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.rates import RateLimit
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.signature import EnclosingNames, NodeSignature, read_function
from floxide_amqp.core.transition import Abort, BareValue, Hold, Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

I = TypeVar("I")  # noqa: E741  # input; the letter every signature of the package uses
O = TypeVar("O")  # noqa: E741  # output
B = TypeVar("B", bound=BareValue)
C = TypeVar("C", bound=Context)
I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
R_co = TypeVar("R_co", covariant=True, default=Any)


class FunctionNode(Node[I_contra, O_co], Generic[C, I_contra, O_co, R_co]):
    """A function as a node. Called, it is still the function: ``await charge(ctx, order)``."""

    _needs_arguments = False

    def __init__(self, function: Callable[..., Any], options: NodeOptions) -> None:
        self.name = check_name(getattr(function, "__name__", ""), where="@node")
        self._function = function
        self._own_options = options
        self._enclosing: EnclosingNames | None = EnclosingNames(
            getattr(function, "__qualname__", ""), getattr(function, "__globals__", {})
        )
        self._known: NodeSignature | None = None
        functools.update_wrapper(cast("Callable[..., Any]", self), function, updated=())
        try:
            self.signature()
        except DefinitionError as error:
            if not isinstance(error.__cause__, NameError):
                raise

    def signature(self) -> NodeSignature:
        """Return what the function takes and returns.

        Raises:
            DefinitionError: Its annotations name what is not defined (yet).
        """
        if self._known is None:
            names = self._enclosing() if self._enclosing is not None else {}
            self._known = read_function(self._function, names, where=f"node {self.name!r}")
            self._enclosing = None
        return self._known

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name is the same function with the same options."""
        is_mine = isinstance(other, FunctionNode) and cast(Any, other)._function is self._function
        return is_mine and self.options == other.options

    @overload
    def __call__(self, ctx: WorkflowCtx[C], input: I_contra, /) -> R_co: ...
    @overload
    def __call__(self: FunctionNode[Context, I, O_co, R_co], input: I, /) -> R_co: ...
    def __call__(self, *args: Any) -> Any:
        """Call the function itself, as a unit test does; one without `WorkflowCtx` takes its input alone."""
        return self._function(*args) if self.signature().takes_ctx else self._function(args[-1])

    def process(self, ctx: WorkflowCtx[Any], input: I_contra, /) -> Any:
        """Call the function."""
        return self._function(ctx, input) if self.signature().takes_ctx else self._function(input)


class _Decorate(Protocol):
    """What `node` with options returns."""

    @overload
    def __call__(
        self, fn: Callable[[WorkflowCtx[C], I], Awaitable[Transition[O]]], /
    ) -> FunctionNode[C, I, O, Coroutine[Any, Any, Transition[O]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[WorkflowCtx[C], I], Awaitable[B]], /
    ) -> FunctionNode[C, I, B, Coroutine[Any, Any, B]]: ...
    @overload
    def __call__(
        self, fn: Callable[[WorkflowCtx[C], I], Awaitable[O | Hold | Abort]], /
    ) -> FunctionNode[C, I, O, Coroutine[Any, Any, O]]: ...
    @overload
    def __call__(
        self, fn: Callable[[I], Awaitable[Transition[O]]], /
    ) -> FunctionNode[Context, I, O, Coroutine[Any, Any, Transition[O]]]: ...
    @overload
    def __call__(self, fn: Callable[[I], Awaitable[B]], /) -> FunctionNode[Context, I, B, Coroutine[Any, Any, B]]: ...
    @overload
    def __call__(
        self, fn: Callable[[I], Awaitable[O | Hold | Abort]], /
    ) -> FunctionNode[Context, I, O, Coroutine[Any, Any, O]]: ...
    @overload
    def __call__(self, fn: Callable[[WorkflowCtx[C], I], Transition[O]], /) -> FunctionNode[C, I, O, Transition[O]]: ...
    @overload
    def __call__(self, fn: Callable[[WorkflowCtx[C], I], B], /) -> FunctionNode[C, I, B, B]: ...
    @overload
    def __call__(self, fn: Callable[[WorkflowCtx[C], I], O | Hold | Abort], /) -> FunctionNode[C, I, O, O]: ...
    @overload
    def __call__(self, fn: Callable[[I], Transition[O]], /) -> FunctionNode[Context, I, O, Transition[O]]: ...
    @overload
    def __call__(self, fn: Callable[[I], B], /) -> FunctionNode[Context, I, B, B]: ...
    @overload
    def __call__(self, fn: Callable[[I], O | Hold | Abort], /) -> FunctionNode[Context, I, O, O]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Make a node of a function."""
        ...


class _DecorateCompensated(Protocol[I, O]):
    """What `node` with a compensation returns: the compensation says what the function takes and returns."""

    @overload
    def __call__(
        self, fn: Callable[[WorkflowCtx[C], I], Coroutine[Any, Any, O | Transition[O]]], /
    ) -> FunctionNode[C, I, O, Coroutine[Any, Any, O | Transition[O]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[I], Coroutine[Any, Any, O | Transition[O]]], /
    ) -> FunctionNode[Context, I, O, Coroutine[Any, Any, O | Transition[O]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[WorkflowCtx[C], I], O | Transition[O]], /
    ) -> FunctionNode[C, I, O, O | Transition[O]]: ...
    @overload
    def __call__(self, fn: Callable[[I], O | Transition[O]], /) -> FunctionNode[Context, I, O, O | Transition[O]]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Make a node of a function."""
        ...


@overload
def node(
    fn: Callable[[WorkflowCtx[C], I], Awaitable[Transition[O]]], /
) -> FunctionNode[C, I, O, Coroutine[Any, Any, Transition[O]]]: ...
@overload
def node(fn: Callable[[WorkflowCtx[C], I], Awaitable[B]], /) -> FunctionNode[C, I, B, Coroutine[Any, Any, B]]: ...
@overload
def node(
    fn: Callable[[WorkflowCtx[C], I], Awaitable[O | Hold | Abort]], /
) -> FunctionNode[C, I, O, Coroutine[Any, Any, O]]: ...
@overload
def node(
    fn: Callable[[I], Awaitable[Transition[O]]], /
) -> FunctionNode[Context, I, O, Coroutine[Any, Any, Transition[O]]]: ...
@overload
def node(fn: Callable[[I], Awaitable[B]], /) -> FunctionNode[Context, I, B, Coroutine[Any, Any, B]]: ...
@overload
def node(fn: Callable[[I], Awaitable[O | Hold | Abort]], /) -> FunctionNode[Context, I, O, Coroutine[Any, Any, O]]: ...
@overload
def node(fn: Callable[[WorkflowCtx[C], I], Transition[O]], /) -> FunctionNode[C, I, O, Transition[O]]: ...
@overload
def node(fn: Callable[[WorkflowCtx[C], I], B], /) -> FunctionNode[C, I, B, B]: ...
@overload
def node(fn: Callable[[WorkflowCtx[C], I], O | Hold | Abort], /) -> FunctionNode[C, I, O, O]: ...
@overload
def node(fn: Callable[[I], Transition[O]], /) -> FunctionNode[Context, I, O, Transition[O]]: ...
@overload
def node(fn: Callable[[I], B], /) -> FunctionNode[Context, I, B, B]: ...
@overload
def node(fn: Callable[[I], O | Hold | Abort], /) -> FunctionNode[Context, I, O, O]: ...
@overload
def node(
    *,
    queue: str = "",
    retry: RetryPolicy | None = None,
    timeout: timedelta | float | None = None,
    isolated: bool = False,
    at_most_once: bool = False,
    requires: tuple[type, ...] = (),
    concurrency: Concurrency | None = None,
    rate: RateLimit | None = None,
    priority: Priority | None = None,
    labels: AbstractSet[str] | None = None,
    executor: Executor = "thread",
) -> _Decorate: ...
@overload
def node(
    *,
    compensation: Node[Compensation[I, O], Any],
    queue: str = "",
    retry: RetryPolicy | None = None,
    timeout: timedelta | float | None = None,
    isolated: bool = False,
    at_most_once: bool = False,
    requires: tuple[type, ...] = (),
    concurrency: Concurrency | None = None,
    rate: RateLimit | None = None,
    priority: Priority | None = None,
    labels: AbstractSet[str] | None = None,
    executor: Executor = "thread",
) -> _DecorateCompensated[I, O]: ...
def node(fn: Any = None, /, **options: Any) -> Any:  # noqa: D417  # the options are described one by one
    """Make a node of a function; use it bare or with options.

    The function takes its input, or a `WorkflowCtx` and its input; it is ``async def`` or ``def`` (then it runs in a
    thread). What it returns is passed on: a value, or a `Transition`.

    Args:
        fn: The function.
        queue: Task queue whose workers run it; empty for the workflow's.
        retry: What happens after an error; None for the workflow's policy.
        timeout: Longest time of one attempt, `timedelta` or seconds; more than 0.
        isolated: Commit only if no other step changed the context meanwhile; else run again.
        at_most_once: Never start the body twice, even after a crash.
        requires: Types of resources that must be there when a worker starts.
        compensation: A node that takes ``Compensation[In, Out]`` and undoes what this one did, if the run fails or is
            cancelled later.
        concurrency: How many steps of one key are at work at once, over all workers; None for no limit.
        rate: How many bodies of one key start within a time, over all workers; None for no limit.
        priority: The level of its steps; None for that of their run.
        labels: What a worker must have to run it, such as ``{"gpu"}``; None for the workflow's, an empty set for none.
        executor: Of a ``def`` function: ``"thread"``, or ``"process"`` to run it in a process of its own, which a
            timeout or a cancellation kills.

    Raises:
        DefinitionError: The function cannot be a node, or an option is wrong; names the cure.
    """
    if fn is None:
        return lambda function: _make_node(function, options)  # pyright: ignore[reportUnknownLambdaType,reportUnknownVariableType]  # what is decorated
    return _make_node(fn, options)


def _make_node(function: Any, options: dict[str, Any]) -> FunctionNode[Any, Any, Any, Any]:
    if isinstance(function, Node):
        raise DefinitionError(f"{cast(Any, function).name!r} is a node already. Use .named(...) for a second copy.")
    if isinstance(function, type) or not callable(function) or not inspect.isroutine(function):
        raise DefinitionError(
            f"@node takes a function, not {function!r}. Where a node carries configuration, subclass Node[In, Out]."
        )
    unknown = sorted(set(options) - set(OPTION_NAMES))
    if unknown:
        hint = " A copy of another name is made by .named(...)." if unknown[0] == "name" else ""
        raise DefinitionError(
            f"@node: {unknown[0]!r} is no option of a node. The options are {', '.join(OPTION_NAMES)}.{hint}"
        )
    name = getattr(function, "__name__", "?")
    return FunctionNode(function, check_node_options(where=f"node {name!r}", **options))
