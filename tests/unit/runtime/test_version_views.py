"""What versions there are, and what a deploy would break: told without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

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
    all_of,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.exceptions import UnknownWorkflowError
from floxide_amqp.ports.key_value import Batch, Put
from floxide_amqp.runtime import runs_by_status
from floxide_amqp.runtime.deploy_check import CheckReport, check_deploy
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores import keys
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


@pytest.mark.parametrize("steps", [2, 3])
async def test_what_arrived_at_a_join_of_edges_is_decoded(cluster: MakeCluster, steps: int) -> None:
    def joined(element: Any) -> Any:
        @node
        async def enter(x: int) -> int:
            return x

        @node
        async def left(x: int) -> element:
            return element(x)

        @node
        async def right(x: int) -> int:
            return x

        @node
        async def both(pair: tuple[element, int]) -> int:
            return 1

        class Joined(Workflow[int, int]):
            start = enter
            edges = (enter >> (left, right), all_of(left, right) >> both)

        return Joined

    old = joined(Order)
    here = cluster(old, limits=ONE_BY_ONE)
    await here.client().start(old, 1, run_id="run")
    worker, *_ = here.worker_of(workflows=[old], queues=["default"])
    for _ in range(steps):
        assert await worker.run_once()
    assert (await checked(here, joined(LongerOrder))).breaks == []
    (problem,) = (await checked(here, joined(NeedyOrder))).breaks
    assert problem.node == "both"
    assert "What arrived at node 'both' cannot be decoded" in problem.reason


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


async def spoil(here: Cluster, run_id: str, key: Any) -> None:
    """Damage a record of a run."""
    here.store._guard = lambda *_: None  # type: ignore[method-assign]
    batch = Batch(slot=slot_of(RunId(run_id)), writes=(Put(key, b"\x93\x01"),))
    await here.client().services.session.commit(batch)


@pytest.mark.parametrize("record", ["item", "header", "state"])
async def test_a_damaged_record_of_one_run_is_told_and_the_other_runs_are_checked(
    cluster: MakeCluster, record: str
) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 3)
    run_id = RunId("run-0")
    (item,) = await here.client().services.items.live_ids(run_id)
    await spoil(here, run_id, keys.item(run_id, item) if record == "item" else getattr(keys, record)(run_id))
    report = await checked(here, shop(NeedyOrder))
    assert report.runs == 3
    damaged = next(problem for problem in report.breaks if "it cannot be read" in problem.reason)
    assert damaged.examples == [run_id]
    assert sorted(each for problem in report.breaks for each in problem.examples) == ["run-0", "run-1", "run-2"]


@node
async def other(x: int) -> int:
    return x


class Renamed(Workflow[int, int]):
    start = other


async def test_runs_of_a_workflow_that_the_code_has_no_more_would_break(cluster: MakeCluster) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 2)
    report = await checked(here, Renamed)
    (problem,) = report.breaks
    assert (problem.workflow, problem.version, problem.runs) == ("Shop", "1", 2)
    assert problem.reason == "this application has no workflow 'Shop'"
    await here.start_worker(workflows=[old, Renamed])  # its older release is at work
    while not await here.client().services.liveness.all():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    assert (await checked(here, Renamed)).broken == 2


async def test_runs_that_workers_of_another_application_have_are_not_checked_and_that_is_told(
    cluster: MakeCluster,
) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 2)
    await here.start_worker(workflows=[old])
    while not await here.client().services.liveness.all():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    report = await checked(here, Renamed)
    assert (report.runs, report.breaks, report.of_others) == (0, [], {"Shop@1": 2})


async def test_what_arrived_and_signals_are_decoded_of_runs_that_are_to_be_raised_too(cluster: MakeCluster) -> None:
    def fan(version: str, kind: Any, element: Any = Order, **more: Any) -> Any:
        @node
        async def split(x: int) -> NextAll[int]:
            return NextAll([1, 2, 3])

        @node
        async def each(x: int) -> element:
            return element(x)

        @node
        async def total(all_of_them: list[element]) -> int:
            return len(all_of_them)

        class Fan(Workflow[int, int], name="Fan", version=version, **more):
            start = split
            edges = (split >> each >> gather(total),)
            signals = (Signal("go", kind),)

        return Fan

    auto = VersionPolicy.AUTO_UPGRADE
    old = fan("1", int)
    here = cluster(old, limits=ONE_BY_ONE)
    await here.client().start(old, 1, run_id="run")
    await here.client().signal("run", GO, 3)
    member = await here.start_worker(workflows=[old], queues=["elsewhere"])
    while not await here.client().services.versions.all():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    await member.stop()
    worker, *_ = here.worker_of(workflows=[old], queues=["default"])
    for _ in range(2):
        assert await worker.run_once()
    assert (await checked(here, fan("2", int, versions=auto))).breaks == []
    (problem,) = (await checked(here, fan("2", list[str], versions=auto))).breaks
    assert "A value of signal 'go' cannot be decoded" in problem.reason


async def test_a_workflow_that_is_neither_here_nor_in_the_store_is_an_error_that_names_those_there_are(
    cluster: MakeCluster,
) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 1)
    services = here.worker_of(workflows=[old])[1]
    assert (await check_deploy(services, workflow="Shop")).runs == 1
    with pytest.raises(UnknownWorkflowError, match=r"no workflow 'Shp' here\. This application has: Shop"):
        await check_deploy(services, workflow="Shp")
    renamed = here.worker_of(workflows=[Renamed])[1]
    assert (await check_deploy(renamed, workflow="Shop")).broken == 1


async def test_versions_are_listed_with_their_open_runs_and_the_workers_that_serve_them(
    cluster: MakeCluster, monkeypatch: Any
) -> None:
    monkeypatch.setattr(runs_by_status, "PAGE", 2)
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


async def test_workers_that_go_on_with_runs_of_an_older_version_by_their_policy_are_counted_for_it(
    cluster: MakeCluster,
) -> None:
    old = shop(Order)
    compatible = shop(LongerOrder, version="2", versions=VersionPolicy.COMPATIBLE)
    strict = shop(LongerOrder, version="3")
    here = cluster(old, compatible, strict)
    await waiting_runs(here, old, 1)
    member = await here.start_worker(workflows=[compatible], queues=["default"])
    await here.start_worker(workflows=[compatible, strict], queues=["default"])
    own = await here.start_worker(workflows=[old, compatible], queues=["default"])
    await asyncio.sleep(20)
    one, two, three = await here.client().versions()
    assert (one.version, one.workers, one.newer_workers) == ("1", (own.name,), (member.name,))
    assert (len(two.workers), two.newer_workers, three.newer_workers) == (3, (), ())


async def test_counting_versions_reads_no_run(cluster: MakeCluster, monkeypatch: Any) -> None:
    old = shop(Order)
    here = cluster(old)
    await waiting_runs(here, old, 3)
    client = here.client()

    async def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a run was read")

    monkeypatch.setattr(client.services.runs, "find", refuse)
    assert [info.runs for info in await client.versions()] == [{"running": 3}]
