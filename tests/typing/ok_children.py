"""A child workflow is a node of its workflow's types, or gives its run id where nobody waits for it."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from shop import *

from floxide_amqp import (
    ChildPage,
    ChildRunFailedError,
    ChildWorkflow,
    OnClose,
    Orchestrator,
    Path,
    RetryPolicy,
    Workflow,
    gather,
    with_retry,
)


class Fulfil(Workflow[Approved, Packed, OrderContext]):
    start = split
    edges = (split >> pick >> gather(pack),)


def state_of(approved: Approved) -> OrderContext:
    return OrderContext(customer=approved.by)


assert_type(ChildWorkflow(Fulfil, context=state_of), ChildWorkflow[Approved, Packed])
assert_type(ChildWorkflow(Fulfil, wait=True, timeout=timedelta(hours=1)), ChildWorkflow[Approved, Packed])
assert_type(ChildWorkflow(Fulfil, wait=False, on_close=OnClose.ABANDON), ChildWorkflow[Approved, str])
assert_type(approve.when(Approved) >> ChildWorkflow(Fulfil) >> notify, Path[Receipt, str])
assert_type(with_retry(ChildWorkflow(Fulfil), RetryPolicy(max_attempts=3)), ChildWorkflow[Approved, Packed])
assert_type(ChildWorkflow(Fulfil).named("second"), ChildWorkflow[Approved, Packed])
assert_type(ChildWorkflow(Fulfil, wait=False) >> length, Path[Approved, int])


async def look(orchestrator: Orchestrator, error: ChildRunFailedError) -> None:
    page = await orchestrator.children("order-17", limit=10)
    assert_type(page, ChildPage)
    assert_type([child.run_id for child in page.children], list[str])
    assert_type(error.run_id, str)
    assert_type((await orchestrator.run_info("order-17")).parent, str)
