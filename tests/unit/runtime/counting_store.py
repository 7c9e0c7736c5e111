"""A store in memory that counts how often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.ports.key_value import Batch, CommitReply, Read, ReadReply


class CountingStore(MemoryKeyValueStore):
    """A memory store that counts round trips, each of which takes a turn of the loop or two."""

    trips = 0

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        self.trips += 1
        await asyncio.sleep(0)
        return await super().commit(batches)

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        self.trips += 1
        await asyncio.sleep(0)
        return await super().read(reads)
