"""A store over several servers: one that is down stops its own runs, and nobody else's."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from floxide_amqp import Hold, NoContext, RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.exceptions import ConfigurationError, StoreUnavailableError
from floxide_amqp.stores.identity import identity_of
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.quarantine import QuarantineStore
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sharded_session import session_with
from floxide_amqp.testing.faults import FaultyKeyValueStore
from floxide_amqp.testing.queue_faults import FaultyWorkQueue, QueueFaults
from floxide_amqp.testing.simulation.clocks import MachineClock
from floxide_amqp.testing.virtual_time import VirtualClock
from tests.unit.runtime.cluster import QUICK, Cluster, GuardedStore, Member

SHARDS = ("anna", "bert", "cleo")


@node
async def double(x: int) -> int:
    await asyncio.sleep(1)
    return 2 * x


@node
async def add(x: int) -> int:
    await asyncio.sleep(1)
    return x + 1


class Small(Workflow[int, int]):
    start = double
    edges = (double >> add,)


class ShardedCluster(Cluster):
    """Workers on a store of three servers, each of which can go down."""

    def __init__(self, *workflows: Any, **options: Any) -> None:
        super().__init__(*workflows, **options)
        self.disks = {name: GuardedStore() for name in SHARDS}
        self.servers = {name: FaultyKeyValueStore(disk, random.Random(1)) for name, disk in self.disks.items()}
        self.links: list[list[FaultyKeyValueStore]] = []

    def _session(self, store: FaultyKeyValueStore) -> Session:
        links = {name: FaultyKeyValueStore(server, random.Random(2)) for name, server in self.servers.items()}
        self.links.append(list(links.values()))
        return session_with(ShardedKeyValueStore(links), VirtualClock(), patience_seconds=20.0)

    async def kill(self, member: Member) -> None:
        for link in self.links[int(member.name.rpartition("-")[2]) - 1]:
            link.cut()
        await member.kill()

    def ids_on(self, shard: str, count: int) -> list[str]:
        """Ids of runs that live on a server."""
        store = ShardedKeyValueStore(self.disks)
        names = (f"run-{number}" for number in itertools.count())
        return list(itertools.islice((name for name in names if store.shard_of(slot_of(RunId(name))) == shard), count))

    def _loose_ends(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for shard, disk in self.disks.items():
            left = disk.leftovers("messages:", "owned:", "parked:", "timers")
            found |= {f"{shard} {index}": entries for index, entries in left.items()}
        return found


@pytest_asyncio.fixture
async def here() -> AsyncIterator[ShardedCluster]:
    cluster = ShardedCluster(Small)
    yield cluster
    for server in cluster.servers.values():
        server.heal()
    await cluster.close()
    assert [disk.violations for disk in cluster.disks.values()] == [[], [], []]


async def status_of(cluster: Cluster, run_id: str) -> RunStatus:
    return (await cluster.client().services.runs.load(RunId(run_id))).state.status


@pytest.mark.asyncio
async def test_runs_spread_over_all_servers_and_end_on_them(here: ShardedCluster) -> None:
    await here.start_worker()
    await here.start_worker()
    client = here.client()
    handles = [await client.start(Small, n, run_id=f"run-{n}") for n in range(30)]
    assert [await handle.result(timeout=120) for handle in handles] == [2 * n + 1 for n in range(30)]
    assert await here.settle() == {}
    homes = [client.services.session.beside(RunId(f"run-{n}")).shard for n in range(30)]
    assert set(homes) == set(SHARDS)
    listed = [info.run_id for info in (await client.list_runs(limit=100)).runs]
    assert sorted(listed) == sorted(f"run-{n}" for n in range(30))


@pytest.mark.asyncio
@pytest.mark.parametrize("down", SHARDS)
async def test_a_server_that_is_down_stops_only_its_own_runs(here: ShardedCluster, down: str) -> None:
    for _ in range(2):
        await here.start_worker()
    await asyncio.sleep(QUICK.maintenance * 3)
    client = here.client()
    stopped = here.ids_on(down, 20)
    going_on = [run_id for shard in SHARDS if shard != down for run_id in here.ids_on(shard, 20)]
    first = [await client.start(Small, 1, run_id=run_id) for run_id in stopped]
    here.servers[down].cut()

    handles = [await client.start(Small, 1, run_id=run_id) for run_id in going_on]
    assert [await handle.result(timeout=60) for handle in handles] == [3] * len(going_on)
    with pytest.raises(StoreUnavailableError):
        await client.start(Small, 1, run_id=here.ids_on(down, 21)[20])
    await asyncio.sleep(120)
    assert here.members[0].services.figures.left_to_probes[down] + here.members[1].services.figures.left_to_probes[down]

    here.servers[down].heal()
    assert [await handle.result(timeout=300) for handle in first] == [3] * len(first)
    assert await here.settle() == {}


@pytest.mark.asyncio
async def test_while_all_servers_are_down_no_message_is_let_go(here: ShardedCluster) -> None:
    member = await here.start_worker()
    await asyncio.sleep(QUICK.maintenance * 3)
    for server in here.servers.values():
        server.cut()
    await asyncio.sleep(QUICK.heartbeat * 3)
    parts = member.services.session.parts
    assert all(part.failing_seconds() >= QUICK.heartbeat for part in parts)
    run_ids = [RunId(run_id) for shard in SHARDS for run_id in here.ids_on(shard, 1)]
    assert not any(member.services.is_out_of_reach(run_id) for run_id in run_ids)
    here.servers["cleo"].heal()
    await asyncio.sleep(30)
    assert [member.services.is_out_of_reach(run_id) for run_id in run_ids] == [True, True, False]


@pytest.mark.asyncio
async def test_a_worker_starts_while_a_server_is_down_and_serves_it_once_it_is_back(here: ShardedCluster) -> None:
    client = here.client()
    waiting, other = here.ids_on("bert", 1)[0], here.ids_on("cleo", 1)[0]
    slow = await client.start(Small, 1, run_id=waiting)
    here.servers["bert"].cut()
    await here.start_worker()
    assert await (await client.start(Small, 1, run_id=other)).result(timeout=60) == 3
    here.servers["bert"].heal()
    assert await slow.result(timeout=300) == 3
    assert await here.settle() == {}


@pytest.mark.asyncio
async def test_a_worker_takes_no_item_of_a_server_that_does_not_know_yet_that_it_lives() -> None:
    bodies: Counter[str] = Counter()

    @node(at_most_once=True)
    async def once(ctx: WorkflowCtx[NoContext], x: int) -> int:
        bodies[ctx.run_id] += 1
        await asyncio.sleep(3)
        return x

    class Once(Workflow[int, int]):
        start = once

    here = ShardedCluster(Once, timeouts=replace(QUICK, heartbeat=6.0, dead_after=24.0))
    here.servers["bert"].cut()
    late = await here.start_worker()
    await asyncio.sleep(21)
    assert late.worker.health().status == "running"
    here.servers["bert"].heal()
    bert = late.services.session.beside(RunId(here.ids_on("bert", 1)[0]))
    while bert.failing_seconds():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    await here.start_worker()
    await asyncio.sleep(0.1)
    client = here.client()
    assert isinstance(client.services.queue, FaultyWorkQueue)
    client.services.queue.faults = QueueFaults(duplicated=1.0)  # a copy for each of the two
    handles = [await client.start(Once, 1, run_id=run_id) for run_id in here.ids_on("bert", 10)]
    assert [await handle.result(timeout=300) for handle in handles] == [1] * 10
    assert sorted(bodies.values()) == [1] * 10
    assert await here.settle() == {}
    await here.close()


@pytest.mark.asyncio
@pytest.mark.fault(2)
async def test_what_a_dead_worker_held_on_each_server_is_given_back(here: ShardedCluster) -> None:
    first = await here.start_worker()
    client = here.client()
    run_ids = [run_id for shard in SHARDS for run_id in here.ids_on(shard, 2)]
    handles = [await client.start(Small, 1, run_id=run_id) for run_id in run_ids]
    await asyncio.sleep(0.5)
    assert len(first.services.inflight) == len(run_ids)
    await here.kill(first)
    await here.start_worker()
    assert [await handle.result(timeout=300) for handle in handles] == [3] * len(run_ids)
    assert await here.settle() == {}


@pytest.mark.asyncio
async def test_a_worker_takes_nothing_back_on_a_server_before_its_name_stands_there(here: ShardedCluster) -> None:
    here.servers["bert"].cut()
    member = await here.start_worker()
    await asyncio.sleep(QUICK.maintenance * 3)
    part = member.worker.maintenance._parts["bert"]
    rounds: list[bool] = []
    take_back = part.workers.take_back_own

    async def noting() -> None:
        rounds.append(part._deaths.has_own_beat)
        await take_back()

    part.workers.take_back_own = noting  # type: ignore[method-assign]
    here.servers["bert"].heal()
    await asyncio.sleep(60)
    assert rounds
    assert all(rounds)


@pytest.mark.asyncio
async def test_a_worker_shows_its_latest_heartbeat_of_all_servers(here: ShardedCluster) -> None:
    member = await here.start_worker()
    await asyncio.sleep(QUICK.heartbeat * 2)
    here.servers["anna"].cut()
    await asyncio.sleep(QUICK.heartbeat * 10)
    (shown,) = await member.services.liveness.all()
    (left,) = await LivenessStore(Session(here.disks["anna"], VirtualClock())).all()
    assert shown.beat >= left.beat + 10
    assert (member.services.session.failing_seconds(), shown.worker_id) == (0.0, member.name)


@pytest.mark.asyncio
async def test_an_unreadable_message_is_kept_where_a_server_is_in_reach(here: ShardedCluster) -> None:
    session = here._session(FaultyKeyValueStore(MemoryKeyValueStore(), random.Random(1)))
    quarantine = QuarantineStore(session)
    here.servers["anna"].cut()
    with pytest.raises(StoreUnavailableError):
        await quarantine.list()
    message = Quarantined(quarantine_id="q1", queue="default", reason="no message", body=b"x", at_ms=1)
    await quarantine.add(message)
    here.servers["anna"].heal()
    assert await quarantine.list() == [message]
    assert await quarantine.find("q1") == message
    await quarantine.remove("q1")
    assert await quarantine.list() == []


class TestIdentity:
    @staticmethod
    def session(disks: dict[str, MemoryKeyValueStore]) -> Session:
        return session_with(ShardedKeyValueStore(disks), VirtualClock())

    @pytest.mark.asyncio
    async def test_all_servers_of_a_store_have_one_id(self) -> None:
        disks = {name: MemoryKeyValueStore() for name in SHARDS}
        made = await asyncio.gather(*(identity_of(self.session(disks)) for _ in range(5)))
        assert len(set(made)) == 1
        assert await identity_of(self.session(dict(reversed(disks.items())))) == made[0]

    @pytest.mark.asyncio
    async def test_a_server_under_anothers_name_is_refused(self) -> None:
        disks = {name: MemoryKeyValueStore() for name in SHARDS}
        await identity_of(self.session(disks))
        swapped = {"anna": disks["bert"], "bert": disks["anna"], "cleo": disks["cleo"]}
        with pytest.raises(ConfigurationError, match="This server is shard 'bert' of anna, bert, cleo"):
            await identity_of(self.session(swapped))

    @pytest.mark.asyncio
    async def test_a_store_with_a_server_more_or_less_is_refused(self) -> None:
        disks = {name: MemoryKeyValueStore() for name in SHARDS}
        await identity_of(self.session(disks))
        for others in ({"anna": disks["anna"]}, {**disks, "dora": MemoryKeyValueStore()}):
            with pytest.raises(ConfigurationError, match="name all the shards as before"):
                await identity_of(self.session(others))
        with pytest.raises(ConfigurationError, match="it was named as a store of its own"):
            await identity_of(session_with(disks["anna"], VirtualClock()))

    @pytest.mark.asyncio
    async def test_servers_of_two_stores_are_refused(self) -> None:
        one, other = ({name: MemoryKeyValueStore() for name in SHARDS} for _ in range(2))
        await identity_of(self.session(one))
        await identity_of(self.session(other))
        with pytest.raises(ConfigurationError, match="do not belong to one store"):
            await identity_of(self.session({**one, "cleo": other["cleo"]}))

    @pytest.mark.asyncio
    async def test_a_server_that_is_down_is_not_waited_for(self) -> None:
        disks: dict[str, Any] = {name: FaultyKeyValueStore(MemoryKeyValueStore(), random.Random(1)) for name in SHARDS}
        made = await identity_of(self.session(disks))
        disks["anna"].cut()
        began = asyncio.get_running_loop().time()
        assert await identity_of(self.session(disks)) == made
        assert asyncio.get_running_loop().time() - began < 10


HELD: set[str] = set()


@node
async def hold_once(ctx: WorkflowCtx[NoContext], x: int) -> int | Hold:
    if ctx.run_id in HELD:
        return x
    HELD.add(ctx.run_id)
    return Hold(for_=5.0)


class Holding(Workflow[int, int]):
    start = hold_once


HOUR_MS = 3_600_000


class AnHourApart(ShardedCluster):
    """Workers on three servers of which one's clock is an hour ahead, and one's an hour behind."""

    def __init__(self) -> None:
        super().__init__(Small, Holding)
        for shard, skew_ms in (("anna", HOUR_MS), ("bert", -HOUR_MS)):
            self.disks[shard]._clock = MachineClock(asyncio.get_running_loop().time, skew_ms)


@pytest_asyncio.fixture
async def apart() -> AsyncIterator[AnHourApart]:
    cluster = AnHourApart()
    yield cluster
    await cluster.close()


@pytest.mark.asyncio
async def test_what_waits_on_a_server_is_due_by_that_servers_clock(apart: AnHourApart) -> None:
    client = apart.client()
    run_ids = [run_id for shard in SHARDS for run_id in apart.ids_on(shard, 2)]
    HELD.clear()
    first = await apart.start_worker()
    await asyncio.sleep(QUICK.heartbeat)
    began = asyncio.get_running_loop().time()
    handles = [await client.start(Holding, 1, run_id=run_id) for run_id in run_ids]
    await asyncio.sleep(1)
    await apart.kill(first)  # and with it the timers that it would have fired to the millisecond
    await apart.start_worker()
    assert [await handle.result(timeout=60) for handle in handles] == [1] * len(handles)
    assert asyncio.get_running_loop().time() - began >= 5
    assert await apart.settle() == {}


@pytest.mark.asyncio
async def test_a_lost_message_is_found_on_a_server_whose_clock_is_behind(apart: AnHourApart) -> None:
    client = apart.client()
    assert isinstance(client.services.queue, FaultyWorkQueue)
    client.services.queue.faults = QueueFaults(dropped=1.0)
    handles = [await client.start(Small, 1, run_id=run_id) for shard in SHARDS for run_id in apart.ids_on(shard, 2)]
    await apart.start_worker()
    assert [await handle.result(timeout=120) for handle in handles] == [3] * len(handles)
    assert await apart.settle() == {}
