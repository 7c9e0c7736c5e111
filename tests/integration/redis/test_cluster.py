"""A Redis Cluster of which nodes are killed and hash slots move."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.redis import RedisKeyValueStore
from floxide_amqp.drivers.redis.layout import CLUSTER_TAGS, hash_slot, tag_names
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    InvalidBatchError,
    StoreCorruptError,
    StoreDataLostError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Committed,
    Delete,
    Enter,
    IndexRange,
    Key,
    Leave,
    LogRange,
    Put,
    Read,
)
from floxide_amqp.testing.redis_cluster import RedisCluster
from floxide_amqp.testing.redis_servers import PrivateRedis
from tests.integration.redis.support import (
    COUNT,
    KEY,
    Writer,
    batch,
    check_nothing_lost_or_doubled,
    opened,
    put,
    session_with,
    until,
    value,
)

pytestmark = pytest.mark.xdist_group("own_redis_cluster")

ALL = [Slot(n) for n in range(-1, 63)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    try:
        made = RedisCluster(configuration="cluster-require-full-coverage no\n")
    except ConfigurationError as error:
        pytest.skip(f"needs Redis installed: {error}")
    with made:
        yield made


@pytest.fixture
def url(cluster: RedisCluster) -> str:
    """The URL of a store in it that no other test has."""
    return f"{cluster.url}?prefix=test-{secrets.token_hex(6)}"


def slots_by_node(cluster: RedisCluster) -> list[list[Slot]]:
    """The slots of the store that each node has, as the node itself says."""
    names = tag_names(CLUSTER_TAGS)
    mine: list[list[Slot]] = []
    for node in cluster.nodes:
        own = node.command("CLUSTER", "MYID").decode()
        ranges = [
            range(int(first), int(last) + 1)
            for line in str(raw(node, "CLUSTER", "NODES")).splitlines()
            if line.startswith(own)
            for first, _, last in (part.partition("-") for part in line.split()[8:] if part[0].isdigit())
            for last in (last or first,)
        ]
        mine.append([Slot(n) for n in range(CLUSTER_TAGS) if any(hash_slot(names[n]) in one for one in ranges)])
    return mine


def raw(node: PrivateRedis, *words: str | bytes | int) -> Any:
    """What a node says, as text; redis-py takes some replies apart."""
    return node.command("EVAL", "return redis.call(unpack(ARGV))", 0, *words).decode()


async def test_the_slots_of_a_store_are_spread_evenly(cluster: RedisCluster, url: str) -> None:
    async with opened(url) as store:
        for slot in ALL:
            await put(store, b"%d" % slot, slot=slot)
        assert [await value(store, slot=slot) for slot in ALL] == [b"%d" % slot for slot in ALL]
    assert sorted(map(len, slots_by_node(cluster))) == [21, 21, 22]


async def test_a_scan_over_all_nodes_is_in_order_however_uneven_they_are(cluster: RedisCluster, url: str) -> None:
    async with opened(url) as store:
        entries = {f"{n:04d}": Slot(5 if n < 300 else n % 64) for n in range(900)}
        for slot in {*entries.values()}:
            mine = [entry for entry, home in entries.items() if home == slot]
            await store.commit([batch(*(Enter("i", entry, entry.encode()) for entry in mine), slot=slot)])
        for limit in (1, 10, 100, 1_000):
            found = await store.scan(IndexRange("i", limit=limit))
            assert [(one.entry, one.value, one.slot) for one in found] == [
                (entry, entry.encode(), entries[entry]) for entry in sorted(entries)[:limit]
            ]
            found = await store.scan(IndexRange("i", before="0600", limit=limit, reverse=True))
            assert [one.entry for one in found] == sorted(entries)[:600][::-1][:limit]


async def test_a_group_faulty_in_one_slot_leaves_the_others_alone(url: str) -> None:
    async with opened(url) as store:
        faulty = batch(Add(COUNT, 1), Add(COUNT, (1 << 63) - 1), slot=Slot(40))
        with pytest.raises(InvalidBatchError, match="leaves 64 bits"):
            await store.commit([batch(Put(KEY, b"x"), slot=slot) for slot in ALL[:5]] + [faulty])
        assert [await value(store, slot=slot) for slot in ALL[:5]] == [b""] * 5


async def test_a_group_found_faulty_too_late_is_settled_batch_by_batch(url: str) -> None:
    async with opened(url) as store:
        full = Slot(40)
        await store.commit([batch(Add(COUNT, (1 << 63) - 1), slot=full)])
        with pytest.raises(CommitOutcomeUnknownError):
            await store.commit([batch(Put(KEY, b"x"), slot=Slot(1)), batch(Add(COUNT, 1), slot=full)])
        session = session_with(store)
        outcomes = await asyncio.gather(
            session.commit(batch(Put(KEY, b"y"), slot=Slot(1))),
            session.commit(batch(Add(COUNT, 1), slot=full)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], Committed)
        assert isinstance(outcomes[1], InvalidBatchError)


async def test_a_node_that_is_down_stops_only_its_slots(cluster: RedisCluster, url: str) -> None:
    down, up, _ = slots_by_node(cluster)
    async with opened(url, timeout="2") as store:
        await asyncio.gather(*(put(store, b"before", slot=slot) for slot in (down[0], up[0])))
        await asyncio.to_thread(cluster.nodes[0].kill)
        try:
            with pytest.raises(StoreUnavailableError, match="Nothing was applied"):
                await put(store, b"lost", slot=down[0])
            await put(store, b"after", slot=up[0])
            assert await value(store, slot=up[0]) == b"after"
            both = [batch(Put(KEY, b"both"), slot=slot) for slot in (down[0], up[0])]
            with pytest.raises(CommitOutcomeUnknownError):
                await store.commit(both)
            with pytest.raises(StoreUnavailableError):
                await store.scan(IndexRange("i"))
        finally:
            await asyncio.to_thread(cluster.nodes[0].start)
            await asyncio.to_thread(cluster.wait_until_whole)
        assert (await session_with(store).commit(both[0])) == Committed()
        assert [await value(store, slot=slot) for slot in (down[0], up[0])] == [b"both", b"both"]


async def test_writers_go_on_while_their_slot_moves_to_another_node(cluster: RedisCluster, url: str) -> None:
    slot = slots_by_node(cluster)[0][3]
    async with opened(url) as store, opened(url) as other:
        writers = [Writer(session_with(one), name, slot) for one, name in ((store, "a"), (other, "b"))]
        over = asyncio.Event()
        running = [asyncio.create_task(writer.run(over)) for writer in writers]
        await until(lambda: all(writer.done > 10 for writer in writers))
        await asyncio.to_thread(move, cluster, slot, 0, 1)
        before = [writer.done for writer in writers]
        await until(lambda: all(writer.done > n + 10 for writer, n in zip(writers, before, strict=True)))
        await asyncio.to_thread(move, cluster, slot, 1, 0)
        over.set()
        await asyncio.gather(*running)
        assert [writer.errors for writer in writers] == [[], []]
        await check_nothing_lost_or_doubled(store, writers, slot)


@contextmanager
def moving(cluster: RedisCluster, slot: Slot) -> Iterator[None]:
    """Let a node be about to hand a slot over while the block is open; no key has moved."""
    number = hash_slot(tag_names(CLUSTER_TAGS)[slot])
    giving, taking = cluster.nodes[:2]
    giver, taker = (node.command("CLUSTER", "MYID").decode() for node in (giving, taking))
    taking.command("CLUSTER", "SETSLOT", number, "IMPORTING", giver)
    giving.command("CLUSTER", "SETSLOT", number, "MIGRATING", taker)
    try:
        yield
    finally:
        for node in (taking, giving):
            node.command("CLUSTER", "SETSLOT", number, "STABLE")


async def test_a_commit_that_takes_away_more_than_there_is_is_whole_while_its_slot_moves(
    cluster: RedisCluster, url: str
) -> None:
    slot = slots_by_node(cluster)[0][5]
    async with opened(url) as store:
        await put(store, b"old", slot=slot)
        await store.commit([batch(Enter("i", "0", b"value"), slot=slot)])
        with moving(cluster, slot):
            leaves = (Leave("i", str(number)) for number in range(5_000))  # the first empties what they are taken from
            (outcome,) = (await store.commit([batch(Put(KEY, b"new"), *leaves, slot=slot)])).outcomes
            assert isinstance(outcome, Committed)
        assert await value(store, slot=slot) == b"new"
        assert await store.scan(IndexRange("i")) == []


async def test_a_commit_that_empties_a_key_and_fills_it_again_is_whole_while_its_slot_moves(
    cluster: RedisCluster, url: str
) -> None:
    slot = slots_by_node(cluster)[0][4]
    log = Key("other", "log")
    async with opened(url) as store:
        await put(store, b"old", slot=slot)
        await store.commit([batch(Enter("i", "old", b"value"), Append(log, (b"old",)), slot=slot)])
        with moving(cluster, slot):
            writes = (Put(KEY, b"new"), Leave("i", "old"), Enter("i", "new", b"value"), Delete(log))
            after = batch(*writes, Append(log, (b"new",)), slot=slot)
            (outcome,) = (await store.commit([after])).outcomes
            assert isinstance(outcome, Committed)
        read = Read(slot=slot, cells=(KEY,), logs=(LogRange(log),), indexes=(IndexRange("i"),))
        (found,) = (await store.read([read])).snapshots
        assert found.cells[0].value == b"new"
        assert (found.logs[0].entries, found.logs[0].length) == ((b"new",), 1)
        assert [entry.entry for entry in found.indexes[0]] == ["new"]


def move(cluster: RedisCluster, slot: Slot, origin: int, target: int) -> None:
    """Move a slot's keys from node to node as `redis-cli --cluster reshard` does, a few keys at a time."""
    number = hash_slot(tag_names(CLUSTER_TAGS)[slot])
    giving, taking = cluster.nodes[origin], cluster.nodes[target]
    giver, taker = (node.command("CLUSTER", "MYID").decode() for node in (giving, taking))
    taking.command("CLUSTER", "SETSLOT", number, "IMPORTING", giver)
    giving.command("CLUSTER", "SETSLOT", number, "MIGRATING", taker)
    while keys := giving.command("CLUSTER", "GETKEYSINSLOT", number, 3):
        giving.command("MIGRATE", "127.0.0.1", taking.port, "", 0, 5_000, "KEYS", *keys)
    for node in (taking, giving, *cluster.nodes):
        node.command("CLUSTER", "SETSLOT", number, "NODE", taker)


async def test_an_emptied_node_is_noticed_and_the_rest_is_not_opened_as_a_store(
    cluster: RedisCluster, url: str
) -> None:
    mine = slots_by_node(cluster)[2][0]
    async with opened(url) as store:
        await put(store, b"before", slot=mine)
        cluster.nodes[2].command("FLUSHALL")
        with pytest.raises(StoreDataLostError):
            await value(store, slot=mine)
        with pytest.raises(StoreCorruptError, match="of its 64 parts are gone"):
            await RedisKeyValueStore.open(url)


async def test_a_url_of_the_other_kind_says_which_it_must_be(cluster: RedisCluster, redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"begin the store's URL with redis\+cluster://"):
        await RedisKeyValueStore.open(cluster.nodes[0].url)
    with pytest.raises(ConfigurationError, match="begin its URL with redis:// instead"):
        await RedisKeyValueStore.open(redis_url.replace("redis://", "redis+cluster://").replace("/0?", "?"))
