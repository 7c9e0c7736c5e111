"""Schedules at work in virtual time: each occurrence one run, whoever dies, however long nobody is there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from floxide_amqp import (
    CodecError,
    ConfigurationError,
    Encryption,
    Floxide,
    Hold,
    NoContext,
    Occasion,
    Overlap,
    RunStatus,
    Schedule,
    ScheduleInfo,
    ScheduleNotFoundError,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.schedules import LOOK_MS, MAX_RECENT
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import StoreUnavailableError
from floxide_amqp.ports.key_value import Batch
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.schedule_firing import fire_schedule
from floxide_amqp.stores import keys, schedule_keys
from floxide_amqp.stores.encoding import encode_payload
from floxide_amqp.stores.schedules import timer_of
from floxide_amqp.testing.virtual_time import START_MS, VirtualClock
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_shards import SHARDS, ShardedCluster

MakeCluster = Callable[..., Cluster]


@node
async def write(ctx: WorkflowCtx[NoContext], seconds: float) -> str:
    await asyncio.sleep(seconds)
    return ctx.run_id


class Report(Workflow[float, str]):
    start = write


@node
async def wait_for_ever(n: int) -> int | Hold:
    return Hold()


class Endless(Workflow[int, int]):
    start = wait_for_ever


def every_minute(seconds: float = 0, **options: Any) -> Schedule[float]:
    return Schedule("report", Report, seconds, every=60, **options)


async def runs_of(client: Orchestrator, status: RunStatus | None = None) -> list[str]:
    """The runs that there are, the oldest first."""
    return [info.run_id for info in reversed((await client.list_runs(limit=1000, status=status)).runs)]


async def runs_until(client: Orchestrator, count: int) -> list[str]:
    while len(found := await runs_of(client)) < count:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    return found


def instants(run_ids: Sequence[str]) -> list[datetime]:
    return [datetime.fromisoformat(run_id.partition("@")[2]) for run_id in run_ids]


def nothing_is_left(here: Cluster) -> bool:
    return here.store.leftovers("timers", "schedules") == {}


async def test_each_occurrence_is_one_run_with_its_time_in_its_id(cluster: MakeCluster) -> None:
    here = cluster(Report)
    for _ in range(3):
        await here.start_worker()
    client = here.client()
    info = await client.schedules.put(every_minute())
    found = instants(await runs_until(client, 5))
    assert found[0] == info.next_at
    assert {later - sooner for sooner, later in itertools.pairwise(found)} == {timedelta(minutes=1)}
    handle = client.handle(Report, f"report@{found[0].isoformat().replace('+00:00', 'Z')}")
    assert await handle.result(10) == handle.run_id
    info = await client.schedules.get("report")
    assert (info.started, info.skipped, info.missed, info.every) == (5, 0, 0, timedelta(minutes=1))
    assert [each.what for each in info.recent] == [Occasion.STARTED] * 5
    assert await client.schedules.delete("report")
    assert not await client.schedules.delete("report")
    assert nothing_is_left(here)
    with pytest.raises(ScheduleNotFoundError):
        await client.schedules.get("report")


async def test_a_worker_fires_what_it_has_set_itself_at_its_time_and_not_at_the_next_round(
    cluster: MakeCluster,
) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute())
    await runs_until(client, 3)
    info = await client.run_info((await runs_of(client))[2])
    late = info.created_at - instants([info.run_id])[0]
    assert timedelta(0) <= late < timedelta(milliseconds=50)


@pytest.mark.parametrize("overlap", list(Overlap))
async def test_what_becomes_of_occurrences_while_a_run_goes_on(cluster: MakeCluster, overlap: Overlap) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(150, overlap=overlap))
    await runs_until(client, 1)
    await asyncio.sleep(285)
    info = await client.schedules.get("report")
    cancelled = await runs_of(client, RunStatus.CANCELLED)
    ended = {*cancelled, *await runs_of(client, RunStatus.COMPLETED)}
    running = [each for each in await runs_of(client) if each not in ended]
    expected = {
        Overlap.SKIP: (2, 3, 0, 1, 0), Overlap.QUEUE: (2, 0, 3, 1, 0),
        Overlap.CANCEL_PREVIOUS: (5, 0, 0, 1, 4), Overlap.ALLOW: (5, 0, 0, 2, 0),
    }  # fmt: skip
    assert (info.started, info.skipped, info.waiting, len(running), len(cancelled)) == expected[overlap]
    await client.schedules.pause("report", reason="enough")
    await asyncio.sleep(200)
    info = await client.schedules.get("report")
    assert (info.started, info.paused, info.note, info.next_at) == (expected[overlap][0], True, "enough", None)


async def test_a_queued_run_begins_soon_after_the_one_before_it(cluster: MakeCluster) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(90, overlap="queue"))
    first, second = (await runs_until(client, 2))[:2]
    ended = (await client.run_info(first)).finished_at
    assert ended is not None
    began = (await client.run_info(second)).created_at
    assert timedelta(0) <= began - ended <= timedelta(milliseconds=LOOK_MS + 1000)


async def test_after_an_outage_what_is_within_the_window_is_caught_up_and_the_rest_is_told(
    cluster: MakeCluster,
) -> None:
    here = cluster(Report)
    member = await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(overlap="allow", catch_up=timedelta(minutes=10)))
    await runs_until(client, 1)
    await member.kill()
    await asyncio.sleep(3600)
    await here.start_worker()
    await asyncio.sleep(30)
    info = await client.schedules.get("report")
    assert 48 <= info.missed <= 51
    assert info.started + info.missed == 61
    missed = [each for each in info.recent if each.what is Occasion.MISSED]
    assert sum(each.count for each in missed) == info.missed
    found = await runs_of(client)
    assert len(found) == len(set(found)) == info.started


async def test_an_outage_of_months_starts_one_run_where_others_would_overlap(cluster: MakeCluster) -> None:
    here = cluster(Report)
    member = await here.start_worker()
    client = here.client()
    await client.schedules.put(
        Schedule("report", Report, 0, cron="0 9 * * MON-FRI", timezone="Europe/Berlin", catch_up=timedelta(days=3650))
    )
    await member.kill()
    await asyncio.sleep(90 * 86_400)
    await here.start_worker(workflows=[])  # nobody runs it
    await asyncio.sleep(30)
    info = await client.schedules.get("report")
    assert info.started == 1
    assert info.skipped >= 60
    assert info.missed == 0


@pytest.mark.parametrize("reply_is_lost", [False, True])
async def test_whoever_dies_at_whichever_commit_each_occurrence_is_one_run_and_none_is_left_out(
    cluster: MakeCluster, reply_is_lost: bool
) -> None:
    here = cluster(Report)
    client = here.client()
    put = await client.schedules.put(every_minute(overlap="allow"))
    assert put.next_at is not None
    for deaths_after in range(8):
        member = await here.start_worker()
        is_dead = asyncio.Event()
        left = deaths_after

        async def count(batches: Sequence[Batch], member: Any = member, is_dead: asyncio.Event = is_dead) -> None:
            nonlocal left
            left -= any("report" in str(batch) for batch in batches)
            if left < 0:
                is_dead.set()
                member.store.cut()
                raise StoreUnavailableError(store="cut", reason="it died")

        if reply_is_lost:
            member.store.after_commit = count
        else:
            member.store.before_commit = count
        await is_dead.wait()
        await member.kill()
    await here.start_worker()
    await asyncio.sleep(180)
    await client.schedules.pause("report")
    found = instants(await runs_of(client))
    assert found[0] == put.next_at
    assert {later - sooner for sooner, later in itertools.pairwise(found)} == {timedelta(minutes=1)}
    info = await client.schedules.get("report")
    assert (info.started, info.missed) == (len(found), 0)
    await asyncio.sleep(60)
    assert await runs_of(client, RunStatus.COMPLETED) == await runs_of(client)


async def test_two_leaders_that_fire_at_once_start_each_run_once(cluster: MakeCluster) -> None:
    here = cluster(Report)
    one, other = here.client().services, here.client().services
    client = here.client()
    await client.schedules.put(every_minute(overlap="allow"))
    for _ in range(3):
        await asyncio.sleep(61)
        stored = await one.schedules.find("report")
        assert stored is not None
        timer = timer_of("report", stored.state)
        await asyncio.gather(fire_schedule(one, timer), fire_schedule(other, timer), fire_schedule(one, timer))
    info = await client.schedules.get("report")
    assert len(await runs_of(client)) == info.started == 3
    assert len(await here.store.entries(keys.TIMERS)) == 1


async def test_a_leader_that_was_slow_to_start_a_run_starts_it_once_and_no_other(cluster: MakeCluster) -> None:
    here = cluster(Report)
    slow, client = here.client(), here.client()
    await client.schedules.put(every_minute(seconds=30))
    await asyncio.sleep(61)
    stored = await client.services.schedules.find("report")
    assert stored is not None
    timer, at_start, goes_on = timer_of("report", stored.state), asyncio.Event(), asyncio.Event()
    learn = slow.services.session.learn_times

    async def hanging(run_ids: Any) -> None:
        at_start.set()
        await goes_on.wait()
        await learn(run_ids)

    slow.services.session.learn_times = hanging  # type: ignore[method-assign]
    task = asyncio.create_task(fire_schedule(slow.services, timer))
    await at_start.wait()
    await here.start_worker()
    first = await runs_until(client, 1)
    await asyncio.sleep(20)
    goes_on.set()
    assert await task is False  # somebody else was faster
    await asyncio.sleep(10)
    assert await runs_of(client) == first


async def test_a_leader_that_goes_is_followed_by_another(cluster: MakeCluster) -> None:
    here = cluster(Report)
    client = here.client()
    await client.schedules.put(every_minute(overlap="allow"))
    for stops in (True, False, True, False):
        member = await here.start_worker()
        count = len(await runs_of(client))
        await runs_until(client, count + 2)
        await (member.stop() if stops else member.kill())
    found = instants(await runs_of(client))
    assert {later - sooner for sooner, later in itertools.pairwise(found)} == {timedelta(minutes=1)}


async def test_a_store_whose_clock_jumps_ahead_and_back_starts_nothing_twice(cluster: MakeCluster) -> None:
    class Jumping(VirtualClock):
        ahead_ms = 0

        def now_ms(self) -> int:
            return super().now_ms() + self.ahead_ms

    here = cluster(Report)
    clock = here.store._clock = Jumping()
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(overlap="allow", catch_up=0))
    await runs_until(client, 2)
    clock.ahead_ms = 600_000
    before = await runs_until(client, 4)
    clock.ahead_ms = 0
    await asyncio.sleep(300)
    assert await runs_of(client) == before  # these times have been
    await asyncio.sleep(600)
    found = await runs_of(client)
    assert len(found) == len(set(found)) > len(before)
    assert 8 <= (await client.schedules.get("report")).missed <= 11


async def test_a_pause_holds_everything_back_and_is_not_caught_up(cluster: MakeCluster) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(paused=True))
    await asyncio.sleep(600)
    assert await runs_of(client) == []
    assert here.store.leftovers("timers") == {}  # a paused schedule costs nothing
    await client.schedules.resume("report")
    await client.schedules.resume("report")
    await runs_until(client, 2)
    info = await client.schedules.get("report")
    assert (info.started, info.missed, info.paused) == (2, 0, False)


async def test_a_trigger_starts_a_run_now_and_once_for_its_id_also_during_a_pause(cluster: MakeCluster) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(paused=True))
    run_id = await client.schedules.trigger("report", trigger_id="today")
    assert run_id == await client.schedules.trigger("report", trigger_id="today") == "report@trigger-today"
    assert await client.handle(Report, run_id).result(10) == run_id
    other = await client.schedules.trigger("report")
    assert sorted(await runs_of(client)) == sorted([run_id, other])
    info = await client.schedules.get("report")
    assert [each.what for each in info.recent] == [Occasion.TRIGGERED] * 2
    with pytest.raises(ScheduleNotFoundError):
        await client.schedules.trigger("unknown")


async def test_a_trigger_that_is_repeated_after_many_others_is_not_counted_again(cluster: MakeCluster) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(paused=True))
    first = await client.schedules.trigger("report", trigger_id="first")
    for _ in range(MAX_RECENT + 1):
        await client.schedules.trigger("report")
    await client.handle(Report, first).result(10)
    before = await client.schedules.get("report")
    assert (before.started, first in [each.run_id for each in before.recent]) == (MAX_RECENT + 2, False)
    assert await client.schedules.trigger("report", trigger_id="first") == first
    info = await client.schedules.get("report")
    assert (info.started, info.recent) == (before.started, before.recent)
    assert await client.delete(first)
    assert await client.schedules.trigger("report", trigger_id="first") == first
    info = await client.schedules.get("report")
    assert (info.started, info.recent) == (before.started, before.recent)


@pytest.mark.parametrize("what", ["pause", "delete"])
async def test_a_run_is_there_when_its_trigger_returns_also_beside_somebody_who_changes_the_schedule(
    cluster: MakeCluster, what: str
) -> None:
    here = cluster(Report)
    client, other = here.client(), here.client()
    await client.schedules.put(every_minute())
    written = client.services.schedules.write

    async def write(*given: Any) -> bool:
        has_written = await written(*given)
        await getattr(other.schedules, what)("report")
        return has_written

    client.services.schedules.write = write  # type: ignore[method-assign]
    run_id = await client.schedules.trigger("report")
    assert (await other.run_info(run_id)).status is RunStatus.PENDING
    await here.start_worker()
    assert await client.handle(Report, run_id).result(60) == run_id
    assert await runs_of(client) == [run_id]


async def test_a_trigger_whose_sender_dies_is_carried_out_by_the_leader(cluster: MakeCluster) -> None:
    here = cluster(Report)
    dying, client = here.client(), here.client()
    await client.schedules.put(every_minute(paused=True))

    async def gone(_run_ids: Any) -> None:
        raise StoreUnavailableError(store="cut", reason="it died")

    dying.services.session.learn_times = gone  # type: ignore[assignment, method-assign]
    run_id = await dying.schedules.trigger("report")
    assert await runs_of(client) == []
    await here.start_worker()
    assert await runs_until(client, 1) == [run_id]


async def test_putting_a_schedule_again_changes_nothing_and_another_content_keeps_how_far_it_is(
    cluster: MakeCluster,
) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute())
    await runs_until(client, 2)
    await client.schedules.pause("report")
    before = await client.services.schedules.find("report")
    await client.schedules.put(every_minute())
    assert await client.services.schedules.find("report") == before
    info = await client.schedules.put(every_minute(1, overlap="queue"))
    assert (info.started, info.paused, info.overlap) == (2, True, Overlap.QUEUE)
    info = await client.schedules.put(Schedule("report", Report, 1, every=3600))
    assert info.paused
    await client.schedules.resume("report")
    assert await client.schedules.next("report", count=2) == [
        datetime(2023, 11, 14, 23, tzinfo=UTC), datetime(2023, 11, 15, 0, tzinfo=UTC)
    ]  # fmt: skip
    assert [each.name for each in await client.schedules.list()] == ["report"]


async def test_schedules_put_by_many_at_once_are_one(cluster: MakeCluster) -> None:
    here = cluster(Report)
    clients = [here.client() for _ in range(5)]
    await asyncio.gather(*(client.schedules.put(every_minute(n % 2)) for n, client in enumerate(clients)))
    assert len(await here.store.entries(keys.TIMERS)) == 1
    assert len(await clients[0].schedules.list()) == 1


async def test_a_leader_without_the_workflow_starts_runs_for_those_who_have_it(cluster: MakeCluster) -> None:
    here = cluster(Report)
    await here.start_worker(workflows=[], queues=["other"])  # the leader
    await asyncio.sleep(10)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute())
    run_id = (await runs_until(client, 1))[0]
    assert await client.handle(Report, run_id).result(30) == run_id


async def test_a_leader_with_another_version_of_the_workflow_starts_runs_of_that_one(cluster: MakeCluster) -> None:
    class Newer(Workflow[float, str], name="Report", version="2"):
        start = write

    here = cluster(Newer)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute())
    run_id = (await runs_until(client, 1))[0]
    assert (await client.run_info(run_id)).version == "2"
    assert await client.handle(Newer, run_id).result(30) == run_id


async def test_jitter_puts_runs_off_by_the_same_for_everybody(cluster: MakeCluster) -> None:
    here = cluster(Report)
    await here.start_worker()
    client = here.client()
    await client.schedules.put(every_minute(jitter=50))
    found = await runs_until(client, 6)
    late = [(await client.run_info(each)).created_at - instants([each])[0] for each in found]
    assert all(timedelta(0) <= each < timedelta(seconds=52) for each in late)
    assert max(late) - min(late) > timedelta(seconds=5)
    stored = await client.services.schedules.find("report")
    assert stored is not None
    for each, waited in zip(found, late, strict=True):
        at_ms = round(instants([each])[0].timestamp() * 1000)
        assert timedelta(0) <= waited - timedelta(milliseconds=stored.spec.due_ms(at_ms) - at_ms) < timedelta(seconds=2)


async def test_what_a_schedule_carries_is_sealed_and_opened_by_those_who_have_the_key() -> None:
    store, told = MemoryKeyValueStore(VirtualClock()), 12345.678
    app = Floxide(
        store=store, workflows=[Report], codec=Encryption({"k": b"k" * 32}, required=True),
        schedules=[Schedule("report", Report, told, every=3600)],
    )  # fmt: skip
    first = await opened(app, 600)
    (again,) = (await opened(app, 3600)).schedules
    assert (first.schedules[0].started, again.started) == (0, 1)
    cells = [cell.value for slot in store._slots.values() for cell in slot.cells.values()]
    assert any(b"report" in value for value in cells)
    assert not any(encode_payload(Report.graph.input, told) in value for value in cells)


# --- over several servers


async def test_a_schedule_goes_on_while_the_server_of_one_of_its_runs_is_down() -> None:
    here = ShardedCluster(Report)
    client = here.client()
    home = client.services.session.beside(schedule_keys.schedule_partition("report")).shard
    for _ in range(2):
        await here.start_worker()
    await client.schedules.put(every_minute(overlap="allow"))
    await runs_until(client, 2)
    down = next(name for name in SHARDS if name != home)
    here.servers[down].cut()
    await asyncio.sleep(420)
    info = await here.client().schedules.get("report")
    assert info.started >= 8
    here.servers[down].heal()
    await asyncio.sleep(120)
    await client.schedules.pause("report")
    info = await client.schedules.get("report")
    found = instants(await runs_of(client))
    assert len(found) == info.started
    homes = {client.services.session.beside(RunId(run_id)).shard for run_id in await runs_of(client)}
    assert down in homes
    await here.close()


# --- declared by an application


@dataclass
class Told:
    """What an application's schedules came to."""

    schedules: Sequence[ScheduleInfo]
    runs: list[str]


