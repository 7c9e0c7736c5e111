"""What type checkers refuse of attributes, queries and clients for threads; both must, at exactly the marked lines."""

from __future__ import annotations

from shop import *

from floxide_amqp import Floxide, Orchestrator, RunFilter, Workflow, WorkflowCtx
from floxide_amqp.sync import Client


class Counting(Workflow[str, int]):
    start = length


async def wrong_attributes(ctx: WorkflowCtx[OrderContext], orchestrator: Orchestrator) -> None:
    ctx.set_attribute("stage", b"bytes")  # expect: an attribute that is none of the types
    ctx.set_attribute(7, "stage")  # expect: an attribute whose name is no text
    await orchestrator.start(Counting, "four", attributes={"tags": ["a"]})  # expect: a run started with a list
    await orchestrator.list_runs(attributes={"tags": None})  # expect: runs looked for without a value
    await orchestrator.list_runs(started_after="2026-07-01")  # expect: a time that is a text
    RunFilter(status="failed")  # expect: a status that is a text


async def wrong_queries(orchestrator: Orchestrator) -> None:
    (await orchestrator.query(Counting, "run")).context.customer  # expect: a field that the context does not have
    await orchestrator.query("Counting", "run")  # expect: a workflow that is a name
    for event in orchestrator.events("run"):  # expect: events gone through as if they were there
        print(event)


def wrong_threads(app: Floxide) -> None:
    client = Client(app)
    client.start(Counting, 4)  # expect: a wrong input from a thread
    client.start(Counting, "four").result().upper()  # expect: what the output of a thread's run does not have
    client.call(lambda it: it.handle_of)  # expect: a call that is none
