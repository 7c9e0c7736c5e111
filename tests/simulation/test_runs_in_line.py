"""Workflows that limit their runs, under faults and crashes: never too many under way, and none forgotten in line."""

from __future__ import annotations

from typing import Any

from floxide_amqp import Concurrency, Hold, NextAll, RetryPolicy, Workflow, WorkflowCtx, gather, node
from floxide_amqp.testing.simulation import Ending, simulate
from floxide_amqp.testing.simulation.faults import KINDS

ALL_FAULTS = tuple(kind for kind in KINDS if kind not in ("worker clock", "store clock", "garbage", "store crash"))
"""But for wrong clocks and for a store that loses what it had promised to keep."""


class Gauge:
    """The world outside: which runs have begun and not ended, and how many of one tenant ever were at once."""

    def __init__(self) -> None:
        self.under_way: set[str] = set()
        self.most = 0

    def begin(self, run_id: str, tenant: str) -> None:
        self.under_way.add(f"{tenant}:{run_id}")
        self.most = max(self.most, sum(each.startswith(f"{tenant}:") for each in self.under_way))


@node(requires=(Gauge,))
async def begin(ctx: WorkflowCtx[Any], tenant: str) -> NextAll[str]:
    ctx.resource(Gauge).begin(ctx.run_id, tenant)
    await ctx.sleep(0.1)
    return NextAll([tenant, tenant])


@node(retry=RetryPolicy(max_attempts=20, initial_backoff=0.05))
async def work(ctx: WorkflowCtx[Any], tenant: str) -> str | Hold:
    await ctx.sleep(0.05)
    return tenant if ctx.timed_out else Hold(for_=0.3)


@node(requires=(Gauge,))
async def end(ctx: WorkflowCtx[Any], tenants: list[str]) -> str:
    ctx.resource(Gauge).under_way.discard(f"{tenants[0]}:{ctx.run_id}")
    return tenants[0]


class Limited(Workflow[str, str], concurrency=Concurrency("tenant", limit=1, key=lambda tenant: tenant)):
    start = begin
    edges = (begin >> work >> gather(end),)


def check_the_most(ending: Ending[str]) -> None:
    assert sorted(ending.results) == ["a", "a", "a", "b"]
    assert ending.resource(Gauge).most == 1


def test_one_run_of_a_tenant_is_under_way_whatever_fails() -> None:
    simulate(
        Limited, "a", "a", "b", "a", check=check_the_most, resources=lambda: {Gauge: Gauge()}, faults=ALL_FAULTS,
        seeds=range(6),
    )  # fmt: skip


def test_no_key_is_left_with_a_run_that_was_stopped_and_none_waits_for_ever() -> None:
    simulate(
        Limited, "a", "a", "b", "a", check=lambda ending: ending, resources=lambda: {Gauge: Gauge()},
        faults=ALL_FAULTS, seeds=range(6), cancels=True, storms=True,
    )  # fmt: skip
