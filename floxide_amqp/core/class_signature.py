"""What a `Node` class takes and returns, read from its type arguments and its ``process`` method."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any, cast

from floxide_amqp.core.signature import NodeSignature, is_workflow_ctx, read_context, read_return, resolve_annotations
from floxide_amqp.core.type_args import arguments_for, free_type_vars, make_union, substitute, type_parameters
from floxide_amqp.exceptions import DefinitionError


def read_class(cls: type, base: type, names: Mapping[str, Any]) -> NodeSignature:
    """Return the signature of a `Node` class.

    Args:
        cls: The class of the node.
        base: `Node`.
        names: Local names of the functions around the class.

    Raises:
        DefinitionError: The class does not say what it takes and returns; names the cure.
    """
    where = f"class {cls.__name__}"
    method = cast(Any, getattr(cls, "process", None))
    if method is getattr(base, "process", None):
        raise DefinitionError(f"{where} has no process method. Add: async def process(self, ctx, input, /) -> ...")
    hints = _process_hints(cls, method, names, where)
    parameters = [name for name in hints if name != "return"]
    returned = read_return(hints["return"], where=f"{where}.process") if "return" in hints else None
    given = _type_arguments(cls, base, names, where)
    if given is None:
        if not parameters or returned is None or is_workflow_ctx(hints[parameters[-1]]):
            raise DefinitionError(
                f"{where} does not say what it takes and returns. Give the base its types, "
                f"class {cls.__name__}(Node[Order, Receipt]), or annotate process."
            )
        given = hints[parameters[-1]], returned.output
    open_ones = (*free_type_vars(given[0]), *free_type_vars(given[1]))
    if open_ones:
        raise DefinitionError(
            f"{where} leaves {open_ones[0].__name__} open, but the engine must know its types. "
            f"Give the generic class it inherits from its arguments, such as class {cls.__name__}(Foo[int])."
        )
    ctx = next((hints[name] for name in parameters if is_workflow_ctx(hints[name])), None)
    return NodeSignature(
        input=given[0],
        output=make_union([given[1]]),
        context=read_context(ctx, where=where),
        is_async=inspect.iscoroutinefunction(inspect.unwrap(method)),
        may_fan_out=returned is not None and returned.may_fan_out,
        may_hold=returned is not None and returned.may_hold,
    )


def _process_hints(cls: type, method: Any, names: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the resolved annotations of ``process``, with the type variables of the class that defines it replaced."""
    inner = inspect.unwrap(method)
    annotations: dict[str, Any] = getattr(inner, "__annotations__", {})
    hints = resolve_annotations(annotations, getattr(inner, "__globals__", {}), names, where=f"{where}.process")
    owner = next((base for base in cls.__mro__ if "process" in base.__dict__), cls)
    arguments = arguments_for(cls, owner) if owner is not cls else None
    if arguments is None:
        return hints
    solved = dict(zip(type_parameters(owner), arguments, strict=False))
    return {name: substitute(hint, solved) for name, hint in hints.items()}


def _type_arguments(cls: type, base: type, names: Mapping[str, Any], where: str) -> tuple[Any, Any] | None:
    given = arguments_for(cls, base)
    if given is None or len(given) != 2:
        return None
    module = vars(sys.modules[cls.__module__])
    hints = resolve_annotations({"input": given[0], "output": given[1]}, module, names, where=where)
    return hints["input"], hints["output"]
