from __future__ import annotations

import asyncio
from collections.abc import Callable

from floxide_amqp import Workflow, node
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.stores.identity import identity_of
from floxide_amqp.stores.session import Session
from tests.unit.runtime.cluster import Cluster


@node
async def double(number: int) -> int:
    return 2 * number


class Doubling(Workflow[int, int]):
    start = double


async def test_a_store_keeps_the_identity_it_was_given_first() -> None:
    store, other = MemoryKeyValueStore(), MemoryKeyValueStore()
    sessions = [Session(store, SystemClock()) for _ in range(5)]
    found = await asyncio.gather(*(identity_of(session) for session in sessions))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert await identity_of(Session(other, SystemClock())) != found[0]


async def test_a_worker_with_another_store_gives_messages_back_to_those_who_know_them(
    cluster: Callable[..., Cluster],
) -> None:
    ours, theirs = cluster(Doubling), cluster(Doubling)
    theirs.queue = ours.queue
    stranger = await theirs.start_worker()
    stranger.services.store_id = "theirs"
    client = ours.client()
    client.services.store_id = "ours"
    handle = await client.start(Doubling, 21, run_id="run")
    await asyncio.sleep(5)
    assert stranger.worker.health().error_count > 0
    member = await ours.start_worker()
    member.services.store_id = "ours"
    assert await handle.result(30) == 42
    await ours.check_completed("run")
