"""What a store of several servers says of a group that concerns some of them, and fails on all."""

from __future__ import annotations

import random

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.exceptions import CommitOutcomeUnknownError
from floxide_amqp.ports.key_value import Batch, Key, Put
from floxide_amqp.testing.faults import FaultyKeyValueStore


@pytest.mark.parametrize("lossy", ["anna", "bert"])
async def test_a_group_of_which_one_server_may_have_applied_its_part_is_not_safe_to_repeat(lossy: str) -> None:
    shards = {name: FaultyKeyValueStore(MemoryKeyValueStore(), random.Random(0)) for name in ("anna", "bert")}
    store = ShardedKeyValueStore(shards)
    slots = {store.shard_of(Slot(number)): Slot(number) for number in range(64)}
    for name, shard in shards.items():
        if name == lossy:
            shard.lose_next_replies()
        else:
            shard.refuse_next()
    batches = [Batch(slot=slots[name], writes=(Put(Key("run", "a"), b""),)) for name in shards]
    with pytest.raises(CommitOutcomeUnknownError):
        await store.commit(batches)
