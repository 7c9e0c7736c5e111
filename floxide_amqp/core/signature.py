"""What a node takes and returns, read from annotations.

Annotations may be strings (``from __future__ import annotations``), name types that are local to the function in which
the node is defined, or types that are defined later: they are then resolved when a workflow uses the node.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from typing_extensions import TypeIs

from floxide_amqp.core.context import Context
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.type_args import free_type_vars, make_union, plain_type, union_members
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSignature:
    """What a node takes and returns.

    Attributes:
        input: Annotation of the input.
        output: Annotation of one value it passes on: of `NextAll`, one element; `Never` where it passes on none.
        context: The context class it reads; `Context` where any will do.
        takes_ctx: Whether it receives a `WorkflowCtx`.
        is_async: Whether calling it gives an awaitable.
        may_fan_out: Whether it may return `NextAll`.
        may_hold: Whether it may return `Hold`.
        starts_run: Whether it runs as a run of another workflow.
    """

    input: Any
    output: Any
    context: type[Context] = Context
    takes_ctx: bool = True
    is_async: bool = True
    may_fan_out: bool = False
    may_hold: bool = False
    starts_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What a return annotation says."""

    output: Any
    may_fan_out: bool
    may_hold: bool


class EnclosingNames:
    """The local names of the functions around a definition, looked at when they are needed.

    It keeps the frames of those functions alive: drop it as soon as the annotations are resolved.
    """

    def __init__(self, qualname: str, module: Mapping[str, Any]) -> None:
        self._frames: list[types.FrameType] = []
        frame: types.FrameType | None = None
        if "<locals>" in qualname:
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # the only way to a caller's names
        while frame is not None:
            if frame.f_globals is module and qualname.startswith(frame.f_code.co_qualname + "."):
                self._frames.append(frame)
            frame = frame.f_back

    def __call__(self) -> dict[str, Any]:
        """Return the names, of inner functions before those of outer ones."""
        names: dict[str, Any] = {}
        for frame in reversed(self._frames):
            names.update(frame.f_locals)
        return names


def resolve_annotations(
    annotations: Mapping[str, Any], module: Mapping[str, Any], names: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """Return annotations with every string and forward reference in them resolved.

    Raises:
        DefinitionError: A name is not defined (yet); names the annotation and the cure.
    """
    resolved: dict[str, Any] = {}
    for key, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={key: annotation})
        try:
            hints = get_type_hints(holder, globalns=dict(module), localns=dict(names), include_extras=True)
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            part = "the return type" if key == "return" else f"{key!r}"
            raise DefinitionError(
                f"{where}: the annotation {describe_type(annotation)!r} of {part} cannot be resolved: {error}. "
                "Define or import the name where the node is defined, before the workflow that uses it "
                "(an import under `if TYPE_CHECKING:` is not there at run time)."
            ) from error
        resolved[key] = hints[key]
    return resolved


def read_function(function: Callable[..., Any], names: Mapping[str, Any], *, where: str) -> NodeSignature:
    """Return the signature of a node function.

    Args:
        function: The user's function.
        names: Local names of the functions around it.
        where: How errors call the node.

    Raises:
        DefinitionError: The function cannot be a node; names what is wrong and the cure.
    """
    inner = inspect.unwrap(function)
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise DefinitionError(
            f"{where} is a generator. A node returns once: return NextAll([...]) to go on with several values."
        )
    parameters = _positional_parameters(inner, where)
    wanted = [name for name, _ in parameters] + ["return"]
    annotations = {name: a for name, a in getattr(inner, "__annotations__", {}).items() if name in wanted}
    hints = resolve_annotations(annotations, getattr(inner, "__globals__", {}), names, where=where)
    takes_ctx = _takes_ctx(parameters, hints, where)
    if "return" not in hints:
        raise DefinitionError(f"{where} has no return type. Annotate what it returns; `-> None` for nothing.")
    returned = read_return(hints["return"], where=where)
    signature = NodeSignature(
        input=hints[parameters[-1][0]],
        output=returned.output,
        context=read_context(hints[parameters[0][0]], where=where) if takes_ctx else Context,
        takes_ctx=takes_ctx,
        is_async=inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inner),
        may_fan_out=returned.may_fan_out,
        may_hold=returned.may_hold,
    )
    _refuse_type_vars(signature, where)
    return signature


