"""What the conductor can do to the store, one function per kind. Whatever it takes away it gives back."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from contextlib import suppress
from typing import Final

import asyncpg
import redis

from floxide_amqp.testing.postgresql_statements import can_log_in, execute
from floxide_amqp.testing.private_postgresql import PrivatePostgreSQL
from floxide_amqp.testing.redis_servers import PrivateRedis
from tests.chaos.stage import Stage
from tests.chaos.stores import Server

AWAY_SECONDS = 30.0
AWAY_BRIEFLY_SECONDS = 5.0
BRIEF_SECONDS = 100.0
"""In less time than this, the store is away only briefly."""

FULL_SECONDS = 6.0
FULL_BRIEFLY_SECONDS = 3.0
UP_SECONDS = 15.0
"""Longest wait for a server to come back by itself after its disk was full."""

LOCK_SECONDS = 5.0
"""Longer than a call of a worker waits for locks, all its tries together."""

SCRIPT_SECONDS = 4.0
TABLES = ("cells", "counters", "log_entries", "index_entries")
LOCKS = ("ACCESS EXCLUSIVE", "SHARE")
"""The first stops readers as well, the second those who write."""


class NotPossibleHereError(Exception):
    """This machine or user does not allow the fault; that is said, and is no failure."""


# --- every store


async def disk_full(stage: Stage, chance: random.Random) -> str:
    if not stage.disk.is_limited:
        raise NotPossibleHereError("no file system may be mounted")
    seconds = FULL_SECONDS if stage.duration >= BRIEF_SECONDS or stage.place.server is None else FULL_BRIEFLY_SECONDS
    taken = await asyncio.to_thread(stage.disk.fill)
    try:
        await asyncio.sleep(seconds)
    finally:
        stage.disk.free()
    told = f"the last {taken >> 20} MB of the store's disk taken for {seconds:g} s"
    if stage.place.server is None or await asyncio.to_thread(_writes_again, stage.place.server):
        return told
    await asyncio.to_thread(stage.place.server.kill)
    await asyncio.to_thread(stage.place.server.start)
    return f"{told}; the server had ended and was started again"


def _writes_again(server: Server) -> bool:
    until = time.monotonic() + UP_SECONDS
    while time.monotonic() < until:
        if isinstance(server, PrivatePostgreSQL):
            is_up = can_log_in(server.url)
        else:
            is_up = "aof_last_write_status:ok" in _info(server)
        if is_up:
            return True
        time.sleep(0.2)
    return False


def _info(server: PrivateRedis) -> str:
    with redis.Redis.from_url(server.url, socket_timeout=5) as client:
        try:
            return "\n".join(f"{name}:{value}" for name, value in client.info("persistence").items())
        except redis.RedisError:
            return ""


# --- a SQLite file

_HOLD_STORE: Final = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


async def store_away(stage: Stage, chance: random.Random) -> str:
    seconds = _away_seconds(stage)
    path = os.fspath(stage.disk.folder / "runs.db")
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOLD_STORE, path, str(seconds))
    await holder.wait()
    return f"another process held the store for {seconds:g} s"


def _away_seconds(stage: Stage) -> float:
    return AWAY_SECONDS if stage.duration >= BRIEF_SECONDS else AWAY_BRIEFLY_SECONDS


# --- a server


def _server(stage: Stage) -> Server:
    assert stage.place.server is not None
    return stage.place.server


async def store_kill(stage: Stage, chance: random.Random) -> str:
    seconds = chance.uniform(0, 3)
    await asyncio.to_thread(_server(stage).kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(_server(stage).start)
    return f"killed with -9, and started again {seconds:.1f} s later"


async def store_restart(stage: Stage, chance: random.Random) -> str:
    await asyncio.to_thread(_server(stage).restart)
    return "stopped in good order and started again"


async def store_suspend(stage: Stage, chance: random.Random) -> str:
    seconds = _away_seconds(stage) * chance.uniform(0.5, 1)
    _server(stage).pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        _server(stage).resume()
    return f"SIGSTOP for {seconds:.1f} s"


async def store_sessions_ended(stage: Stage, chance: random.Random) -> str:
    server = _server(stage)
    if isinstance(server, PrivatePostgreSQL):
        all_of_us = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'floxide_amqp'"
        return f"{len(await asyncio.to_thread(execute, server.url, all_of_us))} sessions terminated"
    ended = await asyncio.to_thread(server.command, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return f"{ended} connections killed by the server"


async def store_lock(stage: Stage, chance: random.Random) -> str:
    """In PostgreSQL, a session that forgets its locks."""
    table, mode = chance.choice(TABLES), chance.choice(LOCKS)
    connection = await asyncpg.connect(_server(stage).url, timeout=5)
    try:
        await connection.execute(f"BEGIN; LOCK TABLE floxide.{table} IN {mode} MODE")
        await asyncio.sleep(LOCK_SECONDS)
    finally:
        connection.terminate()
    return f"another session held a lock on {table} ({mode}) for {LOCK_SECONDS:g} s"


async def script_flush(stage: Stage, chance: random.Random) -> str:
    """Redis forgets the scripts it was given."""
    server = _server(stage)
    assert isinstance(server, PrivateRedis)
    await asyncio.to_thread(server.command, "SCRIPT", "FLUSH")
    return "SCRIPT FLUSH"


async def long_script(stage: Stage, chance: random.Random) -> str:
    """Somebody else's script keeps Redis from everything else, until somebody ends it."""
    server = _server(stage)
    assert isinstance(server, PrivateRedis)
    script = asyncio.create_task(asyncio.to_thread(_run_for_ever, server.url))
    await asyncio.sleep(SCRIPT_SECONDS)
    while not script.done():
        with suppress(redis.RedisError):
            await asyncio.to_thread(server.command, "SCRIPT", "KILL")
        await asyncio.sleep(0.1)
    await script
    return f"somebody's script ran for {SCRIPT_SECONDS:g} s"


def _run_for_ever(url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=60) as client, suppress(redis.ResponseError):  # it is killed
        client.eval("while true do end", 0)
