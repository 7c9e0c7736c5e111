"""What goes wrong with a server and the way to it: nothing is lost, nothing is done twice, and the error says which."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from floxide_amqp.drivers.postgresql import PostgresqlKeyValueStore, connections, key_value
from floxide_amqp.drivers.postgresql.program import locks_of
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import (
    Append,
    Batch,
    Check,
    Clear,
    Committed,
    Conflict,
    Durability,
    Enter,
    Key,
    Put,
    Read,
    Trim,
)
from floxide_amqp.stores.session import Session
from floxide_amqp.testing.postgresql_servers import PostgreSQL, PrivatePostgreSQL, execute
from floxide_amqp.testing.proxy import TcpProxy
from tests.chaos.disk import SmallDisk
from tests.integration.postgresql.support import (
    LOG,
    SLOT,
    commit,
    connected,
    counted,
    guarded,
    once,
    opened,
    schema_of,
    until,
    until_waiting,
)

READ = Read(slot=SLOT, cells=(Key("run", "a"),))


@pytest_asyncio.fixture
async def proxy(postgresql_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(postgresql_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def through(proxy: TcpProxy, postgresql_url: str) -> AsyncIterator[PostgresqlKeyValueStore]:
    async with opened(proxy.url_of(postgresql_url), statement_timeout=60, lock_timeout=60) as store:
        yield store


async def test_a_server_that_is_not_there_is_unavailable_and_nothing_was_applied(proxy: TcpProxy) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        await PostgresqlKeyValueStore.open("postgresql://somebody:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)
    assert caught.value.retryable


async def test_a_commit_whose_reply_is_lost_is_unknown_and_may_have_been_applied(
    through: PostgresqlKeyValueStore, proxy: TcpProxy, postgresql_url: str
) -> None:
    await commit(through, once("first"))
    async with guarded(postgresql_url, schema_of(postgresql_url), "run") as guard:
        lost = asyncio.create_task(through.commit([once("second")]))
        await until_waiting(guard)
        proxy.reset()
        with pytest.raises(CommitOutcomeUnknownError):
            await lost
    await commit(through, once("third"))
    assert await counted(through) == (3, (b"first", b"second", b"third"))


async def test_a_commit_whose_session_is_ended_in_the_server_is_unknown_and_was_not_applied(
    through: PostgresqlKeyValueStore, postgresql_url: str
) -> None:
    async with guarded(postgresql_url, schema_of(postgresql_url), "run") as guard:
        lost = asyncio.create_task(through.commit([once("first")]))
        (waiting,) = await until_waiting(guard)
        await guard.execute(f"SELECT pg_terminate_backend({waiting})")
        with pytest.raises(CommitOutcomeUnknownError):
            await lost
    assert await counted(through) == (0, ())
    await commit(through, once("first"))


@pytest.mark.fault(27)
async def test_a_session_settles_a_lost_reply_by_the_witness_and_nothing_is_doubled(
    through: PostgresqlKeyValueStore, proxy: TcpProxy, postgresql_url: str
) -> None:
    session = Session(through, SystemClock(), patience_seconds=90)
    async with guarded(postgresql_url, schema_of(postgresql_url), "run") as guard:
        call = asyncio.create_task(session.commit(once("first")))
        await until_waiting(guard)
        proxy.blackhole()  # the server's answer will not come through
        await guard.execute("COMMIT")
        async with opened(postgresql_url) as direct:
            await until(lambda: counted_is(direct, 1))
        proxy.reset()
        proxy.pass_through()
        assert isinstance(await call, Committed)
    assert await counted(through) == (1, (b"first",))


async def counted_is(store: PostgresqlKeyValueStore, wanted: int) -> bool:
    return (await counted(store))[0] == wanted


async def test_a_read_cut_off_is_unavailable_and_the_next_one_works(
    through: PostgresqlKeyValueStore, proxy: TcpProxy
) -> None:
    proxy.blackhole()
    read = asyncio.create_task(through.read([READ]))
    await asyncio.sleep(0.05)
    proxy.reset()
    with pytest.raises(StoreUnavailableError):
        await read
    proxy.pass_through()
    await through.read([READ])


async def test_an_answer_that_never_comes_is_given_up(proxy: TcpProxy, postgresql_url: str) -> None:
    async with opened(proxy.url_of(postgresql_url), statement_timeout=0.5, connect_timeout=1.5) as store:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connections, "ANSWER_SLACK_SECONDS", 0.2)
            proxy.blackhole()
            with pytest.raises(CommitOutcomeUnknownError):
                await store.commit([once("first")])
            with pytest.raises(StoreUnavailableError):  # nor can one connect anew
                await store.read([READ])
            proxy.pass_through()
            await store.read([READ])


@pytest.mark.fault(26)
async def test_a_slow_line_only_takes_longer(through: PostgresqlKeyValueStore, proxy: TcpProxy) -> None:
    proxy.delay(0.03)
    await asyncio.gather(*(commit(through, once(f"k{n}")) for n in range(6)))
    assert (await counted(through))[0] == 6


async def test_while_a_server_is_down_waiting_calls_share_one_attempt(
    through: PostgresqlKeyValueStore, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def refused(*arguments: object, **options: object) -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.3)
        raise ConnectionRefusedError("nobody listens")

    await through.read([READ])
    monkeypatch.setattr(asyncpg, "connect", refused)
    proxy.reset()
    calls = [asyncio.create_task(through.read([READ])) for _ in range(12)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert 1 <= attempts <= 12 / 4  # one for each time that the four places of the pool were given out


async def test_a_cancelled_commit_in_the_server_goes_on_and_disturbs_nobody(
    through: PostgresqlKeyValueStore, postgresql_url: str
) -> None:
    async with guarded(postgresql_url, schema_of(postgresql_url), "run") as guard:
        cancelled = asyncio.create_task(through.commit([once("first")]))
        await until_waiting(guard)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await commit(through, once("other", partition="other run"))
    await until(lambda: counted_is(through, 1))


async def test_a_cancelled_commit_that_waits_for_a_connection_is_never_sent(postgresql_url: str) -> None:
    async with (
        opened(postgresql_url, pool_size=1) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run") as guard,
    ):
        first = asyncio.create_task(commit(store, once("first")))
        await until_waiting(guard)
        cancelled = asyncio.create_task(store.commit([once("second")]))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await guard.execute("COMMIT")
        await first
        await commit(store, once("third"))
        assert await counted(store) == (2, (b"first", b"third"))


async def test_a_clear_waits_for_who_writes_to_the_partition(postgresql_url: str) -> None:
    async with (
        opened(postgresql_url) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run") as guard,
    ):
        await commit(store, once("first", partition="other run"))
        clear = asyncio.create_task(store.commit([Batch(slot=SLOT, writes=(Clear("run", 100),))]))
        await until_waiting(guard)
        await guard.execute("COMMIT")
        assert (await clear).outcomes == (Committed(),)


@pytest.mark.fault(32)
async def test_a_lock_that_stays_taken_is_tried_three_times_and_then_unavailable(
    postgresql_url: str,
) -> None:
    async with (
        opened(postgresql_url, lock_timeout=0.2) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run") as guard,
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="lock_timeout"):
            await store.commit([once("first")])
        assert time.monotonic() - began >= 0.6
        await guard.execute("COMMIT")
        await commit(store, once("first"))


@pytest.mark.fault(32)
async def test_a_lock_freed_meanwhile_is_not_noticed(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_value, "TRIES", 300)  # however late this test frees it
    async with (
        opened(postgresql_url, lock_timeout=0.3) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run") as guard,
    ):
        call = asyncio.create_task(commit(store, once("first")))
        await until_waiting(guard)
        await asyncio.sleep(0.5)  # longer than the first try lasts
        await guard.execute("COMMIT")
        await call


async def test_a_statement_that_takes_too_long_is_unavailable(postgresql_url: str) -> None:
    async with (
        opened(postgresql_url, statement_timeout=1.0, lock_timeout=60) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run"),
    ):
        with pytest.raises(StoreUnavailableError, match="statement_timeout"):
            await store.commit([once("first")])
        await commit(store, once("other", partition="other run"))


async def test_where_all_connections_are_busy_calls_wait_and_then_say_so(postgresql_url: str) -> None:
    async with (
        opened(postgresql_url, pool_size=2, connect_timeout=1.5) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run") as guard,
    ):
        busy = [asyncio.create_task(store.commit([once(f"k{n}")])) for n in range(2)]
        await until_waiting(guard, 2)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.read([READ])
        assert "all 2 connections of this process were busy" in str(caught.value)
        await guard.execute("COMMIT")
        await asyncio.gather(*busy)
        await store.read([READ])


async def test_a_group_faulty_in_the_server_applies_nothing_and_leaves_the_connection(
    postgresql_url: str,
) -> None:
    async with opened(postgresql_url, pool_size=1) as store:
        with pytest.raises(StoreError, match="54000") as caught:
            await store.commit([once("first"), Batch(slot=SLOT, writes=(Put(Key("r", random_name(9_000)), b""),))])
        assert not caught.value.retryable
        assert await counted(store) == (0, ())


def random_name(length: int) -> str:
    """Return a name that does not compress, so that no index takes it."""
    chance = random.Random(length)
    return "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(length))


@pytest.mark.fault(32)
async def test_eight_writers_on_overlapping_partitions_never_deadlock(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_value, "TRIES", 1)  # so that a deadlock is not made good in silence
    partitions = [f"run {n}" for n in range(6)]

    async def write(store: PostgresqlKeyValueStore, writer: int) -> None:
        for number in range(12):
            order = partitions[writer % 6 :] + partitions[: writer % 6]
            if writer % 2:
                order.reverse()
            await commit(store, *(once(f"{writer}/{number}", partition=name) for name in order))

    limits = {"lock_timeout": 60, "statement_timeout": 60}
    async with opened(postgresql_url, **limits) as one, opened(postgresql_url, **limits) as other:
        await asyncio.gather(*(write(one if writer < 4 else other, writer) for writer in range(8)))
        for name in partitions:
            count, entries = await counted(one, name)
            assert (count, len(set(entries))) == (96, 96)


async def test_a_deadlock_is_tried_again(postgresql_url: str) -> None:
    async with (
        opened(postgresql_url) as store,
        guarded(postgresql_url, schema_of(postgresql_url), "run") as guard,
    ):
        await guard.execute("SET deadlock_timeout = '10s'")  # so that it is the store's session that finds it
        entry = f'"{schema_of(postgresql_url)}".index_entries'
        await store.commit([Batch(slot=SLOT, writes=(Enter("i", "e"),))])
        await guard.execute(f"COMMIT; BEGIN; UPDATE {entry} SET value = 'theirs'")
        call = asyncio.create_task(store.commit([Batch(slot=SLOT, writes=(*once("first").writes, Enter("i", "e")))]))
        blocked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await until(lambda: guard.fetchval(blocked))
        (lock,) = locks_of([(SLOT, b"run")], space=schema_of(postgresql_url).encode())
        await guard.execute(f"SELECT pg_advisory_xact_lock({lock}); COMMIT")
        assert isinstance((await call).outcomes[0], Committed)
        assert await counted(store) == (1, (b"first",))


async def test_a_read_only_server_says_so(postgresql_url: str) -> None:
    async with opened(postgresql_url) as store:
        await commit(store, once("first"))
    url = f"{postgresql_url}&default_transaction_read_only=on"
    async with opened(url) as store:
        assert await counted(store) == (1, (b"first",))
        with pytest.raises(StoreReadOnlyError):
            await store.commit([once("second")])
        assert not store._connections._idle  # another server may be the primary by now: it is looked for anew


@pytest.mark.xdist_group("own_postgresql")
@pytest.mark.fault(25)
async def test_a_server_killed_under_commits_loses_nothing_it_confirmed_and_does_nothing_twice(
    own_postgresql: PostgreSQL,
) -> None:
    async with opened(own_postgresql.new_database()) as store:
        session = Session(store, SystemClock(), patience_seconds=120)
        stop = asyncio.Event()
        confirmed: list[str] = []

        async def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                name = f"{writer}/{number}"
                one = once(name, token=session.new_token())
                outcome = await session.commit(one)
                if isinstance(
                    outcome, Conflict
                ):  # settled as not applied, then applied after all: its own token is there
                    found = await session.read(Read(slot=SLOT, cells=(Key("run", name),)))
                    assert found.cells[0].value == one.token
                confirmed.append(name)
                number += 1

        writers = [asyncio.create_task(write(n)) for n in range(6)]
        for _ in range(2):
            seen = len(confirmed)
            await until(lambda seen=seen: more_than(confirmed, seen + 50))
            await asyncio.to_thread(own_postgresql.kill)
            await asyncio.to_thread(own_postgresql.start)
        seen = len(confirmed)
        await until(lambda: more_than(confirmed, seen + 50))
        stop.set()
        await asyncio.gather(*writers)
        count, entries = await counted(store)
        assert sorted(entry.decode() for entry in entries) == sorted(confirmed)
        assert count == len(confirmed)


async def more_than(confirmed: list[str], count: int) -> bool:
    return len(confirmed) > count


@pytest.mark.xdist_group("own_postgresql")
async def test_a_server_restarted_is_connected_to_anew(own_postgresql: PostgreSQL) -> None:
    async with opened(own_postgresql.new_database()) as store:
        await commit(store, once("first"))
        await asyncio.to_thread(own_postgresql.restart)
        session = Session(store, SystemClock(), patience_seconds=90)
        assert isinstance(await session.commit(once("second")), Committed)
        assert await counted(store) == (2, (b"first", b"second"))


@pytest.mark.xdist_group("own_postgresql")
async def test_a_server_that_stands_still_answers_when_it_goes_on(own_postgresql: PostgreSQL) -> None:
    async with opened(own_postgresql.new_database()) as store:
        await commit(store, once("first"))
        own_postgresql.pause()
        call = asyncio.create_task(commit(store, once("second")))
        done, _ = await asyncio.wait({call}, timeout=0.5)
        own_postgresql.resume()
        assert not done
        await call
        assert (await counted(store))[0] == 2


@pytest.mark.xdist_group("own_postgresql")
@pytest.mark.fault(30)
async def test_a_full_disk_is_told_and_its_room_is_enough_again(own_postgresql: PostgreSQL, tmp_path: Path) -> None:
    if not isinstance(own_postgresql, PrivatePostgreSQL):
        pytest.skip("needs a server whose disk can be made small")
    disk = SmallDisk(own_postgresql.folder / "small", megabytes=24)
    disk.mount()
    if not disk.is_limited:
        pytest.skip("needs the right to mount a small file system")
    try:
        own_postgresql.own(disk.folder)
        url = own_postgresql.new_database()
        execute(own_postgresql.url, f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        execute(url, "ALTER ROLE CURRENT_USER SET default_tablespace = small")
        async with opened(url) as store:
            await commit(store, once("first"))
            value = random.randbytes(6_000_000)
            disk.fill()
            with pytest.raises(StoreFullError) as caught:
                await store.commit([once("second"), Batch(slot=SLOT, writes=(Put(Key("run", "big"), value),))])
            assert caught.value.retryable
            assert await counted(store) == (1, (b"first",))
            disk.free()
            await commit(store, once("second"), Batch(slot=SLOT, writes=(Put(Key("run", "big"), value),)))
            assert (await counted(store))[0] == 2
        execute(own_postgresql.url, "ALTER ROLE CURRENT_USER RESET default_tablespace")
        execute(own_postgresql.url, f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')
        execute(own_postgresql.url, "DROP TABLESPACE small")
    finally:
        disk.free()
        disk.unmount()


@pytest.mark.xdist_group("own_postgresql")
async def test_without_its_synchronous_standby_a_commit_is_unknown_and_never_lost(
    own_postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(own_postgresql, PrivatePostgreSQL):
        pytest.skip("needs a server whose configuration can be changed")
    url = own_postgresql.new_database()
    async with opened(url) as store:
        await commit(store, once("first"))
    try:
        own_postgresql.reconfigure("synchronous_standby_names = 'nobody'")
        await asyncio.to_thread(own_postgresql.restart)
        monkeypatch.setattr(connections, "ANSWER_SLACK_SECONDS", 0.2)
        async with opened(url, statement_timeout=1.5) as store:
            assert store.durability is Durability.NODE_LOSS
            with pytest.raises(CommitOutcomeUnknownError):
                await store.commit([once("second")])
            assert await counted(store) == (1, (b"first",))  # not there before it is replicated
        async with opened(url, synchronous_commit="local") as store:
            assert store.durability is Durability.POWER_LOSS
    finally:
        own_postgresql.reconfigure("")
        await asyncio.to_thread(own_postgresql.kill)
        await asyncio.to_thread(own_postgresql.start)
    async with opened(url) as store:
        assert await counted(store) == (2, (b"first", b"second"))


async def test_what_a_batch_appends_and_trims_takes_no_room(postgresql_url: str) -> None:
    writes = (Append(LOG, (b"a", b"b", b"c")), Trim(LOG, 2))
    async with opened(postgresql_url) as store, connected(postgresql_url) as admin:
        await commit(store, Batch(slot=SLOT, writes=writes))
        rows = await admin.fetch(f'SELECT position FROM "{schema_of(postgresql_url)}".log_entries')
    assert [row["position"] for row in rows] == [2]


async def test_checks_of_a_group_see_what_was_committed_while_it_waited(postgresql_url: str) -> None:
    cell = Key("run", "a")
    async with opened(postgresql_url) as store:
        await commit(store, Batch(slot=SLOT, writes=(Put(cell, b"1"),)))
        contenders = [Batch(slot=SLOT, checks=(Check(cell, 1),), writes=(Put(cell, b"%d" % n),)) for n in range(4)]
        async with guarded(postgresql_url, schema_of(postgresql_url), "run") as guard:
            calls = [asyncio.create_task(store.commit([contender])) for contender in contenders]
            await until_waiting(guard, 4)
            await guard.execute("COMMIT")
        outcomes = [reply.outcomes[0] for reply in await asyncio.gather(*calls)]
        assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