def read_return(annotation: object, *, where: str) -> Returned:
    """Return what a return annotation says: ``Next[A] | Hold`` passes on an ``A`` and may hold.

    Raises:
        DefinitionError: It does not say which transition, or of what.
    """
    outputs: list[Any] = []
    kinds: set[Any] = set()
    for member in union_members(annotation):
        kind = get_origin(member) or member
        is_transition = isinstance(kind, type) and issubclass(kind, Transition)
        if not is_transition:
            outputs.append(member)
            continue
        kinds.add(kind)
        if kind in (Hold, Abort):
            continue
        if kind not in (Next, NextAll) or not get_args(member):
            raise DefinitionError(
                f"{where} is annotated to return {describe_type(annotation)}, which does not say what follows. "
                "Write which transitions it returns and of what, such as Next[int] | Hold, or NextAll[int]."
            )
        outputs.append(get_args(member)[0])
    return Returned(output=make_union(outputs), may_fan_out=NextAll in kinds, may_hold=Hold in kinds)


def read_context(annotation: object, *, where: str) -> type[Context]:
    """Return the context class of a ``WorkflowCtx[...]`` annotation; `Context` where it leaves it open.

    Raises:
        DefinitionError: What is in the brackets is no context class.
    """
    args = get_args(annotation)
    inner: Any = plain_type(args[0]) if args else Any
    if isinstance(inner, TypeVar):
        inner = inner.__bound__ or Any
    if inner is Any:
        return Context
    if _is_context(inner):
        return inner
    raise DefinitionError(
        f"{where} takes {describe_type(annotation)}, but {describe_type(inner)} is no context. "
        f"Make it one: class {describe_type(inner)}(Context)."
    )


def _is_context(annotation: object) -> TypeIs[type[Context]]:
    return isinstance(annotation, type) and issubclass(annotation, Context)


def is_workflow_ctx(annotation: object) -> bool:
    """Say whether an annotation is `WorkflowCtx`, with or without brackets."""
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, WorkflowCtx)


def _positional_parameters(function: Callable[..., Any], where: str) -> list[tuple[str, bool]]:
    """Return the name of each parameter a node is called with, and whether it is annotated."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{where} cannot be a node: its parameters are not known ({error}).") from error
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    required = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is p.empty]
    if not 1 <= len(found) <= 2 or required:
        raise DefinitionError(
            f"{where} takes ({', '.join(p.name for p in parameters)}). A node takes its input, or the WorkflowCtx "
            "and its input: def step(ctx: WorkflowCtx[MyContext], order: Order) -> Receipt. What else it needs comes "
            "from ctx.resource(...) or from a Node class's fields."
        )
    return [(p.name, p.annotation is not inspect.Parameter.empty) for p in found]


def _takes_ctx(parameters: list[tuple[str, bool]], hints: Mapping[str, Any], where: str) -> bool:
    for name, is_annotated in parameters:
        if not is_annotated:
            wanted = "WorkflowCtx[MyContext]" if name == "ctx" else "the type of its input"
            raise DefinitionError(f"{where}: parameter {name!r} has no annotation. Annotate it with {wanted}.")
    are_ctx = [is_workflow_ctx(hints[name]) for name, _ in parameters]
    if are_ctx in ([True, False], [False]):
        return len(are_ctx) == 2
    if are_ctx == [True]:
        raise DefinitionError(f"{where} takes only a WorkflowCtx. Add its input; `_: None` for none.")
    if are_ctx == [False, True]:
        raise DefinitionError(f"{where} takes its input first. Put the WorkflowCtx first and the input second.")
    names = " and ".join(describe_type(hints[name]) for name, _ in parameters)
    raise DefinitionError(
        f"{where} takes two inputs ({names}). A node takes one: put both into a dataclass, or make the first "
        "a WorkflowCtx."
    )


def _refuse_type_vars(signature: NodeSignature, where: str) -> None:
    open_ones = (*free_type_vars(signature.input), *free_type_vars(signature.output))
    if open_ones:
        name = open_ones[0].__name__
        raise DefinitionError(
            f"{where} is generic in {name}, but the engine must know its types. Write it as a class, "
            f"class Step(Node[..., ...], Generic[{name}]), and use it as Step[int](...)."
        )
