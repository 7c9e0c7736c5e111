"""Another process that hammers a shared store: ``python -m floxide_amqp.testing.key_value.child OPENER ADDRESS NAME``.

Each round it adds to one counter and, in a loop of read and checked put, raises one cell; it ends with an error if a
snapshot ever shows half a batch.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from functools import reduce
from typing import cast

from floxide_amqp.ports.key_value import Add, Append, Check, Committed, Enter, Key, KeyValueStore, LogRange, Put, Read
from floxide_amqp.testing.key_value.harness import SLOT, attempt, batch, snapshot

ROUNDS = 40
"""Commits each process must bring through."""

CELL, COUNTER, LOG = Key("hammer", "cell"), Key("hammer", "counter"), Key("hammer", "log")


def opener_of(path: str) -> Callable[[str], Awaitable[KeyValueStore]]:
    """Return what ``module:name`` names."""
    module, _, name = path.partition(":")
    found: object = reduce(getattr, name.split("."), importlib.import_module(module))
    return cast("Callable[[str], Awaitable[KeyValueStore]]", found)


async def hammer(store: KeyValueStore, name: str) -> None:
    """Bring `ROUNDS` commits through, against everyone else."""
    for number in range(ROUNDS):
        entry = f"{name}/{number:05d}"
        while not await _raise_by_one(store, entry):
            pass


async def _raise_by_one(store: KeyValueStore, entry: str) -> bool:
    found = await snapshot(store, Read(slot=SLOT, cells=(CELL,), counters=(COUNTER,), logs=(LogRange(LOG, limit=0),)))
    version, value = found.cells[0]
    if not version == int(value or b"0") == found.counters[0] == found.logs[0].length:
        raise RuntimeError(f"A snapshot shows half a batch: {found}")
    writes = (
        Put(CELL, b"%d" % (version + 1)),
        Add(COUNTER, 1),
        Append(LOG, (entry.encode(),)),
        Enter("hammered", entry),
    )
    return isinstance(await attempt(store, batch(*writes, checks=(Check(CELL, version),))), Committed)


async def _main(opener: str, address: str, name: str) -> None:
    store = await opener_of(opener)(address)
    try:
        await hammer(store, name)
    finally:
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:4]))
