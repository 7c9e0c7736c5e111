# Without `from __future__ import annotations`: annotations are objects here, or forward references in quotes.
from typing import Any

from floxide_amqp.core.function_node import node
from floxide_amqp.core.node import Node
from floxide_amqp.core.transition import Next
from floxide_amqp.core.workflow_ctx import WorkflowCtx


def test_annotations_that_are_objects_are_read() -> None:
    class Local: ...

    @node
    async def step(value: Local) -> Next[Local]:
        return Next(value)

    assert step.input_type is Local
    assert step.output_type is Local


def test_a_quoted_type_defined_later_is_found() -> None:
    @node
    async def step(value: "Later") -> "list[Later]":
        return [value]

    class Later: ...

    assert step.input_type is Later
    assert step.output_type == list[Later]


def test_quoted_type_arguments_of_a_node_class_are_found() -> None:
    class Copy(Node["Later", "list[Later]"]):
        async def process(self, ctx: WorkflowCtx[Any], input: "Later", /) -> "list[Later]":
            return [input]

    class Later: ...

    assert Copy().input_type is Later
    assert Copy().output_type == list[Later]
