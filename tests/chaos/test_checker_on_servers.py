"""The checker and its readers, shown failing on stores in PostgreSQL and in Redis that were corrupted on purpose."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgpack
import pytest
import pytest_asyncio
import redis

from floxide_amqp.testing.postgresql_fixtures import postgresql_database
from floxide_amqp.testing.postgresql_servers import execute
from floxide_amqp.testing.redis_fixtures import redis_server_url
from tests.chaos.checker import check
from tests.chaos.finished import FINISHED, FLAKY_RUN, LEFT_ENTRY, RUN, finish_orders
from tests.chaos.store_reader import StoreAwayError, open_reader, save

__all__ = ["postgresql_database", "redis_server_url"]

TABLES = ("cells", "counters", "log_entries", "index_entries")
MESSAGE = msgpack.packb([1, RUN, "x", 1, "w9"])
SLOT_ZERO = b"\0\x80\0\0\0"
"""What a member of an index in Redis ends with."""

Finished = tuple[Path, str]
"""What others saw, and where the store is."""


def new_name() -> str:
    return f"checked_{secrets.token_hex(6)}"


# --- PostgreSQL


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_postgresql(tmp_path_factory: pytest.TempPathFactory, postgresql_database: str) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    store = f"{postgresql_database}?schema={new_name()}"
    await finish_orders(folder, store, groups=True)
    return folder, store


def copied_schema(store: str) -> str:
    parts = urlsplit(store)
    old, new = parse_qs(parts.query)["schema"][0], new_name()
    server = parts._replace(query="").geturl()
    execute(server, f"CREATE SCHEMA {new}")
    for table in TABLES:
        execute(server, f"CREATE TABLE {new}.{table} AS TABLE {old}.{table}")
    return f"{server}?schema={new}"


def sql(statement: str) -> Callable[[str], None]:
    """Change a store; the statement, in which names stand as text, must change something."""

    def corrupt(store: str) -> None:
        parts = urlsplit(store)
        schema = parse_qs(parts.query)["schema"][0]
        changed = execute(parts._replace(query="").geturl(), statement.replace("@", f"{schema}.") + " RETURNING 1")
        assert changed

    return corrupt


def left_entry(index: str) -> Callable[[str], None]:
    return sql(f"INSERT INTO @index_entries VALUES ('{index}', '{LEFT_ENTRY}', 0, '\\x{MESSAGE.hex()}')")


RUN_LOG = f"partition = '{RUN}' AND name ="

IN_POSTGRESQL: dict[str, tuple[Callable[[str], None], str, str]] = {
    "an item's completion is gone": (
        sql(f"DELETE FROM @log_entries WHERE {RUN_LOG} 'h' AND position = 3"), "lost", "I2",
    ),
    "an item ended twice": (
        sql(f"INSERT INTO @log_entries SELECT slot, partition, name, 999, value FROM @log_entries WHERE {RUN_LOG} 'h' "
            "AND position = 3"), "duplicated", "I2",
    ),
    "an item is missing": (
        sql(f"DELETE FROM @cells WHERE partition = '{RUN}' AND name = (SELECT name FROM @cells WHERE "
            f"partition = '{RUN}' AND name LIKE 'i:%' ORDER BY name DESC LIMIT 1)"), "lost", "I5",
    ),
    "a run is gone": (sql(f"DELETE FROM @cells WHERE partition = '{RUN}'"), "lost", "I1"),
    "a run is still running": (
        sql(f"UPDATE @cells SET value = decode(replace(encode(value, 'hex'), '{b'completed'.hex()}', "
            f"'{b'suspended'.hex()}'), 'hex') WHERE {RUN_LOG} 'state'"), "lost", "I1",
    ),
    "a completion was counted twice": (
        sql(f"UPDATE @counters SET value = value + 1 WHERE {RUN_LOG} 'c:completed'"), "duplicated", "I3",
    ),
    "a result came twice": (
        sql("INSERT INTO @index_entries SELECT name, entry || 'x', slot, value FROM @index_entries WHERE "
            f"name = 'in:{RUN}:'"), "duplicated", "I5",
    ),
    "the join lacks an arrival": (
        sql(f"DELETE FROM @index_entries WHERE name LIKE 'in:{RUN}:%' AND entry LIKE '00000001%'"), "lost", "I4",
    ),
    "a change of the context is gone": (
        sql(f"DELETE FROM @log_entries WHERE {RUN_LOG} 'x' AND position = 1"), "wrong", "I5",
    ),
    "a failed attempt counts twice": (
        sql("INSERT INTO @log_entries SELECT slot, partition, name, 999, value FROM @log_entries WHERE "
            f"partition = '{FLAKY_RUN}' AND name = 'e' AND position = 0"), "duplicated", "I6",
    ),
    "an item is listed live": (left_entry(f"live:{RUN}"), "leaked", "I3"),
    "a message entry is left": (left_entry("messages:default"), "leaked", "I9"),
    "a run still waits for a signal": (left_entry("in:signals-waiting-0:waits"), "leaked", "I9"),
    "a run still has a ticket for a key": (left_entry("in:flow-keys-0:tickets"), "leaked", "I14"),
    "somebody still waits for a key": (left_entry("in: limit:desk/desk-0:tickets"), "leaked", "I14"),
    "a parent does not know its child": (
        sql("DELETE FROM @cells WHERE partition = 'children-waited-0' AND name LIKE 'k:%'"), "lost", "I17",
    ),
    "what was done by hand is not in the audit log": (
        sql("DELETE FROM @log_entries WHERE partition = 'control-given-8' AND name = 'a'"), "wrong", "I18",
    ),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", IN_POSTGRESQL)
async def test_what_was_corrupted_in_postgresql_is_reported(in_postgresql: Finished, name: str) -> None:
    folder, store = in_postgresql
    corrupt, kind, invariant = IN_POSTGRESQL[name]
    copy = copied_schema(store)
    corrupt(copy)
    found = {(violation.kind, violation.invariant) for violation in check(folder, reader=open_reader(copy)).violations}
    assert (kind, invariant) in found


# --- Redis


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_redis(tmp_path_factory: pytest.TempPathFactory, redis_server_url: str) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    store = f"{redis_server_url}?prefix={new_name()}"
    await finish_orders(folder, store, groups=True)
    return folder, store


class Keys:
    """The keys of a store."""

    def __init__(self, store: str) -> None:
        parts = urlsplit(store)
        self.client = redis.Redis.from_url(parts._replace(query="").geturl())
        self.prefix = parse_qs(parts.query)["prefix"][0]

    def like(self, pattern: str) -> list[bytes]:
        """The keys of a pattern, at least one."""
        found = sorted(self.client.scan_iter(f"{self.prefix}{{0}}:{pattern}", count=1_000))
        assert found
        return found

    def records(self, run: str) -> bytes:
        (found,) = self.like(f"r:*:{run}")
        return found

    def log(self, run: str, name: str) -> bytes:
        (found,) = self.like(f"l:*:{run}:{name}")
        return found

    def key(self, name: str) -> str:
        return f"{self.prefix}{{0}}:{name}"


def copied_prefix(store: str) -> str:
    old, new = Keys(store), new_name()
    for key in old.like("*"):
        old.client.copy(key, key.replace(old.prefix.encode(), new.encode(), 1))
    old.client.close()
    return store.replace(old.prefix, new)


def remove_from_log(keys: Keys, run: str, name: str, position: int) -> None:
    keys.client.lset(keys.log(run, name), position, b"away with it")
    assert keys.client.lrem(keys.log(run, name), 1, b"away with it") == 1


def repeat_in_log(keys: Keys, run: str, name: str, position: int) -> None:
    entry = keys.client.lindex(keys.log(run, name), position)
    assert entry is not None
    keys.client.rpush(keys.log(run, name), entry)


def remove_item(keys: Keys) -> None:
    fields = sorted(field for field in keys.client.hkeys(keys.records(RUN)) if field.startswith(b"ci:"))
    assert keys.client.hdel(keys.records(RUN), fields[-1]) == 1


def remove_cells(keys: Keys, run: str, beginning: bytes) -> None:
    fields = [field for field in keys.client.hkeys(keys.records(run)) if field.startswith(beginning)]
    assert keys.client.hdel(keys.records(run), *fields) == len(fields) > 0


def leave_running(keys: Keys) -> None:
    state = keys.client.hget(keys.records(RUN), "cstate")
    assert state is not None
    assert b"completed" in state
    keys.client.hset(keys.records(RUN), "cstate", state.replace(b"completed", b"suspended"))


def repeat_result(keys: Keys) -> None:
    index, values = keys.key(f"i:in:{RUN}:"), keys.key(f"x:in:{RUN}:")
    (member,) = keys.client.zrange(index, 0, -1)
    value = keys.client.hget(values, member)
    again = member[: -len(SLOT_ZERO)] + b"x" + member[-len(SLOT_ZERO) :]
    assert keys.client.zadd(index, {again: 0}) == 1
    keys.client.hset(values, again, value)


def remove_arrival(keys: Keys) -> None:
    removed = 0
    for index in keys.like(f"i:in:{RUN}:?*"):
        members = [member for member in keys.client.zrange(index, 0, -1) if member.startswith(b"00000001")]
        removed += keys.client.zrem(index, *members) if members else 0
    assert removed


def leave_entry(keys: Keys, index: str) -> None:
    member = LEFT_ENTRY.encode() + SLOT_ZERO
    assert keys.client.zadd(keys.key(f"i:{index}"), {member: 0}) == 1
    keys.client.hset(keys.key(f"x:{index}"), member, MESSAGE)


IN_REDIS: dict[str, tuple[Callable[[Keys], object], str, str]] = {
    "an item's completion is gone": (lambda keys: remove_from_log(keys, RUN, "h", 3), "lost", "I2"),
    "an item ended twice": (lambda keys: repeat_in_log(keys, RUN, "h", 3), "duplicated", "I2"),
    "an item is missing": (remove_item, "lost", "I5"),
    "a run is gone": (lambda keys: keys.client.delete(keys.records(RUN)), "lost", "I1"),
    "a run is still running": (leave_running, "lost", "I1"),
    "a completion was counted twice": (
        lambda keys: keys.client.hincrby(keys.records(RUN), "nc:completed", 1), "duplicated", "I3",
    ),
    "a result came twice": (repeat_result, "duplicated", "I5"),
    "the join lacks an arrival": (remove_arrival, "lost", "I4"),
    "a change of the context is gone": (lambda keys: remove_from_log(keys, RUN, "x", 1), "wrong", "I5"),
    "a failed attempt counts twice": (lambda keys: repeat_in_log(keys, FLAKY_RUN, "e", 0), "duplicated", "I6"),
    "an item is listed live": (lambda keys: leave_entry(keys, f"live:{RUN}"), "leaked", "I3"),
    "a message entry is left": (lambda keys: leave_entry(keys, "messages:default"), "leaked", "I9"),
    "a run still waits for a signal": (
        lambda keys: leave_entry(keys, "in:signals-waiting-0:waits"), "leaked", "I9",
    ),
    "a run still has a ticket for a key": (lambda keys: leave_entry(keys, "in:flow-keys-0:tickets"), "leaked", "I14"),
    "somebody still waits for a key": (
        lambda keys: leave_entry(keys, "in: limit:desk/desk-0:tickets"), "leaked", "I14",
    ),
    "a parent does not know its child": (
        lambda keys: remove_cells(keys, "children-waited-0", b"ck:"), "lost", "I17",
    ),
    "what was done by hand is not in the audit log": (
        lambda keys: keys.client.delete(keys.log("control-given-8", "a")), "wrong", "I18",
    ),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", IN_REDIS)
async def test_what_was_corrupted_in_redis_is_reported(in_redis: Finished, name: str) -> None:
    folder, store = in_redis
    corrupt, kind, invariant = IN_REDIS[name]
    copy = copied_prefix(store)
    keys = Keys(copy)
    corrupt(keys)
    keys.client.close()
    found = {(violation.kind, violation.invariant) for violation in check(folder, reader=open_reader(copy)).violations}
    assert (kind, invariant) in found


# --- both


@pytest.fixture(params=["in_postgresql", "in_redis"])
def finished(request: pytest.FixtureRequest) -> Finished:
    found: Finished = request.getfixturevalue(request.param)
    return found


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_is_reported_of_a_server_where_all_is_well(finished: Finished) -> None:
    folder, store = finished
    for url in (store, (copied_schema if store.startswith("postgresql") else copied_prefix)(store)):
        findings = check(folder, reader=open_reader(url))
        assert [str(violation) for violation in findings.violations] == []
        assert findings.uncovered == []
        assert findings.joins == findings.heard == len(FINISHED)
        assert findings.retries > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_saved_from_a_server_is_checked_alike(finished: Finished, tmp_path: Path) -> None:
    folder, store = finished
    save(open_reader(store).tables, tmp_path / "runs.db")
    findings = check(folder, reader=open_reader(f"sqlite:///{tmp_path}/runs.db"))
    assert findings == check(folder, reader=open_reader(store))
    assert findings.runs["completed"] > len(FINISHED)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("url", ["postgresql://u:p@127.0.0.1:1/db", "redis://127.0.0.1:1/0"])
async def test_a_server_that_is_away_is_told_from_a_store_that_is_wrong(url: str) -> None:
    with pytest.raises(StoreAwayError):
        await asyncio.to_thread(open_reader(url).open_runs)
