"""Compensations, what runs first when a run is cancelled, and what is done to runs by hand."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from shop import *

from floxide_amqp import (
    BulkReport,
    Cancelled,
    Compensation,
    Context,
    Node,
    Orchestrator,
    RunFilter,
    RunHandle,
    RunStatus,
    Transition,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.core.function_node import FunctionNode


@node
async def give_back(ctx: WorkflowCtx[OrderContext], of: Compensation[Order, Receipt]) -> None:
    assert_type(of.input, Order)
    assert_type(of.output, Receipt | None)


@node(compensation=give_back)
async def take(ctx: WorkflowCtx[OrderContext], order: Order) -> Receipt:
    raise NotImplementedError


@node(compensation=give_back, timeout=3, queue="bank")
def take_in_a_thread(order: Order) -> Receipt:
    raise NotImplementedError


assert_type(take, FunctionNode[OrderContext, Order, Receipt, Coroutine[Any, Any, Receipt | Transition[Receipt]]])
assert_type(take_in_a_thread, FunctionNode[Context, Order, Receipt, Receipt | Transition[Receipt]])


@node
async def clean_up(of: Cancelled) -> None:
    assert_type(of.reason, str)


class Taking(Workflow[Order, Receipt, OrderContext]):
    start = take
    on_cancel = clean_up


class TakeAll(Node[Order, Receipt], compensation=give_back):
    async def process(self, ctx: WorkflowCtx[OrderContext], input: Order, /) -> Receipt:
        raise NotImplementedError


async def by_hand(orchestrator: Orchestrator) -> None:
    await orchestrator.terminate("run", by="ann", reason="enough")
    await orchestrator.retry("run", input=3)
    await orchestrator.complete("run", "output")
    await orchestrator.edit_context(Taking, "run", lambda state: setattr(state, "spent", state.spent + 1))
    assert_type(await orchestrator.fork(Taking, "run", from_item="item"), RunHandle[Receipt])
    assert_type(await orchestrator.cancel_many(RunFilter(status=RunStatus.RUNNING), rate=5), BulkReport)
    print([entry.by for entry in await orchestrator.audit_log("run")])
