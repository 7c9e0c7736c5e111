"""Signals are typed where they are sent, received and waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from shop import *

from floxide_amqp import Hold, Orchestrator, RunHandle, Signal, SignalReport, Start, Workflow, WorkflowCtx, node

APPROVAL = Signal("approval", bool)
DECISION: Signal[Approved | Rejected] = Signal("decision", Approved | Rejected)
NOTE = Signal("note", str)

assert_type(APPROVAL, Signal[bool])


@node
async def ask(ctx: WorkflowCtx[OrderContext], order: Order) -> bool | Hold:
    approved = ctx.received(APPROVAL)
    assert_type(approved, bool | None)
    decided = ctx.received(DECISION)
    assert_type(decided, Approved | Rejected | None)
    if ctx.timed_out:
        return False
    if approved is None:
        return Hold(until=(APPROVAL, DECISION), timeout=timedelta(days=3))
    return approved


@node
async def sleep(ctx: WorkflowCtx[OrderContext], order: Order) -> Order | Hold:
    return Hold(until_time=datetime(2030, 1, 1, tzinfo=UTC))


@node
async def escalate(ctx: WorkflowCtx[OrderContext], order: Order) -> bool:
    return order.id == ctx.state.customer


class Asking(Workflow[Order, bool, OrderContext]):
    start = sleep
    signals = (APPROVAL, DECISION)
    edges = (sleep >> ask, ask.on_timeout >> escalate)


async def send(orchestrator: Orchestrator, run: RunHandle[bool]) -> None:
    assert_type(await run.signal(APPROVAL, True), bool)
    assert_type(await orchestrator.signal("run", NOTE, "hello", signal_id="note-1"), bool)
    report = await orchestrator.signal_many(APPROVAL, {"a": True, "b": False})
    assert_type(report, SignalReport)
    later = await orchestrator.start(Asking, Order("1", []), delay=timedelta(hours=1), timeout=60)
    assert_type(later, RunHandle[bool])
    await orchestrator.start_many(Asking, [Start(Order("1", []), start_at=datetime(2030, 1, 1, tzinfo=UTC))])
    WorkflowCtx.for_test(OrderContext(customer="c"), signals=[(APPROVAL, True)], timed_out=True)