async def opened(app: Floxide, seconds: float) -> Told:
    async with app.orchestrator() as orchestrator:
        await asyncio.sleep(seconds)
        return Told(await orchestrator.schedules.list(), await runs_of(orchestrator))


async def test_an_application_s_schedules_are_put_when_its_worker_begins_and_changed_with_it() -> None:
    store = MemoryKeyValueStore(VirtualClock())
    daily = Schedule("daily", Report, 0, cron="0 9 * * *", timezone="Europe/Berlin")
    first = await opened(Floxide(store=store, workflows=[Report], schedules=[daily]), 3 * 86_400)
    assert first.runs == [f"daily@2023-11-{day}T08:00:00Z" for day in (15, 16, 17)]
    hourly = Schedule("daily", Report, 0, every=3600)
    second = await opened(Floxide(store=store, workflows=[Report], schedules=[hourly]), 7200)
    assert [(each.name, each.every, each.started) for each in second.schedules] == [("daily", timedelta(hours=1), 5)]


@pytest.mark.parametrize(
    ("begins", "expected"),
    [  # 02:30 is not there, so right after it: 03:00 in summer time
        (datetime(2024, 3, 30, tzinfo=UTC), ["03-30T01:30", "03-31T01:00", "04-01T00:30"]),
        # 02:30 is there twice
        (datetime(2024, 10, 26, tzinfo=UTC), ["10-26T00:30", "10-27T00:30", "10-28T01:30"]),
    ],
)
async def test_daylight_saving_time_moves_no_run_on_the_clocks_of_its_zone(
    begins: datetime, expected: list[str]
) -> None:
    class Later(VirtualClock):
        def now_ms(self) -> int:
            return super().now_ms() - START_MS + round(begins.timestamp() * 1000)

    night = Schedule("night", Report, 0, cron="30 2 * * *", timezone="Europe/Berlin")
    app = Floxide(store=MemoryKeyValueStore(Later()), workflows=[Report], schedules=[night])
    assert (await opened(app, 3 * 86_400)).runs == [f"night@2024-{each}:00Z" for each in expected]


def test_an_application_refuses_schedules_that_it_could_not_run() -> None:
    with pytest.raises(ConfigurationError, match="not among workflows"):
        Floxide(workflows=[Endless], schedules=[every_minute()])
    with pytest.raises(ConfigurationError, match="Two schedules"):
        Floxide(workflows=[Report], schedules=[every_minute(), every_minute(1)])
    with pytest.raises(CodecError):
        Floxide(workflows=[Endless], schedules=[Schedule("x", Endless, "no number", every=60)])
