"""Mistakes with signals and times, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Hold, Orchestrator, RunHandle, Signal, Workflow, WorkflowCtx, node

APPROVAL = Signal("approval", bool)

Signal(3, bool)  # expect: a signal's name that is none
Signal("approval")  # expect: a signal without a type
Hold(until="approval")  # expect: a name in place of a signal
Hold(until=APPROVAL, for_=3)  # expect: a time and a signal
Hold(timeout=3)  # expect: a timeout without a signal
Hold(until=APPROVAL, timeout="soon")  # expect: a hold's timeout that is none
Hold(until_time="2030-01-01")  # expect: an instant that is a text


@node
async def ask(ctx: WorkflowCtx[OrderContext], order: Order) -> bool | Hold:
    return ctx.received("approval") or Hold(until=APPROVAL)  # expect: a signal is received by its object


@node
async def escalate(ctx: WorkflowCtx[OrderContext], approved: bool) -> bool:
    return approved


ask.on_timeout >> escalate  # expect: a timeout edge carries the node's input


class Asking(Workflow[Order, bool, OrderContext]):
    start = ask
    signals = ("approval",)  # expect: a workflow's signals are objects


async def send(orchestrator: Orchestrator, run: RunHandle[bool]) -> None:
    await run.signal("approval", True)  # expect: a signal is sent by its object
    await orchestrator.signal_many(APPROVAL, ["a", "b"])  # expect: runs without values
    await orchestrator.start(Asking, Order("1", []), delay="soon")  # expect: a delay that is none
    await orchestrator.start(Asking, Order("1", []), start_at=5)  # expect: a start that is no instant
    await run.signal(APPROVAL, "yes")  # expect: a value of another type than the signal
