from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, Synchronous
from floxide_amqp.ports.key_value import IndexRange, Key, LogRange, Read

GROUP = 5
ROUNDS = 7

CHILD = f"""
import asyncio, sys
from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, Synchronous
from floxide_amqp.ports.key_value import *

async def main(path, synchronous):
    store = await SqliteKeyValueStore.open(path, synchronous=Synchronous(synchronous))
    key = Key("run", "a")
    read = Read(slot=Slot(1), counters=(key,))
    number = (await store.read([read])).snapshots[0].counters[0]
    while True:
        batches = []
        for _ in range({GROUP}):
            number += 1
            value = b"%d" % number
            checks = (Check(key, number - 1), CheckLength(key, number - 1))
            writes = (Put(key, value), Add(key, 1), Append(key, (value * 50,)), Enter("i", f"{{number:08d}}", value))
            batches.append(Batch(slot=Slot(1), checks=checks, writes=writes))
        reply = await store.commit(batches)
        assert all(isinstance(outcome, Committed) for outcome in reply.outcomes)
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def commit_until_killed(path: Path, synchronous: Synchronous, commits: int) -> int:
    """Return the last number the child reported before it was killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), synchronous.value, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(commits)]
    child.kill()
    lines += (await child.stdout.read()).splitlines()
    assert await child.wait() == -signal.SIGKILL
    return int(lines[-1])


@pytest.mark.parametrize("synchronous", list(Synchronous))
async def test_everything_reported_before_kill_9_is_there_and_no_batch_is_half(
    tmp_path: Path, synchronous: Synchronous
) -> None:
    path = tmp_path / "s.db"
    key = Key("run", "a")
    moments = random.Random(20)
    for _ in range(ROUNDS):
        reported = await commit_until_killed(path, synchronous, moments.randint(1, 40))
        store = await SqliteKeyValueStore.open(path)
        read = Read(
            slot=Slot(1),
            cells=(key,),
            counters=(key,),
            logs=(LogRange(key, limit=100_000),),
            indexes=(IndexRange("i", limit=100_000),),
        )
        (found,) = (await store.read([read])).snapshots
        count = found.counters[0]
        assert reported <= count <= reported + GROUP
        assert count % GROUP == 0
        assert found.cells[0] == (count, b"%d" % count)
        assert found.logs[0].entries == tuple(b"%d" % n * 50 for n in range(1, count + 1))
        assert [entry.entry for entry in found.indexes[0]] == [f"{n:08d}" for n in range(1, count + 1)]
        await store.aclose()
