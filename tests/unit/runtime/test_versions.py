"""Workers that have only a newer version of a workflow, and runs of an older one: by each policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Context,
    EventLog,
    Hold,
    NextAll,
    NoContext,
    RunStatus,
    Signal,
    Sum,
    VersionPolicy,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.runtime import told_versions
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.upgrading import Raised, upgrade
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]
ONE_BY_ONE = Limits(concurrency=8, chain_steps=1)
STRICT, COMPATIBLE, AUTO = VersionPolicy.STRICT, VersionPolicy.COMPATIBLE, VersionPolicy.AUTO_UPGRADE


def called(name: str, **options: Any) -> Any:
    """Decorate a function as a node of another name."""
    return lambda function: (node(**options)(function) if options else node(function)).named(name)


@dataclass
class Order:
    number: int


@dataclass
class LongerOrder:
    number: int
    currency: str = "EUR"


@node
async def enter(x: int) -> int:
    return x


@node
async def price(x: int) -> int:
    return x + 1


@called("price")
async def other_price(x: int) -> int:
    return x + 100


@node
async def tax(x: int) -> int:
    return x + 10


@node
async def end(x: int) -> int:
    return x


class One(Workflow[int, int], name="Shop", version="1"):
    start = enter
    edges = (enter >> price >> end,)


def newer(policy: VersionPolicy, *paths: Any) -> Any:
    """The second version of the shop."""

    class Two(Workflow[int, int], name="Shop", version="2", versions=policy):
        start = enter
        edges = paths

    return Two


async def told(here: Cluster, workflow: Any) -> None:
    """Let a worker of a version come and go, so that its version is described."""
    member = await here.start_worker(workflows=[workflow], queues=["default"])
    while not await here.client().services.versions.all():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    await member.stop()


async def begun(
    here: Cluster, workflow: Any, *, steps: int = 1, run_id: str = "run", value: Any = 1, **more: Any
) -> None:
    """Start a run and do so many of its steps, by a worker of this version."""
    await here.client().start(workflow, value, run_id=run_id, **more)
    worker, *_ = here.worker_of(workflows=[workflow], queues=["default"])
    for _ in range(steps):
        assert await worker.run_once()


async def parked_note(here: Cluster, run_id: str = "run") -> str:
    """Wait until an item of a run is parked, and return why."""
    client = here.client()
    for _ in range(100):
        for each in await client.pending_work(run_id):
            if each.status is WorkItemStatus.PARKED:
                return each.note
        await asyncio.sleep(1)
    raise AssertionError(await client.pending_work(run_id))


async def test_by_default_a_newer_version_leaves_older_runs_to_workers_that_have_theirs(cluster: MakeCluster) -> None:
    two = newer(STRICT, enter >> price >> end)
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    await here.start_worker(workflows=[two], queues=["default"])
    assert "a worker that has node 'price' of workflow 'Shop' version '1'" in await parked_note(here)
    await here.start_worker(workflows=[One], queues=["default"])
    assert await here.client().handle(One, "run").result(100) == 2
    await here.check_completed("run")


async def test_a_compatible_newer_version_runs_an_older_run_on_and_leaves_its_version(cluster: MakeCluster) -> None:
    two = newer(COMPATIBLE, enter >> other_price >> end)
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    await here.start_worker(workflows=[two], queues=["default"])
    assert await here.client().handle(One, "run").result(100) == 101
    assert (await here.client().run_info("run")).version == "1"
    await here.check_completed("run")


async def test_of_a_compatible_version_that_differs_only_what_lies_behind_the_difference_is_run(
    cluster: MakeCluster,
) -> None:
    two = newer(COMPATIBLE, enter >> tax >> price >> end)
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One, run_id="behind")
    await begun(here, One, run_id="before", steps=0)
    member = await here.start_worker(workflows=[two], queues=["default"])
    note = await parked_note(here, "before")
    assert "version 2 differs: other edges leave node 'enter': without enter>price and with enter>tax" in note
    assert await here.client().handle(One, "behind").result(100) == 2
    await member.stop()
    await here.start_worker(workflows=[One], queues=["default"])
    assert await here.client().handle(One, "before").result(100) == 2


async def test_what_was_parked_before_is_found_by_a_compatible_worker_that_comes_later(cluster: MakeCluster) -> None:
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    strict = await here.start_worker(workflows=[newer(STRICT, enter >> price >> end)], queues=["default"])
    await parked_note(here)
    await strict.stop()
    await here.start_worker(workflows=[newer(COMPATIBLE, enter >> price >> end)], queues=["default"])
    assert await here.client().handle(One, "run").result(100) == 2
    await here.check_completed("run")


@pytest.mark.parametrize("policy", [COMPATIBLE, AUTO])
async def test_a_run_of_a_newer_version_is_left_to_others_whatever_the_policy(
    cluster: MakeCluster, policy: VersionPolicy
) -> None:
    two = newer(policy, enter >> price >> end)

    class Old(Workflow[int, int], name="Shop", version="1", versions=policy):
        start = enter
        edges = (enter >> price >> end,)

    here = cluster(two, limits=ONE_BY_ONE)
    await told(here, two)
    await begun(here, two)
    await here.start_worker(workflows=[Old], queues=["default"])
    assert "version '2'" in await parked_note(here)
    await here.start_worker(workflows=[two], queues=["default"])
    assert await here.client().handle(two, "run").result(100) == 2


async def test_a_worker_serves_several_versions_at_once_each_run_with_its_own(cluster: MakeCluster) -> None:
    two = newer(AUTO, enter >> tax >> price >> end)
    here = cluster(One, two)
    await here.start_worker(queues=["default"])
    client = here.client()
    one, other = await client.start(One, 1), await client.start(two, 1)
    assert (await one.result(100), await other.result(100)) == (2, 12)
    assert client.services.registry.workflow("Shop") is two  # the newest, unless told
    assert client.services.registry.workflow("Shop@1") is One


# --- raising a run


class Ledger(Context):
    spent: Annotated[int, Sum()] = 0
    log: EventLog[str] = EventLog()


class NewLedger(Context):
    spent_cents: Annotated[int, Sum()]
    log: EventLog[str] = EventLog()
    currency: str = "EUR"


@called("first")
async def first_old(ctx: WorkflowCtx[Ledger], x: int) -> Order:
    ctx.state.spent += x
    ctx.state.log.append(f"old {x}")
    return Order(x)


@called("second")
async def second_old(ctx: WorkflowCtx[Ledger], order: Order) -> str:
    return f"old {order} {ctx.state.spent}"


class OldShop(Workflow[int, str, Ledger], name="Ledgers", version="1"):
    start = first_old
    edges = (first_old >> second_old,)


@called("first")
async def first_new(ctx: WorkflowCtx[NewLedger], x: int) -> LongerOrder:
    return LongerOrder(x)


@node
async def check(ctx: WorkflowCtx[NewLedger], order: LongerOrder) -> LongerOrder:
    ctx.state.log.append(f"checked {order.currency}")
    return order


@called("second")
async def second_new(ctx: WorkflowCtx[NewLedger], order: LongerOrder) -> str:
    ctx.state.spent_cents += 1
    return f"new {order.currency} {ctx.state.spent_cents} {list(ctx.state.log)}"


class NewShop(Workflow[int, str, NewLedger], name="Ledgers", version="2", versions=AUTO):
    start = first_new
    edges = (first_new >> check >> second_new,)
    old_contexts = {"1": Ledger}

    @classmethod
    def migrate(cls, run: RunToMigrate) -> None:
        run.context["spent_cents"] = 100 * run.context.pop("spent")
        for step in run.steps:
            if step.node == "second":
                order = step.read(Order)
                step.move_to("check", LongerOrder(order.number, "USD"))


@pytest.mark.parametrize("snapshot", [1, 1000])
async def test_a_run_is_raised_with_its_context_and_its_steps_in_one_commit_and_goes_on(
    cluster: MakeCluster, snapshot: int
) -> None:
    here = cluster(OldShop, limits=Limits(concurrency=8, chain_steps=1, context_snapshot=snapshot))
    await told(here, OldShop)
    await begun(here, OldShop, value=7)
    await here.start_worker(workflows=[NewShop], queues=["default"])
    client = here.client()
    assert await client.handle(NewShop, "run").result(100) == "new USD 701 ['old 7', 'checked USD']"
    assert (await client.run_info("run")).version == "2"
    (noted,) = await client.audit_log("run")
    assert (noted.action, noted.detail.startswith("version 1 to 2")) == ("upgrade", True)
    assert "second to check" in noted.detail
    state = await client.context(NewShop, "run")
    assert (state.spent_cents, state.currency) == (701, "EUR")
    await here.check_completed("run")
    again = await client.start(OldShop, 7, run_id="run")  # who started it may ask again, with what it was started with
    assert again.run_id == "run"


async def test_an_older_workers_late_commit_is_refused_and_its_step_runs_again_with_the_new_version(
    cluster: MakeCluster,
) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    @called("price")
    async def slow(x: int) -> int:
        began.set()
        await go.wait()
        return -1

    class Slow(Workflow[int, int], name="Shop", version="1"):
        start = enter
        edges = (enter >> slow >> end,)

    two = newer(AUTO, enter >> price >> end)
    here = cluster(Slow, limits=ONE_BY_ONE)
    await told(here, Slow)
    await begun(here, Slow)
    await here.start_worker(workflows=[Slow], queues=["default"])
    await began.wait()
    (item,) = await here.client().pending_work("run")
    assert item.status is WorkItemStatus.PENDING  # nothing was written: it may be raised under the old worker's hands
    services = here.client().services
    services.registry = here.worker_of(workflows=[two])[1].registry
    assert await upgrade(services, RunId("run"), two) is Raised.DONE
    go.set()
    await here.start_worker(workflows=[two], queues=["default"])
    assert await here.client().handle(two, "run").result(200) == 2
    assert [each.node for each in await here.history("run")].count("price") == 1
    await here.check_completed("run")


async def test_a_run_whose_steps_are_claimed_is_raised_once_they_have_ended(cluster: MakeCluster) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    @called("price", at_most_once=True)
    async def once(x: int) -> int:
        began.set()
        await go.wait()
        return x + 1

    @node
    async def both(x: int) -> NextAll[int]:
        return NextAll([x, x])

    class Slow(Workflow[int, list[int]], name="Shop", version="1"):
        start = both
        edges = (both >> once >> end,)

    class Two(Workflow[int, list[int]], name="Shop", version="2", versions=AUTO):
        start = both
        edges = (both >> once >> tax >> end,)

    here = cluster(Slow, limits=Limits(concurrency=1, chain_steps=1))
    await told(here, Slow)
    await begun(here, Slow)
    await here.start_worker(workflows=[Slow], queues=["default"])
    await began.wait()
    new = await here.start_worker(workflows=[Two], queues=["default"])
    await asyncio.sleep(20)
    assert (await here.client().run_info("run")).version == "1"
    go.set()
    assert await here.client().wait("run", 200) is RunStatus.COMPLETED
    assert new.services.figures.deliveries > 0


async def test_a_migrate_that_raises_sets_the_item_aside_with_the_reason_and_nothing_is_lost(
    cluster: MakeCluster,
) -> None:
    class Broken(Workflow[int, int], name="Shop", version="2", versions=AUTO):
        start = enter
        edges = (enter >> price >> end,)

        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            raise ValueError("not like this")

    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    broken = await here.start_worker(workflows=[Broken], queues=["default"])
    note = await parked_note(here)
    assert "cannot be raised from version 1 to 2. ValueError: not like this" in note
    assert (await here.client().run_info("run")).version == "1"
    await asyncio.sleep(30)
    assert broken.services.figures.deliveries < 10  # nothing spins
    await broken.stop()
    await here.start_worker(workflows=[newer(AUTO, enter >> price >> end)], queues=["default"])
    await here.client().set_aside.requeue()
    assert await here.client().handle(One, "run").result(100) == 2
    await here.check_completed("run")


@pytest.mark.parametrize(
    ("edges", "problem"),
    [
        ((enter >> tax >> end,), "Version 2 has no node 'price': let migrate move its steps"),
    ],
)
async def test_a_run_that_cannot_be_raised_says_why(cluster: MakeCluster, edges: Any, problem: str) -> None:
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    await here.start_worker(workflows=[newer(AUTO, *edges)], queues=["default"])
    assert problem in await parked_note(here)


async def test_a_field_of_the_context_that_is_gone_is_no_silent_loss(cluster: MakeCluster) -> None:
    class Less(Context):
        log: EventLog[str] = EventLog()

    @called("second")
    async def second(ctx: WorkflowCtx[Less], order: Order) -> str:
        return "done"

    @called("first")
    async def first(ctx: WorkflowCtx[Less], x: int) -> Order:
        return Order(x)

    class Two(Workflow[int, str, Less], name="Ledgers", version="2", versions=AUTO):
        start = first
        edges = (first >> second,)

    here = cluster(OldShop, limits=ONE_BY_ONE)
    await told(here, OldShop)
    await begun(here, OldShop, value=7)
    await here.start_worker(workflows=[Two], queues=["default"])
    assert "Less has no 'spent' any more: say which class it was, old_contexts" in await parked_note(here)


async def test_what_waits_for_a_time_or_a_signal_goes_on_waiting_when_its_run_is_raised(cluster: MakeCluster) -> None:
    approval = Signal("approval", str)

    def holding(version: str, **more: Any) -> Any:
        @node
        async def ask(ctx: WorkflowCtx[NoContext], x: int) -> str | Hold:
            answer = ctx.received(approval)
            return (
                f"{version} {x} {answer}"
                if answer or ctx.timed_out
                else Hold(until=approval, timeout=timedelta(minutes=2))
            )

        class Holding(Workflow[int, str], name="Holding", version=version, **more):
            start = ask

            @classmethod
            def migrate(cls, run: RunToMigrate) -> None:
                for step in run.steps:
                    step.plain += 1

        return Holding

    old, new = holding("1"), holding("2", versions=AUTO)
    here = cluster(old)
    await told(here, old)
    client = here.client()
    for run_id in ("signalled", "timed"):
        await begun(here, old, run_id=run_id, value=5)
    for run_id in ("signalled", "timed"):
        assert await upgrade(client.services, RunId(run_id), new) is Raised.DONE
    await here.start_worker(workflows=[new], queues=["default"])
    await client.signal("signalled", approval, "yes")
    assert await client.handle(new, "signalled").result(100) == "2 6 yes"
    assert await client.handle(new, "timed").result(400) == "2 6 None"
    await here.check_completed("timed")
    await here.check_completed("signalled")


async def test_items_of_a_fan_out_are_raised_where_its_join_is_the_same(cluster: MakeCluster) -> None:
    def fan(version: str, *, moved: bool = False, **more: Any) -> Any:
        @node
        async def split(x: int) -> NextAll[int]:
            return NextAll(range(x))

        @node
        async def each(x: int) -> int:
            return x

        @node
        async def total(xs: list[int]) -> int:
            return sum(xs)

        class Fan(Workflow[int, int], name="Fan", version=version, **more):
            start = split
            edges = (split >> each >> tax >> gather(total),) if moved else (split >> each >> gather(total),)

        return Fan

    old = fan("1")
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old, steps=2, run_id="same", value=4)
    member: Member = await here.start_worker(workflows=[fan("2", versions=AUTO)], queues=["default"])
    assert await here.client().handle(old, "same").result(100) == 6
    assert (await here.client().run_info("same")).version == "2"
    await member.stop()
    await begun(here, old, steps=2, run_id="moved", value=4)
    await here.start_worker(workflows=[fan("3", moved=True, versions=AUTO)], queues=["default"])
    assert "belongs to a join" in await parked_note(here, "moved")


async def test_the_description_of_a_version_is_forgotten_when_no_worker_has_it_and_no_run_needs_it(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_versions, "PRUNE_EVERY_SECONDS", 60.0)
    two = newer(STRICT, enter >> price >> end)
    here = cluster(One, two, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    await here.start_worker(workflows=[two], queues=["default"])
    await asyncio.sleep(130)
    versions = here.client().services.versions
    assert await versions.all() == [("Shop", "1"), ("Shop", "2")]  # a run of the first is parked
    await here.client().terminate("run")
    await asyncio.sleep(190)  # two looks
    assert await versions.all() == [("Shop", "2")]
