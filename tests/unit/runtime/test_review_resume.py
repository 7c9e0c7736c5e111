"""Resuming: what was held, owned or at work when a run stopped goes on exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from floxide_amqp import Context, Hold, NextAll, RunStatus, Workflow, WorkflowCtx, gather, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.ports.key_value import Batch, Enter
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.resuming import AGAIN_AFTER_MS
from floxide_amqp.stores.record_codec import decode_message
from tests.unit.runtime.cluster import QUICK, Cluster
from tests.unit.runtime.waiting_steps import two_steps

MakeCluster = Callable[..., Cluster]


class Nothing(Context):
    seen: int = 0


async def test_a_merge_hold_in_a_closed_fan_out_does_not_close_it_again_after_a_resume(cluster: MakeCluster) -> None:
    joins: list[list[int]] = []
    broken = True

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([1, 2, 3])

    @node
    async def part(ctx: WorkflowCtx[Nothing], x: int) -> int | Hold:
        return Hold() if x == 1 and broken else x

    @node
    async def joined(xs: list[int]) -> int:
        joins.append(xs)
        return sum(xs)

    @node
    async def last(x: int) -> int:
        if broken:
            raise ValueError("not yet")
        return x

    class Merging(Workflow[int, int, Nothing]):
        start = split
        edges = (split >> part >> gather(joined) >> last,)

    here = cluster(Merging)
    await here.start_worker()
    handle = await here.client().start(Merging, 1, run_id="run")
    assert await handle.wait(10) is RunStatus.FAILED
    broken = False
    await handle.resume()
    assert await handle.result(30) == 5
    assert joins == [[2, 3]]
    await asyncio.sleep(60)
    assert here.store.violations == []
    assert here.store.scope_counts("run") == {}


async def test_what_a_dead_worker_owned_in_a_paused_run_goes_on_after_the_resume(cluster: MakeCluster) -> None:
    workflow, second = two_steps()
    here = cluster(workflow)
    victim = await here.start_worker()
    handle = await here.client().start(workflow, 3, run_id="run")
    await second.begun.wait()
    await handle.pause()
    await victim.kill()
    here.queue._queues["default"].clear()  # the broker lost everything, or the queue was in the process that died
    await here.start_worker()
    await asyncio.sleep(60)
    second.go.set()
    await handle.resume()
    assert await handle.result(60) == 3
    await here.check_completed("run")


async def test_a_resume_takes_nothing_from_those_who_work_on_the_run_again(cluster: MakeCluster) -> None:
    bodies: list[int] = []
    broken = True

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(list(range(20)))

    @node
    async def part(x: int) -> int:
        if broken and x == 0:
            raise ValueError("not yet")
        if broken:
            await asyncio.sleep(100)
        return x

    @node(at_most_once=True)
    async def pays(x: int) -> int:
        bodies.append(x)
        await asyncio.sleep(8)
        return x

    @node
    async def joined(xs: list[int]) -> int:
        return len(xs)

    class Paying(Workflow[int, int]):
        start = split
        edges = (split >> part >> pays >> gather(joined),)

    here = cluster(Paying)
    for _ in range(4):
        await here.start_worker()
    handle = await here.client().start(Paying, 1, run_id="run")
    assert await handle.wait(10) is RunStatus.FAILED
    await asyncio.sleep(3)
    broken = False
    client = here.client()

    async def slowly(batches: Sequence[Batch]) -> None:
        await asyncio.sleep(3)

    store: Any = client.services.session._store
    store.after_commit = slowly  # so slowly that somebody else begins to do it again
    await client.resume("run")
    assert await handle.result(60) == 20
    assert sorted(bodies) == list(range(20))
    await here.check_completed("run")


async def test_a_resume_of_many_items_is_over_before_somebody_else_would_repeat_it(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(list(range(900)))

    @node
    async def part(x: int) -> int:
        return x

    @node
    async def joined(xs: list[int]) -> int:
        return len(xs)

    class Wide(Workflow[int, int]):
        start = split
        edges = (split >> part >> gather(joined),)

    here = cluster(Wide)
    member = await here.start_worker()
    client = here.client()
    begun = asyncio.Event()

    async def stop_it(batches: Sequence[Batch]) -> None:
        if len(here.store.leftovers("live:").get("live:run", ())) > 800 and not begun.is_set():
            begun.set()

    member.store.after_commit = stop_it
    handle = await client.start(Wide, 1, run_id="run")
    await begun.wait()
    await handle.pause()
    await asyncio.sleep(5)
    waiting = len(here.store.leftovers("live:")["live:run"])
    assert waiting > 500

    async def round_trip(batches: Sequence[Batch]) -> None:
        await asyncio.sleep(0.02)

    store: Any = client.services.session._store
    store.before_commit = round_trip
    now = asyncio.get_running_loop().time()
    await client.resume("run")
    assert asyncio.get_running_loop().time() - now < AGAIN_AFTER_MS / 1000 / 10
    assert await handle.result(60) == 900
    await here.check_completed("run")


@node
async def split_widely(x: int) -> NextAll[int]:
    return NextAll(list(range(900)))


@node
async def pass_on(x: int) -> int:
    await asyncio.sleep(5)  # so that most of what is brought back waits for its turn
    return x


@node
async def count_them(xs: list[int]) -> int:
    return len(xs)


class Wide(Workflow[int, int]):
    start = split_widely
    edges = (split_widely >> pass_on >> gather(count_them),)


async def paused_and_wide(here: Cluster) -> Any:
    """A run of 900 items that was paused when most of them had not begun; its worker is gone."""
    member = await here.start_worker()
    begun = asyncio.Event()

    async def tell(batches: Sequence[Batch]) -> None:
        if len(here.store.leftovers("live:").get("live:run", ())) > 800:
            begun.set()

    member.store.after_commit = tell
    handle = await here.client().start(Wide, 1, run_id="run")
    await begun.wait()
    await handle.pause()
    await asyncio.sleep(5)
    await member.stop()
    assert len(here.store.leftovers("live:")["live:run"]) > 500
    return handle


def most_messages_of_one_item(*publishers: Any) -> int:
    """How often the item was published that was published most."""
    sent = [decode_message(message.body) for publisher in publishers for message in publisher.published]
    return max(Counter(each.item_id for each in sent if isinstance(each, Envelope)).values())


async def test_a_resume_that_takes_long_is_not_done_a_second_time_meanwhile(cluster: MakeCluster) -> None:
    here = cluster(Wide)
    handle = await paused_and_wide(here)
    client = here.client()

    async def slowly(batches: Sequence[Batch]) -> None:
        await asyncio.sleep(6)

    store: Any = client.services.session._store
    store.before_commit = slowly
    others = [await here.start_worker() for _ in range(2)]
    began = asyncio.get_running_loop().time()
    await client.resume("run")
    assert asyncio.get_running_loop().time() - began > 1.2 * AGAIN_AFTER_MS / 1000
    assert await handle.result(600) == 900
    assert most_messages_of_one_item(client.services.queue, *(other.queue for other in others)) == 1
    await here.check_completed("run")


async def test_what_another_brings_back_of_a_large_run_keeps_no_round_from_its_end_and_is_done_once(
    cluster: MakeCluster,
) -> None:
    here = cluster(Wide, timeouts=replace(QUICK, early_acknowledge=3.0))
    handle = await paused_and_wide(here)
    client = here.client()
    store: Any = client.services.session._store

    async def die(batches: Sequence[Batch]) -> None:
        store.cut()

    store.after_commit = die  # the run goes on, and whoever resumed it is gone
    task = asyncio.create_task(client.resume("run"))
    await asyncio.sleep(1)
    task.cancel()
    others = [await here.start_worker() for _ in range(2)]

    async def slowly(batches: Sequence[Batch]) -> None:
        if any(isinstance(write, Enter) and write.index.startswith("messages:") for b in batches for write in b.writes):
            await asyncio.sleep(2)

    for other in others:
        other.store.before_commit = slowly
    rounds = 900 / (2 * here.limits.concurrency)  # of some 10 seconds each: slow commits, and the node
    assert await handle.result(AGAIN_AFTER_MS / 1000 + 10 * rounds + 600) == 900
    assert most_messages_of_one_item(client.services.queue, *(other.queue for other in others)) == 1
    await here.check_completed("run")


async def test_a_stop_of_a_former_life_does_not_interrupt_the_run_that_was_resumed(cluster: MakeCluster) -> None:
    begun = asyncio.Event()

    @node(at_most_once=True)
    async def pays(x: int) -> int:
        begun.set()
        await asyncio.sleep(1)
        return x

    class Paying(Workflow[int, int]):
        start = pays
        edges = ()

    here = cluster(Paying)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Paying, 1, run_id="run")
    await begun.wait()
    await client.services.broadcast(ControlKind.STOP, RunId("run"))
    assert await handle.result(30) == 1
