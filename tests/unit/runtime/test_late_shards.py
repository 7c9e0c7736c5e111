"""A server that is down at the start is looked at when it is back: it may be another than the one it is named as."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from functools import partial

import pytest
import pytest_asyncio

from floxide_amqp.apps.stores import late_shards
from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, WorkerId
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.exceptions import ConfigurationError, StoreAccessRefusedError, StoreUnavailableError
from floxide_amqp.ports.key_value import KeyValueStore, Read
from floxide_amqp.runtime.heartbeat import new_record
from floxide_amqp.runtime.signs import Signs
from floxide_amqp.stores.identity import identity_of
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sharded_session import session_with
from floxide_amqp.testing.faults import FaultyKeyValueStore
from floxide_amqp.testing.virtual_time import VirtualClock
from tests.unit.runtime.cluster import QUICK, GuardedStore
from tests.unit.runtime.test_shards import SHARDS, ShardedCluster, Small


class Connection(FaultyKeyValueStore):
    """A connection to a server, which goes on when it is closed."""

    async def aclose(self) -> None:
        self.cut()


class LateCluster(ShardedCluster):
    """Workers whose connections to the servers are opened when they are first needed, by addresses that may be wrong.

    Attributes:
        addresses: Whose disk is found under the address of a shard; a shard that is missing is down.
        refused: Shards that refuse the login.
    """

    def __init__(self) -> None:
        super().__init__(Small)
        self.addresses = dict(self.disks)
        self.refused: set[str] = set()

    def _session(self, store: FaultyKeyValueStore) -> Session:
        return self.session()

    def session(self, patience_seconds: float = 20.0) -> Session:
        shards = late_shards({name: partial(self._connect, name) for name in SHARDS})
        return session_with(ShardedKeyValueStore(shards), VirtualClock(), patience_seconds=patience_seconds)

    async def _connect(self, name: str) -> KeyValueStore:
        if name in self.refused:
            raise StoreAccessRefusedError(store=name, reason="wrong password")
        if name not in self.addresses:
            raise StoreUnavailableError(store=name, reason="down")
        return Connection(self.addresses[name], random.Random(1))


@pytest_asyncio.fixture
async def here() -> AsyncIterator[LateCluster]:
    cluster = LateCluster()
    yield cluster
    cluster.addresses, cluster.refused = dict(cluster.disks), set()
    await cluster.close()
    assert [disk.violations for disk in cluster.disks.values()] == [[], [], []]


async def known(disks: Mapping[str, MemoryKeyValueStore]) -> str:
    """Let the servers know who they are."""
    return await identity_of(session_with(ShardedKeyValueStore(disks), VirtualClock()))


async def names_on(disk: MemoryKeyValueStore) -> set[str]:
    """The workers whose heartbeats stand on a server."""
    return {record.worker_id for record in await LivenessStore(Session(disk, VirtualClock())).all()}


async def a_strangers_disk() -> GuardedStore:
    """The server called bert of another store."""
    strangers = {name: GuardedStore() for name in SHARDS}
    await known(strangers)
    return strangers["bert"]


@pytest.mark.asyncio
@pytest.mark.parametrize("wrong", ["another shard", "another store"])
async def test_a_server_that_comes_late_and_is_another_is_used_by_nobody_until_the_right_one_is_there(
    here: LateCluster, wrong: str
) -> None:
    await known(here.disks)
    stranger = here.disks["cleo"] if wrong == "another shard" else await a_strangers_disk()
    waiting, other = here.ids_on("bert", 1)[0], here.ids_on("cleo", 1)[0]
    client = here.client()
    slow = await client.start(Small, 1, run_id=waiting)
    del here.addresses["bert"]
    member = await here.start_worker()
    late_client = here.client()
    await identity_of(late_client.services.session)
    await asyncio.sleep(QUICK.heartbeat * 3)

    here.addresses["bert"] = stranger
    part = member.worker.maintenance._parts["bert"]
    await asyncio.sleep(QUICK.dead_after * 3)
    assert part._deaths.has_own_beat is False
    assert part.is_leader is False
    assert member.services.is_out_of_reach(RunId(waiting))
    if wrong == "another store":
        assert await names_on(stranger) == set()
    with pytest.raises(StoreUnavailableError, match="shard 'bert' is unavailable"):
        await late_client.start(Small, 1, run_id=here.ids_on("bert", 2)[1])
    assert await (await client.start(Small, 1, run_id=other)).result(timeout=60) == 3
    assert member.worker.health().status == "running"

    here.addresses["bert"] = here.disks["bert"]
    assert await slow.result(timeout=300) == 3
    assert await here.settle() == {}


@pytest.mark.asyncio
async def test_the_first_heartbeat_on_a_server_that_comes_late_waits_until_it_was_looked_at(here: LateCluster) -> None:
    await known(here.disks)
    del here.addresses["bert"]
    session = here.session(0.0)
    await identity_of(session)
    here.addresses["bert"] = stranger = await a_strangers_disk()
    record = new_record(WorkerId("ann"), now_ms=1, queues=(), workflows=(), concurrency=1)
    signs = Signs(session, lambda: record, lambda: None, interval_seconds=2.0, dead_after_seconds=8.0)
    await signs.begin()
    assert [signs.succeeded[number] for number in range(3)] == [1, 0, 1]
    assert await names_on(stranger) == set()
    here.addresses["bert"] = here.disks["bert"]
    await signs.begin()
    assert signs.succeeded[1] == 1
    assert await names_on(here.disks["bert"]) == {"ann"}


@pytest.mark.asyncio
async def test_a_server_that_refuses_the_login_when_it_is_back_stops_only_its_own_runs(here: LateCluster) -> None:
    await known(here.disks)
    del here.addresses["bert"]
    member = await here.start_worker()
    await asyncio.sleep(QUICK.heartbeat)
    here.refused.add("bert")
    await asyncio.sleep(QUICK.heartbeat * 3)
    other = here.ids_on("anna", 1)[0]
    assert await (await here.client().start(Small, 1, run_id=other)).result(timeout=60) == 3
    assert member.services.is_out_of_reach(RunId(here.ids_on("bert", 1)[0]))
    assert not member.task.done()


@pytest.mark.asyncio
async def test_a_new_server_that_comes_late_is_told_who_it_is(here: LateCluster) -> None:
    del here.addresses["bert"]
    session = here.session(0.0)
    made = await identity_of(session)
    here.addresses["bert"] = here.disks["bert"]
    await session.parts[1].read(Read(slot=SYSTEM_SLOT))
    with pytest.raises(ConfigurationError, match="This server is shard 'bert' of anna, bert, cleo"):
        await identity_of(session_with(here.disks["bert"], VirtualClock()))
    assert await known(here.disks) == made


@pytest.mark.asyncio
async def test_a_server_of_another_store_that_comes_late_is_noticed_beside_servers_that_were_new(
    here: LateCluster,
) -> None:
    del here.addresses["bert"]
    session = here.session(0.0)
    await identity_of(session)
    here.addresses["bert"] = await a_strangers_disk()
    with pytest.raises(StoreUnavailableError, match="do not belong to one store"):
        await session.parts[1].read(Read(slot=SYSTEM_SLOT))


@pytest.mark.asyncio
async def test_a_server_that_is_another_at_the_start_is_refused(here: LateCluster) -> None:
    await known(here.disks)
    here.addresses["bert"] = here.disks["cleo"]
    shards = late_shards({name: partial(here._connect, name) for name in SHARDS})
    await shards["anna"].open()
    with pytest.raises(ConfigurationError, match="This server is shard 'cleo' of anna, bert, cleo"):
        await shards["bert"].open()
