"""Limits are options of nodes; what a node takes and returns stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_type

from shop import *

from floxide_amqp import (
    Concurrency,
    GraphBuilder,
    LimitInfo,
    Orchestrator,
    Priority,
    RateInfo,
    RateLimit,
    RunHandle,
    Workflow,
    node,
)

PER_CUSTOMER = Concurrency("customer", limit=5, key=lambda order: order.id)


@node(concurrency=PER_CUSTOMER)
async def settle(order: Order) -> Receipt:
    return Receipt(order.id)


@node(queue="mail", concurrency=Concurrency("mail", limit=1), rate=RateLimit("mail-api", 100, per=1, burst=5))
def tell(receipt: Receipt) -> str:
    return "told"


@node(priority=Priority.HIGH)
async def hurry(order: Order) -> Order:
    return order


class Charging(Workflow[Order, str], priorities=True):
    start = settle
    edges = (settle >> tell,)


class Closing(Workflow[Order, str], concurrency=Concurrency("branch", limit=2, key=lambda order: order.id)):
    start = settle
    edges = (settle >> tell,)


@node
async def name(order: Order) -> str:
    return order.id


assert_type(Closing.graph.options.concurrency, Concurrency | None)
GraphBuilder(name, output=str, name="Naming", concurrency=PER_CUSTOMER)


async def steer(orchestrator: Orchestrator) -> None:
    assert_type(await orchestrator.limits.list(), Sequence[LimitInfo])
    assert_type(await orchestrator.limits.get("customer", 17), LimitInfo)
    await orchestrator.limits.set("customer", "17", limit=3)
    await orchestrator.limits.set("mail", limit=None)
    assert_type(await orchestrator.limits.rates(), Sequence[RateInfo])
    assert_type(await orchestrator.limits.set_rate("mail-api", limit=50, per=timedelta(seconds=2)), RateInfo)
    assert_type(await orchestrator.limits.rate("mail-api"), RateInfo)


async def begin(orchestrator: Orchestrator, order: Order) -> None:
    run = await orchestrator.start(
        Charging, order, priority=Priority.LOW, dedupe_key="k", dedupe_for=timedelta(hours=1)
    )  # fmt: skip
    assert_type(run, RunHandle[str])
    assert_type(run.deduplicated, bool)
