"""What versions there are, and what a deploy would break: told without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from floxide_amqp import (
    Context,
    Hold,
    NextAll,
    NoContext,
    RunToMigrate,
    Signal,
    Sum,
    VersionPolicy,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.runtime import version_views
from floxide_amqp.runtime.deploy_check import CheckReport, check_deploy
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]
ONE_BY_ONE = Limits(concurrency=8, chain_steps=1)
GO = Signal("go", int)


@dataclass
class Order:
    number: int
    note: str = ""


@dataclass
class NeedyOrder:
    number: int
    customer: str


@dataclass
class LongerOrder:
    number: int
    note: str = ""
    currency: str = "EUR"


@dataclass
class ShorterOrder:
    number: int


class Ledger(Context):
    spent: Annotated[int, Sum()] = 0


class NeedyLedger(Context):
    spent: Annotated[int, Sum()] = 0
    owner: str


def shop(order: Any, *, version: str = "1", context: Any = Ledger, kind: Any = int, **more: Any) -> Any:
    """A release of a workflow that waits for a signal with an order in its hands."""
    go = Signal("go", kind)

    @node
    async def enter(ctx: WorkflowCtx[context], number: int) -> order:
        ctx.state.spent += 1
        return order(number)

    @node
    async def wait(ctx: WorkflowCtx[context], given: order) -> order | Hold:
        return given if ctx.received(go) is not None else Hold(until=go)

    @node
    async def ship(ctx: WorkflowCtx[context], given: order) -> str:
        return repr(given)

    class Shop(Workflow[int, str, context], version=version, **more):
        start = enter
        edges = (enter >> wait >> ship,)
        signals = (go,)

    return Shop


async def waiting_runs(here: Cluster, workflow: Any, count: int) -> None:
    """Let so many runs come to their hold, by a worker that goes then."""
    member = await here.start_worker(workflows=[workflow], queues=["default"])
    client = here.client()
    for number in range(count):
        await client.start(workflow, number, run_id=f"run-{number}")
    for number in range(count):
        while not (await client.run_info(f"run-{number}")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)
    await member.stop()


async def checked(here: Cluster, *workflows: Any) -> CheckReport:
    """What a check by an application with these workflows says; it must not write anything."""
    _, services, store, _ = here.worker_of(workflows=workflows)

    async def refuse(*_: Any) -> Any:
        raise AssertionError("a check wrote something")

    store.commit = refuse  # type: ignore[method-assign]
    return await check_deploy(services)


async def test_code_that_reads_everything_breaks_nothing(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 3)
    report = await checked(here, shop(LongerOrder))
    assert (report.runs, report.broken, report.breaks, report.losses) == (3, 0, [], [])
    assert report.checked == {"Shop@1": 3}


async def test_an_input_that_does_not_decode_any_more_is_told_by_node_with_its_runs(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 7)
    report = await checked(here, shop(NeedyOrder))
    (problem,) = report.breaks
    assert (problem.workflow, problem.version, problem.node, problem.runs) == ("Shop", "1", "wait", 7)
    assert "customer" in problem.reason
    assert len(problem.examples) == 5
    assert report.broken == 7


async def test_a_field_that_nobody_reads_any_more_is_a_loss_and_no_break(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 1)
    report = await checked(here, shop(ShorterOrder))
    assert report.breaks == []
    (loss,) = report.losses
    assert (loss.node, loss.reason) == ("wait", "of its input, ShorterOrder has no 'note' any more")


async def test_a_context_that_does_not_decode_any_more_is_told(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 1)
    (problem,) = (await checked(here, shop(Order, context=NeedyLedger))).breaks
    assert problem.node == ""
    assert "its context cannot be decoded" in problem.reason
    assert "owner" in problem.reason


async def test_a_signals_value_that_does_not_decode_any_more_is_told(cluster: MakeCluster) -> None:
    old = shop(Order)

    @node
    async def late(ctx: WorkflowCtx[NoContext], x: int) -> int:
        return x

    class Late(Workflow[int, int], name="Late"):
        start = late
        signals = (GO,)

    class LateText(Workflow[int, int], name="Late"):
        start = late
        signals = (Signal("go", list[str]),)

    here = cluster(Late, old)
    await here.client().start(Late, 1, run_id="run")
    await here.client().signal("run", GO, 3)
    (problem,) = (await checked(here, LateText)).breaks
    assert "A value of signal 'go' cannot be decoded" in problem.reason


async def test_what_arrived_at_a_join_that_still_waits_is_decoded(cluster: MakeCluster) -> None:
    def fan(element: Any) -> Any:
        @node
        async def split(x: int) -> NextAll[int]:
            return NextAll([1, 2, 3])

        @node
        async def each(x: int) -> element:
            return element(x)

        @node
        async def total(all_of_them: list[element]) -> int:
            return len(all_of_them)

        class Fan(Workflow[int, int]):
            start = split
            edges = (split >> each >> gather(total),)

        return Fan

    old = fan(Order)
    here = cluster(old, limits=ONE_BY_ONE)
    await here.client().start(old, 1, run_id="run")
    worker, *_ = here.worker_of(workflows=[old], queues=["default"])
    for _ in range(2):
        assert await worker.run_once()
    problems = (await checked(here, fan(NeedyOrder))).breaks
    assert [problem.node for problem in problems] == ["total"]
    assert "What arrived at node 'total' cannot be decoded" in problems[0].reason


async def test_runs_of_a_version_that_the_code_lacks_are_checked_by_its_policy(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 2)
    (strict,) = (await checked(here, shop(Order, version="2"))).breaks
    assert strict.reason == "this application has no version 1, only 2"
    compatible = VersionPolicy.COMPATIBLE
    assert (await checked(here, shop(LongerOrder, version="2", versions=compatible))).breaks == []
    (differs,) = (await checked(here, shop(NeedyOrder, version="2", versions=compatible))).breaks[:1]
    assert "customer" in differs.reason
    auto = VersionPolicy.AUTO_UPGRADE
    assert (await checked(here, shop(LongerOrder, version="2", versions=auto))).breaks == []
    (unmigrated,) = (await checked(here, shop(NeedyOrder, version="2", versions=auto))).breaks
    assert "it cannot be raised to version 2" in unmigrated.reason

    class Migrating(shop(NeedyOrder, version="2", versions=auto), name="Shop", version="2"):  # type: ignore[misc]
        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            for step in run.steps:
                step.plain["customer"] = "somebody"

    assert (await checked(here, Migrating)).breaks == []


async def test_a_graph_that_changed_without_a_new_version_is_told(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 1)

    @node
    async def enter(ctx: WorkflowCtx[Ledger], number: int) -> Order:
        return Order(number)

    @node
    async def wait(ctx: WorkflowCtx[Ledger], given: Order) -> Order | Hold:
        return given

    @node
    async def pack(ctx: WorkflowCtx[Ledger], given: Order) -> Order:
        return given

    @node
    async def ship(ctx: WorkflowCtx[Ledger], given: Order) -> str:
        return ""

    class Shop(Workflow[int, str, Ledger]):
        start = enter
        edges = (enter >> wait >> pack >> ship,)

    (problem,) = (await checked(here, Shop)).breaks
    assert "version 1 changed without a new number: other edges leave node 'wait'" in problem.reason


async def test_versions_are_listed_with_their_open_runs_and_the_workers_that_serve_them(
    cluster: MakeCluster, monkeypatch: Any
) -> None:
    monkeypatch.setattr(version_views, "PAGE", 2)
    old, new = shop(Order), shop(LongerOrder, version="2")
    here = cluster(old, new)
    await waiting_runs(here, old, 5)
    client = here.client()
    await client.pause("run-0")
    await client.cancel("run-1")
    await client.signal("run-2", GO, 1)
    member = await here.start_worker(workflows=[new], queues=["default"])
    await asyncio.sleep(20)
    one, two = await client.versions()
    assert (one.workflow, one.version, one.runs, one.open_runs) == ("Shop", "1", {"running": 3, "paused": 1}, 4)
    assert (one.workers, one.parked, one.set_aside, one.is_here) == ((), 1, 0, True)
    assert one.since == (await client.run_info("run-0")).created_at
    assert (two.version, two.runs, two.workers) == ("2", {}, (member.name,))
    assert await client.versions(workflow="Another") == []


async def test_counting_versions_reads_no_run(cluster: MakeCluster, monkeypatch: Any) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 3)
    client = here.client()

    async def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a run was read")

    monkeypatch.setattr(client.services.runs, "find", refuse)
    assert [info.runs for info in await client.versions()] == [{"running": 3}]
