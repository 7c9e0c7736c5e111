"""The nodes of a graph that no edge leads to: compensations, and the one that runs first when a run is cancelled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.compensation import Cancelled, compensated_types, undoing_name
from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.routing import Router, failure_router
from floxide_amqp.core.type_args import is_never
from floxide_amqp.core.type_names import describe_both, describe_type
from floxide_amqp.core.typing_rules import assignable


def undoing_nodes(layout: Layout, nodes: Iterable[GraphNode], on_cancel: AnyNode | None) -> list[GraphNode]:
    """Return a node for each compensation, and one for `on_cancel`.

    Raises:
        DefinitionError: One does not take what it is given, or returns what has no meaning there.
    """
    made = [
        _compensation_of(layout, node, node.options.compensation)
        for node in nodes
        if node.options.compensation is not None
    ]
    if on_cancel is not None:
        takes = on_cancel.signature().input
        if not assignable(Cancelled, takes):
            raise layout.error(
                f"on_cancel is node {on_cancel.name!r}, which takes {describe_type(takes)}. Let it take Cancelled."
            )
        made.append(_node(layout, "", on_cancel))
    return made


def _compensation_of(layout: Layout, node: GraphNode, compensation: AnyNode) -> GraphNode:
    who, its = f"node {node.name!r}", layout.signatures[node.name]
    if its.may_fan_out:
        raise layout.error(
            f"{who} may return NextAll and has a compensation, which is given one output. Put what is to be undone "
            "into a node of its own, before or after the fan-out."
        )
    if node.folds:
        raise layout.error(
            f"{who} folds what it gathers, a page at a time, and has a compensation, which undoes one step. A fold has "
            "no effects of its own: put what is to be undone into a node behind it, and give that the compensation."
        )
    if compensation.options.compensation is not None:
        raise layout.error(f"compensation {compensation.name!r} of {who} has a compensation itself. Leave it out.")
    types = compensated_types(compensation.signature().input)
    wanted = f"Compensation[{describe_type(its.input)}, {describe_type(its.output)}]"
    if types is None:
        takes = describe_type(compensation.signature().input)
        raise layout.error(f"compensation {compensation.name!r} of {who} takes {takes}. Let it take {wanted}.")
    for what, has, takes in (("takes", its.input, types[0]), ("returns", its.output, types[1])):
        if not is_never(has) and not assignable(has, takes):
            is_, expected = describe_both(has, takes)
            raise layout.error(
                f"{who} {what} {is_}, but its compensation {compensation.name!r} expects {expected}. Let it take "
                f"{wanted}."
            )
    return _node(layout, node.name, compensation)


def _node(layout: Layout, of: str, undoing: AnyNode) -> GraphNode:
    name, signature = undoing_name(of, undoing.name), undoing.signature()
    if signature.may_fan_out or signature.may_hold:
        raise layout.error(
            f"node {undoing.name!r} undoes, and may return {'NextAll' if signature.may_fan_out else 'Hold'}: nothing "
            "follows it. Let it return None, or raise to be tried again."
        )
    context = layout.declared.context
    if not issubclass(context, signature.context):
        has, reads = describe_both(context, signature.context)
        raise layout.error(f"its context is {has}, but node {undoing.name!r} reads {reads}. Give both the same.")
    nothing: Any = None
    return GraphNode(
        name=name,
        node=undoing,
        input=PayloadType.of(nothing, where=f"the input of node {name!r}"),
        output=PayloadType.of(
            None if is_never(signature.output) else signature.output, where=f"the output of node {name!r}"
        ),
        options=undoing.options.within(layout.declared.options),
        router=Router(name, ()),
        failure_router=failure_router(()),
    )
