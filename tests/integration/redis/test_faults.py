"""One Redis server that is killed, paused, cut off, filled up, restarted."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from floxide_amqp.drivers.redis import RedisKeyValueStore
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    StoreDataLostError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import Append, Clear, Committed, Delete, Key, Put
from floxide_amqp.testing.proxy import TcpProxy
from floxide_amqp.testing.redis_servers import PrivateRedis, Redis
from tests.integration.redis.support import (
    COUNT,
    KEY,
    LOG,
    Writer,
    batch,
    check_nothing_lost_or_doubled,
    everything,
    opened,
    put,
    session_with,
    until,
    value,
)

pytestmark = pytest.mark.xdist_group("own_redis")


@pytest.fixture
def url(own_redis: Redis) -> str:
    """The URL of a store in it that no other test has."""
    return f"{own_redis.url}?prefix=test-{secrets.token_hex(6)}"


@pytest.mark.fault(27, 28)
async def test_eight_writers_lose_and_double_nothing_while_the_server_is_killed_and_started(
    own_redis: Redis, url: str
) -> None:
    async with opened(url) as one, opened(url) as other:
        writers = [Writer(session_with(one if n % 2 else other), f"w{n}") for n in range(8)]
        over = asyncio.Event()
        running = [asyncio.create_task(writer.run(over)) for writer in writers]
        for _ in range(2):
            before = [writer.done for writer in writers]
            await until(lambda: all(w.done > done + 20 for w, done in zip(writers, before, strict=True)))  # noqa: B023 - here
            await asyncio.to_thread(own_redis.kill)
            await asyncio.to_thread(own_redis.start)
        over.set()
        await asyncio.gather(*running)
        assert [writer.errors for writer in writers] == [[]] * 8
        await check_nothing_lost_or_doubled(one, writers)


async def test_a_server_that_is_gone_is_unavailable_and_comes_back_with_its_data(own_redis: Redis, url: str) -> None:
    async with opened(url) as store:
        await put(store, b"before")
        await asyncio.to_thread(own_redis.stop)
        with pytest.raises(StoreUnavailableError, match="Nothing was applied"):
            await put(store, b"lost")
        with pytest.raises(StoreUnavailableError):
            await value(store)
        await asyncio.to_thread(own_redis.start)
        assert await value(store) == b"before"


async def test_a_commit_to_a_paused_server_is_unknown_and_settled_once_it_goes_on(own_redis: Redis, url: str) -> None:
    async with opened(url, timeout="1") as store:
        await put(store, b"before")
        own_redis.pause()
        try:
            with pytest.raises(CommitOutcomeUnknownError, match="did not answer in time"):
                await store.commit([batch(Append(LOG, (b"x",)))])
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                await value(store)
            writer = Writer(session_with(store), "w")
            over = asyncio.Event()
            running = asyncio.create_task(writer.run(over))
            await asyncio.sleep(1.5)  # its first commit has been given up, and lies in the server's socket
        finally:
            own_redis.resume()
        await until(lambda: writer.done >= 3)
        over.set()
        await running
        found = await everything(store)
        assert found.logs[0].entries.count(b"x") <= 1
        own = [entry for entry in found.logs[0].entries if entry != b"x"]
        assert own == [f"w/{n:05d}".encode() for n in range(writer.done)]


@pytest.mark.parametrize("how", ["blackhole", "reset", "cut in the middle"])
async def test_a_commit_that_a_bad_network_swallows_is_settled_and_never_doubled(url: str, how: str) -> None:
    async with TcpProxy.before(url) as proxy, opened(proxy.url_of(url), timeout="0.4") as store:
        writer = Writer(session_with(store), "w")
        over = asyncio.Event()
        running = asyncio.create_task(writer.run(over))
        for _ in range(5):
            done = writer.done
            await until(lambda: writer.done >= done + 5)  # noqa: B023 - awaited here
            if how == "blackhole":
                proxy.blackhole()
                await asyncio.sleep(0.5)
                proxy.pass_through()
            elif how == "reset":
                proxy.reset()
            else:
                proxy.cut_mid_frame()
        over.set()
        await running
        assert writer.errors == []
        await check_nothing_lost_or_doubled(store, [writer])


async def test_a_slow_network_only_makes_calls_slow(url: str) -> None:
    async with TcpProxy.before(url) as proxy, opened(proxy.url_of(url)) as store:
        proxy.delay(0.1)
        await put(store, b"slow")
        assert await value(store) == b"slow"


async def test_scripts_that_the_server_forgot_are_sent_again(own_redis: Redis, url: str) -> None:
    async with opened(url) as store:
        await put(store, b"one")
        own_redis.command("SCRIPT", "FLUSH")
        await put(store, b"two")
        own_redis.command("SCRIPT", "FLUSH")
        assert await value(store) == b"two"


@pytest.mark.fault(30)
async def test_a_full_memory_refuses_whole_groups_and_lets_through_what_makes_room(own_redis: Redis, url: str) -> None:
    async with opened(url) as store:
        await put(store, b"before")
        await store.commit([batch(Put(COUNT, b"x"))])
        used = int(own_redis.command("INFO", "memory")["used_memory"])
        own_redis.command("CONFIG", "SET", "maxmemory", used - 200_000)
        try:
            with pytest.raises(StoreFullError, match="reached maxmemory") as caught:
                await store.commit([batch(Delete(KEY)), batch(Put(KEY, b"after"), Append(LOG, (b"x",)))])
            assert caught.value.retryable
            assert await value(store) == b"before"
            (cleared,) = (await store.commit([batch(Clear("run", 100))])).outcomes
            assert cleared == Committed(cleared=2)
        finally:
            own_redis.command("CONFIG", "SET", "maxmemory", 0)
        await put(store, b"after")
        assert await value(store) == b"after"


async def test_a_full_server_that_starts_again_can_be_read_and_cleared(own_redis: Redis, url: str) -> None:
    async with opened(url) as store:
        await put(store, b"before")
        await asyncio.to_thread(own_redis.restart)
        own_redis.command("CONFIG", "SET", "maxmemory", 1_000)
        try:
            assert await value(store) == b"before"
            (cleared,) = (await store.commit([batch(Clear("run", 100))])).outcomes
            assert cleared == Committed(cleared=1)
        finally:
            own_redis.command("CONFIG", "SET", "maxmemory", 0)


async def test_a_server_that_becomes_a_replica_is_waited_for_and_a_store_there_is_not_opened(
    own_redis: Redis, url: str
) -> None:
    async with opened(url) as store:
        await put(store, b"before")
        own_redis.command("REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(StoreUnavailableError, match="is a replica"):
                await put(store, b"lost")
            with pytest.raises(StoreReadOnlyError, match="name its master"):
                await RedisKeyValueStore.open(url)
        finally:
            own_redis.command("REPLICAOF", "NO", "ONE")
        await put(store, b"after")
        assert await value(store) == b"after"


async def test_an_emptied_server_is_noticed_by_whoever_had_the_store_open(own_redis: Redis, url: str) -> None:
    async with opened(url) as store:
        await put(store, b"before")
        own_redis.command("FLUSHALL")
        with pytest.raises(StoreDataLostError, match="is nothing"):
            await value(store)
        with pytest.raises(StoreDataLostError, match="start the process anew"):
            await put(store, b"x")
        async with opened(url) as anew:
            assert await value(anew) == b""
            with pytest.raises(StoreDataLostError):
                await value(store)


@pytest.mark.fault(31)
@pytest.mark.parametrize("others_go_on_first", [False, True])
async def test_a_server_that_lost_its_last_commits_is_noticed_by_who_saw_them(
    own_redis: Redis, url: str, tmp_path: Path, others_go_on_first: bool
) -> None:
    if not isinstance(own_redis, PrivateRedis):
        pytest.skip("takes the end of a private server's file away")
    async with opened(url) as store, opened(url) as idle:
        await put(store, b"kept")
        assert await value(idle) == b"kept"
        await asyncio.to_thread(own_redis.stop)
        shutil.copytree(own_redis.data, tmp_path / "before")
        await asyncio.to_thread(own_redis.start)
        assert await value(store) == b"kept"
        await put(store, b"lost")
        await asyncio.to_thread(own_redis.kill)
        shutil.rmtree(own_redis.data)
        shutil.copytree(tmp_path / "before", own_redis.data)
        await asyncio.to_thread(own_redis.start)
        if others_go_on_first:
            async with opened(url) as newcomer:
                for n in range(5):
                    await put(newcomer, b"%d" % n)
        with pytest.raises(StoreDataLostError, match="had reported commit"):
            await put(store, b"x")
        assert await value(idle) == (b"4" if others_go_on_first else b"kept")  # saw nothing that is not so


async def test_restarts_that_lose_nothing_alarm_nobody(own_redis: Redis, url: str) -> None:
    async with opened(url) as store, opened(url) as other:
        for n in range(3):
            await put(store, b"%d" % n)
            assert await value(other) == b"%d" % n
            await asyncio.to_thread(own_redis.restart)
        assert await value(other) == b"2"
        assert (await store.commit([batch(Put(KEY, b"x"))])).outcomes == (Committed(),)


async def test_a_server_busy_with_somebodys_endless_script_is_waited_for(own_redis: Redis, url: str) -> None:
    own_redis.command("CONFIG", "SET", "lua-time-limit", 50)
    async with opened(url) as store:
        await put(store, b"before")
        endless = asyncio.create_task(asyncio.to_thread(own_redis.command, "EVAL", "while true do end", 0))
        await until_unavailable(store, "busy with somebody's script")
        with pytest.raises(StoreUnavailableError, match="BUSY"):
            await put(store, b"x")
        own_redis.command("SCRIPT", "KILL")
        own_redis.command("CONFIG", "SET", "lua-time-limit", 5_000)  # else slow scripts of other tests are in fault
        with pytest.raises(Exception, match="killed"):
            await endless
        assert await value(store) == b"before"


async def test_a_server_that_still_loads_its_data_is_waited_for() -> None:
    with PrivateRedis() as server:
        async with opened(f"{server.url}?prefix=test") as store:
            await store.commit([batch(*(Put(Key(f"run-{n}", "a"), bytes(4_000)) for n in range(200)))])
            await put(store, b"before")
            server.command("BGREWRITEAOF")
            await until(lambda: not server.command("INFO", "persistence")["aof_rewrite_in_progress"])
            await asyncio.to_thread(server.stop)
            server.reconfigure("key-load-delay 50000\nloading-process-events-interval-bytes 1024\n")
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await until_unavailable(store, "loading its data")
            await asyncio.to_thread(server.command, "CONFIG", "SET", "key-load-delay", 0)  # 10 s would be long
            await starting
            assert await value(store) == b"before"


async def until_unavailable(store: RedisKeyValueStore, reason: str) -> None:
    """Read until that is refused for this reason."""
    async with asyncio.timeout(90):
        while True:
            try:
                await value(store)
            except StoreUnavailableError as error:
                if reason in str(error):
                    return
            await asyncio.sleep(0.005)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.fault(30)
async def test_a_full_disk_refuses_commits_until_there_is_room(small_disk: Path) -> None:
    with PrivateRedis(folder=small_disk / "data") as server:
        async with opened(f"{server.url}?prefix=test") as store:
            await put(store, b"before")
            block = small_disk / "block"
            fill(block)
            with pytest.raises(StoreFullError, match="cannot write to its disk"):
                await asyncio.wait_for(put_for_ever(store, bytes(20_000)), 90)  # it notices some moments later
            held = await value(store)
            with pytest.raises(StoreFullError):
                await put(store, b"refused")
            assert await value(store) == held
            block.unlink()
            await session_with(store).commit(batch(Put(KEY, b"after")))  # waits until the server has noticed
            assert await value(store) == b"after"


def fill(file: Path) -> None:
    """Write until no space is left."""
    with file.open("wb", buffering=0) as opened_file, contextlib.suppress(OSError):
        while True:
            opened_file.write(bytes(65_536))


async def put_for_ever(store: RedisKeyValueStore, one: bytes) -> None:
    while True:
        await put(store, one)
