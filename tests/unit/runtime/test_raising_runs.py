"""Raising runs: what an older version has begun is ended, or the run is not raised; nothing of it is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    ChildWorkflow,
    Compensation,
    Concurrency,
    Context,
    EventLog,
    Hold,
    LastWrite,
    NextAll,
    NoContext,
    RunStatus,
    VersionPolicy,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    all_of,
    first,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import OnClose
from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.exceptions import MigrationError
from floxide_amqp.runtime import upgrading
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.upgrading import Raised, upgrade
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_versions import (
    AUTO,
    ONE_BY_ONE,
    One,
    begun,
    end,
    enter,
    parked_note,
    price,
    told,
)

MakeCluster = Callable[..., Cluster]


async def raised(here: Cluster, *workflows: Any, run_id: str = "run") -> Raised:
    """Raise a run to the first of some workflows, by a worker that has them."""
    services = here.worker_of(workflows=workflows)[1]
    return await upgrade(services, RunId(run_id), workflows[0])


async def refused(here: Cluster, *workflows: Any) -> str:
    """Return why a run is not raised."""
    with pytest.raises(MigrationError) as caught:
        await raised(here, *workflows)
    assert (await here.client().run_info("run")).version == "1"
    return str(caught.value)


@pytest.mark.parametrize("changes", ["end", "price"])
async def test_a_step_that_ends_while_its_run_is_read_is_not_left_out_of_the_upgrade(
    cluster: MakeCluster, changes: str
) -> None:
    class Two(Workflow[int, int], name="Shop", version="2", versions=AUTO):
        start = enter
        edges = (enter >> price >> end,)

        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            for step in run.steps:
                if step.node == changes:
                    step.plain += 1000

    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    older, *_ = here.worker_of(workflows=[One], queues=["default"])
    services = here.worker_of(workflows=[Two])[1]
    find, done = services.items.find, list[int]()

    async def late(run_id: Any, ids: Sequence[Any]) -> Any:
        if not done:
            done.append(1)
            assert await older.run_once()  # 'price' ends, 'end' is put
        return await find(run_id, ids)

    services.items.find = late  # type: ignore[method-assign]
    assert await upgrade(services, RunId("run"), Two) is Raised.OTHERWISE
    await here.start_worker(workflows=[Two], queues=["default"])
    assert await here.client().handle(Two, "run").result(200) == (1002 if changes == "end" else 2)
    await here.check_completed("run")


# --- joins of edges


@node
async def left(x: int) -> int:
    return x + 10


@node
async def right(x: int) -> int:
    return x + 100


@node
async def both(pair: tuple[int, int]) -> int:
    return sum(pair)


class Joined(Workflow[int, int], name="Joined", version="1"):
    start = enter
    edges = (enter >> (left, right), all_of(left, right) >> both)


async def test_a_run_with_a_join_of_edges_ahead_that_the_newer_version_lacks_is_not_raised(
    cluster: MakeCluster,
) -> None:
    class Two(Workflow[int, int], name="Joined", version="2", versions=AUTO):
        start = enter
        edges = (enter >> left >> right,)

    here = cluster(Joined, limits=ONE_BY_ONE)
    await told(here, Joined)
    await begun(here, Joined, steps=2)
    assert "belongs to a join" in await refused(here, Two)
    await here.start_worker(workflows=[Joined], queues=["default"])
    assert await here.client().handle(Joined, "run").result(200) == 112
    await here.check_completed("run")


async def test_a_run_in_which_a_value_waits_at_a_join_is_raised_only_where_the_join_is_still_there(
    cluster: MakeCluster,
) -> None:
    @node
    async def maybe(x: int) -> int | str:
        return "no"

    @node
    async def drop(x: int | str) -> int:
        return 0

    @node
    async def aside(x: int) -> int:
        return x

    @node
    async def some(found: tuple[int | None, int | None]) -> int:
        return sum(each or 0 for each in found)

    def joined(version: str, *, joins: bool, **more: Any) -> Any:
        paths: Any = (left >> drop, maybe >> drop)
        if joins:
            paths = (all_of(left, maybe.when(int), missing="skip") >> some, maybe.when(str) >> drop)

        class Made(Workflow[int, list[int]], name="Joined", version=version, **more):
            start = enter
            edges = (enter >> (left, maybe, aside >> end), *paths)

        return Made

    old = joined("1", joins=True)
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old)
    worker, *_ = here.worker_of(workflows=[old], queues=["default"])
    while {each.node for each in await here.client().pending_work("run")} & {"left", "maybe", "drop"}:
        assert await worker.run_once()
    (live,) = await here.client().pending_work("run")
    assert live.node in ("aside", "end")  # no way leads from it to the join
    assert "Something waits at the join 'some'" in await refused(here, joined("2", joins=False, versions=AUTO))
    assert await raised(here, joined("2", joins=True, versions=AUTO)) is Raised.DONE


# --- children


@node
async def sleep_long(ctx: WorkflowCtx[NoContext], x: int) -> int | Hold:
    return x + 100 if ctx.timed_out else Hold(for_=60)


class Child(Workflow[int, int]):
    start = sleep_long


async def children_of(here: Cluster) -> list[str]:
    """Wait until the run has a child, and return the ids of its children."""
    while True:
        runs = [each.run_id for each in (await here.client().list_runs()).runs if each.run_id != "run"]
        if runs:
            return runs
        await asyncio.sleep(1)


async def test_a_child_that_the_older_version_started_is_cancelled_with_its_parent(cluster: MakeCluster) -> None:
    calling = ChildWorkflow(Child, wait=False, on_close=OnClose.CANCEL, name="calling")

    @node
    async def after(child: str) -> int:
        return 1

    @node
    async def begin(x: int) -> str:
        return ""

    class Parent(Workflow[int, int], name="Parent", version="1"):
        start = calling
        edges = (calling >> after,)

    class Second(Workflow[int, int], name="Parent", version="2", versions=AUTO):
        start = begin
        edges = (begin >> after,)

    here = cluster(Parent, Child, limits=ONE_BY_ONE)
    await told(here, Parent)
    await begun(here, Parent)
    deliverer = await here.start_worker(workflows=[Parent], queues=["elsewhere"])
    (child,) = await children_of(here)
    await deliverer.stop()
    await here.start_worker(workflows=[Second, Child], queues=["default"])
    client = here.client()
    assert await client.wait("run", 200) is RunStatus.COMPLETED
    assert (await client.run_info("run")).version == "2"
    assert await client.wait(child, 200) is RunStatus.CANCELLED


async def test_a_step_that_waits_for_a_child_is_not_run_a_second_time_as_a_plain_node(cluster: MakeCluster) -> None:
    shipping = ChildWorkflow(Child, name="ship")

    @node
    async def ship(x: int) -> int:
        raise AssertionError("it runs beside its child")

    class Old(Workflow[int, int], name="Parent", version="1"):
        start = enter
        edges = (enter >> shipping,)

    class New(Workflow[int, int], name="Parent", version="2", versions=AUTO):
        start = enter
        edges = (enter >> ship,)

    here = cluster(Old, limits=ONE_BY_ONE)
    await told(here, Old)
    await begun(here, Old, steps=2)
    why = await refused(here, New, Child)
    assert "A step of node 'ship' has started a run of 'Child', and takes its output" in why


async def test_a_compatible_version_does_not_run_a_plain_node_where_the_older_one_has_called_a_child(
    cluster: MakeCluster,
) -> None:
    @node
    async def ship(x: int) -> int:
        raise AssertionError("it runs beside its child")

    def parent(version: str, shipping: Any, **more: Any) -> Any:
        class Parent(Workflow[int, int], name="Parent", version=version, **more):
            start = enter
            edges = (enter >> shipping,)

        return Parent

    old = parent("1", ChildWorkflow(Child, name="ship"))
    new = parent("2", ship, versions=VersionPolicy.COMPATIBLE)
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old, steps=2)
    await here.start_worker(workflows=[new, Child], queues=["default"])
    client = here.client()
    note = await parked_note(here)
    assert "version 2 differs: node 'ship' started runs of 'Child', waiting for them, and does not any more" in note
    await here.start_worker(workflows=[old], queues=["default"])
    assert await client.handle(old, "run").result(1000) == 101


async def test_a_step_that_waits_for_a_child_and_that_migrate_changes_waits_for_the_same_child_in_the_raised_run(
    cluster: MakeCluster,
) -> None:
    calling = ChildWorkflow(Child, name="calling")

    def parent(version: str, **more: Any) -> Any:
        class Parent(Workflow[int, int], name="Parent", version=version, **more):
            start = calling
            edges = (calling >> price,)

            @classmethod
            def migrate(cls, run: RunToMigrate) -> None:
                for step in run.steps:
                    step.plain += 1

        return Parent

    old, new = parent("1"), parent("2", versions=AUTO)
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old)
    assert await raised(here, new) is Raised.DONE
    await here.start_worker(workflows=[new], queues=["default"])
    assert await here.client().handle(new, "run").result(2_000) == 102
    assert len(await children_of(here)) == 1
    await here.check_completed("run")


# --- contexts


class Address(Context):
    street: Annotated[str, LastWrite()] = "Main Street"
    floor: Annotated[int, LastWrite()] = 3


class Street(Context):
    street: Annotated[str, LastWrite()] = "Main Street"


def addressed(version: str, kind: Any, **more: Any) -> Any:
    """A workflow whose context has another one inside."""

    class Addressed(Context):
        address: kind = kind()
        log: EventLog[str] = EventLog()

    @node
    async def note(ctx: WorkflowCtx[Addressed], x: int) -> int:
        ctx.state.log.append(f"version {version}")
        return x

    class Note(Workflow[int, int, Addressed], name="Note", version=version, **more):
        start = note.named("first")
        edges = (note.named("first") >> note.named("second"),)

    return Note


async def test_a_field_of_a_nested_context_that_is_gone_is_no_silent_loss(cluster: MakeCluster) -> None:
    old = addressed("1", Address)
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old)
    assert "Addressed has no 'address.floor' any more" in await refused(here, addressed("2", Street, versions=AUTO))


async def test_a_run_goes_on_with_a_nested_context_and_an_event_log_that_migrate_has_changed(
    cluster: MakeCluster,
) -> None:
    old, two = addressed("1", Address), addressed("2", Address, versions=AUTO)

    class New(two, name="Note", version="2"):  # type: ignore[misc]
        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            run.context["address"]["floor"] += 4
            run.context["log"][0][2] = "changed"

    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old)
    assert await raised(here, New) is Raised.DONE
    await here.start_worker(workflows=[New], queues=["default"])
    client = here.client()
    await client.handle(New, "run").result(100)
    state = await client.context(New, "run")
    assert (state.address.floor, list(state.log)) == (7, ["changed", "version 2"])
    await here.check_completed("run")


# --- concurrency keys


async def test_a_step_that_waits_for_a_key_goes_on_waiting_when_migrate_changes_it_and_nobody_waits_for_ever(
    cluster: MakeCluster,
) -> None:
    bodies = list[int]()

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(x))

    @node(concurrency=Concurrency("press", limit=1))
    async def press(x: int) -> int:
        bodies.append(x)
        await asyncio.sleep(5)
        return x

    @node
    async def total(xs: list[int]) -> int:
        return sum(xs)

    def made(version: str, **more: Any) -> Any:
        class Press(Workflow[int, int], name="Press", version=version, **more):
            start = split
            edges = (split >> press >> gather(total),)

            @classmethod
            def migrate(cls, run: RunToMigrate) -> None:
                for step in run.steps:
                    step.plain += 100

        return Press

    old, new = made("1"), made("2", versions=AUTO)
    here = cluster(old, limits=Limits(concurrency=8, chain_steps=1))
    await told(here, old)
    await here.client().start(old, 4, run_id="run")
    member = await here.start_worker(workflows=[old], queues=["default"])
    while not bodies:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    await member.stop()  # it ends the one that it has begun
    await here.start_worker(workflows=[new], queues=["default"])
    client = here.client()
    result = await client.handle(new, "run").result(400)
    assert (await client.run_info("run")).version == "2"
    assert sorted(x % 100 for x in bodies) == [0, 1, 2, 3]
    assert result == sum(bodies)
    await here.check_completed("run")


# --- what is to be undone


def paying(version: str, *, undoes: bool, renamed: bool = False, undone: list[int], **more: Any) -> Any:
    """A workflow that reserves, and then cannot pay."""

    async def release_what(x: Compensation[int, int]) -> None:
        undone.append(x.input)

    release = node(release_what).named("give_back" if renamed else "release")

    async def reserve_it(x: int) -> int:
        return x

    reserve = (node(compensation=release)(reserve_it) if undoes else node(reserve_it)).named("reserve")

    @node
    async def pay(x: int) -> int:
        raise ValueError("no money")

    class Pay(Workflow[int, int], name="Pay", version=version, **more):
        start = reserve
        edges = (reserve >> pay,)

    return Pay


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_run_whose_steps_may_have_to_be_undone_is_not_raised_to_a_version_that_cannot(
    cluster: MakeCluster, renamed: bool
) -> None:
    undone = list[int]()
    old = paying("1", undoes=True, undone=undone)
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old)
    why = await refused(here, paying("2", undoes=renamed, renamed=renamed, undone=undone, versions=AUTO))
    assert "What its node 'reserve' did may have to be undone, and version 2 has no node 'reserve" in why
    await here.start_worker(workflows=[paying("2", undoes=True, undone=undone, versions=AUTO)], queues=["default"])
    client = here.client()
    assert await client.wait("run", 200) is RunStatus.FAILED
    assert ((await client.run_info("run")).version, undone) == ("2", [1])


async def test_a_run_that_has_nothing_to_undo_yet_is_raised_to_a_version_without_compensations(
    cluster: MakeCluster,
) -> None:
    undone = list[int]()
    old = paying("1", undoes=True, undone=undone)
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old, steps=0)
    assert await raised(here, paying("2", undoes=False, undone=undone, versions=AUTO)) is Raised.DONE


# --- outputs


def outputs(version: str, kind: Any, output: Any, value: Any, **more: Any) -> Any:
    """A workflow with two outputs, one after another."""

    async def one(x: int) -> kind:
        return value

    first, second = node(one).named("first"), node(one).named("second")

    class Outs(Workflow[int, output], name="Outs", version=version, **more):
        start = enter
        edges = (enter >> (first, second),)

    return Outs


async def test_a_run_with_an_output_that_the_newer_version_cannot_read_is_not_raised(cluster: MakeCluster) -> None:
    old = outputs("1", str, list[str], "text")
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old, steps=2)
    why = await refused(here, outputs("2", int, list[int], 1, versions=AUTO))
    assert "An output that it has already is none of version 2" in why
    assert await raised(here, outputs("2", str, list[str], "new", versions=AUTO)) is Raised.DONE
    await here.start_worker(workflows=[outputs("2", str, list[str], "new", versions=AUTO)], queues=["default"])
    assert sorted(await here.client().handle(old, "run").result(100)) == ["new", "text"]


async def test_a_run_with_several_outputs_is_not_raised_to_a_version_with_one(cluster: MakeCluster) -> None:
    class Single(Workflow[int, str], name="Outs", version="2", versions=AUTO):
        start = enter
        edges = (enter >> node(_text).named("first") >> node(_again).named("second"),)

    old = outputs("1", str, list[str], "text")
    here = cluster(old, limits=ONE_BY_ONE)
    await told(here, old)
    await begun(here, old, steps=2)
    assert "It has outputs already, and version 2 has one only" in await refused(here, Single)


async def _text(x: int) -> int:
    return x


async def _again(x: int) -> str:
    return "text"


# --- runs that cannot be raised yet, or at all


@node
async def split(x: int) -> NextAll[int]:
    return NextAll(range(x))


@node
async def total(xs: list[int]) -> int:
    return sum(xs)


def fan(version: str, each: Any, **more: Any) -> Any:
    """A workflow that does one node for each of some numbers."""

    class Fan(Workflow[int, int], name="Fan", version=version, **more):
        start = split
        edges = (split >> each >> gather(total),)

    return Fan


@node
async def slowly(x: int) -> int:
    await asyncio.sleep(1)
    return x


async def test_a_run_with_too_many_steps_for_an_upgrade_is_brought_on_by_the_older_workers_that_are_there(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "MAX_LIVE", 10)
    old, new = fan("1", slowly), fan("2", slowly, versions=AUTO)
    here = cluster(old, limits=Limits(concurrency=2, chain_steps=1))
    await told(here, old)
    await begun(here, old, value=40)
    newer = await here.start_worker(workflows=[new], queues=["default"])
    read = list[int]()
    find = newer.services.items.find

    async def counting(run_id: Any, ids: Sequence[Any]) -> Any:
        read.append(len(ids))
        return await find(run_id, ids)

    newer.services.items.find = counting  # type: ignore[method-assign]
    await here.start_worker(workflows=[old], queues=["default"])
    client = here.client()
    assert await client.handle(old, "run").result(1000) == sum(range(40))
    assert await client.set_aside.list() == []
    assert max(read, default=0) <= 10  # as many as may be raised: beyond that nothing is read
    await here.check_completed("run")


async def test_a_run_that_cannot_be_raised_is_set_aside_once_no_older_worker_is_there_any_more(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "MAX_LIVE", 3)
    old, new = fan("1", slowly), fan("2", slowly, versions=AUTO)
    here = cluster(old, limits=Limits(concurrency=2, chain_steps=1))
    await told(here, old)
    await begun(here, old, value=5)
    await here.start_worker(workflows=[new], queues=["default"])
    client = here.client()
    while len(aside := await client.set_aside.list()) < 5:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert "more than 3 steps that have not ended: let a worker of version 1 bring it on first" in aside[0].reason
    await here.start_worker(workflows=[old], queues=["default"])
    await client.set_aside.requeue()
    assert await client.handle(old, "run").result(1000) == 10
    await here.check_completed("run")


async def test_a_run_at_work_is_looked_at_now_and_then_says_so_and_goes_on_at_once_when_it_was_raised(
    cluster: MakeCluster,
) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def once(x: int) -> int:
        if not began.is_set():
            began.set()
            await go.wait()
        return x

    each = node(at_most_once=True)(once).named("each")
    old, new = fan("1", each), fan("2", each, versions=AUTO)
    here = cluster(old, limits=Limits(concurrency=1, chain_steps=1))
    await told(here, old)
    await begun(here, old, value=12)
    older = await here.start_worker(workflows=[old], queues=["default"])
    await began.wait()
    looks = list[str]()
    newer = await here.start_worker(workflows=[new], queues=["default"])
    listed = newer.services.items.live_entries

    async def counting(run_id: RunId, **more: Any) -> Any:
        looks.append(run_id)
        return await listed(run_id, **more)

    newer.services.items.live_entries = counting  # type: ignore[method-assign]
    await asyncio.sleep(120)
    notes = {each.note for each in await here.client().pending_work("run") if each.status is WorkItemStatus.PENDING}
    assert "waits for the end of steps that are at work, to be raised from version 1 to 2" in notes
    assert 0 < len(looks) < 60
    go.set()
    await older.stop()
    assert await here.client().handle(new, "run").result(200) == sum(range(12))
    assert (await here.client().run_info("run")).version == "2"
    await here.check_completed("run")


async def test_a_step_at_work_in_a_fan_out_that_was_closed_does_not_hold_its_run_up(cluster: MakeCluster) -> None:
    go, ends = asyncio.Event(), asyncio.Event()

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def race(x: int) -> int:
        await (go if x == 0 else ends).wait()
        return x

    @node
    async def win(x: int) -> int:
        return x

    def racing(version: str, **more: Any) -> Any:
        class Racing(Workflow[int, int], version=version, **more):
            start = split
            edges = (split >> race >> first(win),)

        return Racing

    here = cluster(racing("1"), limits=ONE_BY_ONE)
    old = await here.start_worker()
    run = await here.client().start(here.workflows[0], 1, run_id="run")
    async with asyncio.timeout(60):
        while len(here.store.leftovers("owned:").get(f"owned:{old.name}", [])) < 2:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    old.services.inflight.interrupt_items = lambda *_: None  # type: ignore[method-assign]
    old.worker.stop()
    go.set()
    await here.start_worker(workflows=[racing("2", versions=AUTO)])
    await asyncio.sleep(1)  # what cancels the other step has come to the newer worker
    ends.set()
    assert await run.result(600) == 0
    assert (await here.client().run_info("run")).version == "2"
    assert await here.settle() == {}
