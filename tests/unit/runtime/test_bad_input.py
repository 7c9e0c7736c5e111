"""Hostile messages and damaged records among real runs: runs end, what is bad is seen, nothing spins."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated

import msgpack
import pytest

from floxide_amqp import Context, EventLog, Hold, NextAll, Sum, Workflow, WorkflowCtx, gather, node
from floxide_amqp.core import decide, fan_outs
from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, WorkItemId, slot_of
from floxide_amqp.core.message_records import Envelope, Probe
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import CodecError, RunFailedError, UnreadableRecordError
from floxide_amqp.ports.key_value import Batch, Cell, Delete, Enter, IndexRange, Key, Put, Read
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.unreadable import LEFT_TO_OTHERS_SECONDS
from floxide_amqp.stores import keys
from floxide_amqp.stores import quarantine as quarantines
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.context_records import decode_snapshot, encode_snapshot
from tests.fuzz.hostile import damaged
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Told(Context):
    steps: Annotated[int, Sum()] = 0
    log: EventLog[int] = EventLog()


@node
async def split(ctx: WorkflowCtx[Told], x: int) -> NextAll[int]:
    ctx.state.steps += 1
    return NextAll(range(x))


@node
async def part(ctx: WorkflowCtx[Told], x: int) -> int:
    await asyncio.sleep(0.5)
    ctx.state.steps += 1
    return x


@node
async def total(ctx: WorkflowCtx[Told], xs: list[int]) -> int:
    return sum(xs)


class Summing(Workflow[int, int, Told]):
    start = split
    edges = (split >> part >> gather(total),)


@node
async def wait(ctx: WorkflowCtx[Told], x: int) -> int | Hold:
    if ctx.state.steps:
        return x
    ctx.state.steps += 1
    return Hold(for_=timedelta(seconds=30))


class Waiting(Workflow[int, int, Told]):
    start = wait


@node
async def quick(ctx: WorkflowCtx[Told], x: int) -> int:
    ctx.state.steps += 1
    return x + 1


@node
async def last(ctx: WorkflowCtx[Told], x: int) -> int:
    return x + 1


class Quick(Workflow[int, int, Told]):
    start = quick
    edges = (quick >> last,)


async def put(here: Cluster, run_id: str, key: Key, value: bytes) -> None:
    """Damage a record of a run, as a disk would: its version stays."""
    cells = here.store._slots[slot_of(RunId(run_id))].cells
    cells[key] = Cell(cells[key].version if key in cells else 1, value)


async def bytes_of(here: Cluster, run_id: str, key: Key) -> bytes:
    reply = await here.store.read([Read(slot=slot_of(RunId(run_id)), cells=(key,))])
    return reply.snapshots[0].cells[0].value


async def first_item(here: Cluster, run_id: str) -> WorkItemId:
    return (await here.client().services.runs.load(RunId(run_id))).header.start_item


async def paused_start(here: Cluster, run_id: str) -> tuple[RunHandle[int], WorkItemId]:
    """A run whose first message waits in the queue."""
    handle = await here.client().start(Quick, 1, run_id=run_id)
    return handle, await first_item(here, run_id)


@pytest.mark.fault(35)
async def test_hundreds_of_damaged_messages_among_runs_harm_no_run_and_none_is_lost(cluster: MakeCluster) -> None:
    here = cluster(Summing)
    for _ in range(2):
        await here.start_worker()
    client, chance = here.client(), random.Random(35)
    valid = codec.encode_envelope(
        Envelope(
            run_id=RunId("run-1"),
            item_id=WorkItemId("a" * 32),
            node="part",
            workflow="Summing",
            version="1",
            queue="default",
            turn=1,
            scope=(),
            position=3,
            entry="01700000000000:x:1",
        )
    )
    probe = codec.encode_probe(Probe(queue="default", number=1, before=""))
    bodies = [damaged(chance.choice([valid, probe]), seed) for seed in range(400)]
    bodies += [chance.randbytes(chance.randint(0, 90)) for _ in range(100)]
    runs = [await client.start(Summing, 5, run_id=f"run-{number}") for number in range(6)]
    for start in range(0, len(bodies), 50):
        await here.queue.publish([Message(queue="default", body=body) for body in bodies[start : start + 50]])
        await asyncio.sleep(0.3)
    for run in runs:
        assert await run.result(timeout=600) == 10
    for run in runs:
        await here.check_completed(run.run_id)
    await asyncio.sleep(2 * LEFT_TO_OTHERS_SECONDS)
    assert await here.queue.depth("default") == 0
    kept = await everything_quarantined(here)
    assert set(kept) == {body for body in bodies if _is_refused(body)}
    assert len(kept) > 400


def _is_refused(body: bytes) -> bool:
    try:
        codec.decode_message(body)
    except CodecError:
        return True
    return False


async def everything_quarantined(here: Cluster) -> list[bytes]:
    return [each.body for each in await here.client().quarantine(limit=10_000)]


def deliveries(here: Cluster) -> int:
    return sum(member.services.figures.deliveries for member in here.members)


async def test_a_run_with_a_damaged_item_fails_and_says_which_and_goes_on_once_it_is_repaired(
    cluster: MakeCluster,
) -> None:
    here = cluster(Quick)
    handle, item_id = await paused_start(here, "run")
    key = keys.item(RunId("run"), item_id)
    sound = await bytes_of(here, "run", key)
    await put(here, "run", key, sound[:-3])
    (shown,) = await here.client().pending_work("run")
    assert (shown.item_id, shown.status) == (item_id, WorkItemStatus.PENDING)
    assert "This is not a work item" in shown.note
    await here.start_worker()
    with pytest.raises(RunFailedError, match=f"'run/i:{item_id}' cannot be read: This is not a work item"):
        await handle.result(timeout=60)
    await asyncio.sleep(60)
    assert deliveries(here) < 20  # the message, and probes
    with pytest.raises(UnreadableRecordError):
        await handle.resume()
    await put(here, "run", key, sound)
    await handle.resume()
    assert await handle.result(timeout=60) == 3
    assert await everything_quarantined(here) == []


@pytest.mark.parametrize("which", [keys.header, keys.state])
async def test_a_run_that_cannot_be_read_leaves_others_alone_and_goes_on_once_it_is_repaired(
    cluster: MakeCluster, which: Callable[[RunId], Key]
) -> None:
    here = cluster(Quick, Waiting)
    broken, item_id = await paused_start(here, "broken")
    key = which(RunId("broken"))
    sound = await bytes_of(here, "broken", key)
    await put(here, "broken", key, b"\x93\x01\x02")
    await here.start_worker()
    client = here.client()
    waiting = await client.start(Waiting, 7, run_id="waiting")
    assert await waiting.result(timeout=120) == 7
    await asyncio.sleep(60)
    assert deliveries(here) < 60
    (kept,) = await client.quarantine()
    assert f"item {item_id} of run 'broken'" in kept.reason
    assert f"'broken/{key.name}' cannot be read" in kept.reason
    page = await client.list_runs()
    assert [run.run_id for run in page.runs] == ["waiting"]
    assert [run.run_id for run in page.unreadable] == ["broken"]
    with pytest.raises(UnreadableRecordError, match=f"broken/{key.name}"):
        await broken.status()
    await put(here, "broken", key, sound)
    assert await broken.result(timeout=120) == 3


async def test_a_damaged_scope_fails_the_run_with_its_name(cluster: MakeCluster) -> None:
    here = cluster(Summing)
    await here.start_worker()
    handle = await here.client().start(Summing, 3, run_id="run")
    await asyncio.sleep(0.2)
    scope = keys.scope(RunId("run"), await first_item(here, "run"))  # type: ignore[arg-type]
    await put(here, "run", scope, b"\xc1")
    for member in list(here.members):
        await member.kill()
        here.members.remove(member)
    await here.start_worker()
    with pytest.raises(RunFailedError, match="cannot be read: This is not a scope"):
        await handle.result(timeout=120)


async def test_a_page_of_a_fan_out_that_is_missing_fails_the_run_with_its_name(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (decide, fan_outs):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
    here = cluster(Summing)
    worker, *_ = here.worker_of()
    handle = await here.client().start(Summing, 6, run_id="run")
    here.members.clear()
    opener = await first_item(here, "run")
    here.limits = replace(here.limits, chain_steps=1)
    worker, *_ = here.worker_of()
    while not (await bytes_of(here, "run", keys.page(RunId("run"), opener, 1))):
        await worker.run_once()
    gone = Delete(keys.page(RunId("run"), opener, 1))
    await here.store.commit([Batch(slot=slot_of(RunId("run")), writes=(gone,))])
    await here.start_worker()
    with pytest.raises(RunFailedError, match=f"'run/p:{opener}:1' cannot be read: It is missing from the store"):
        await handle.result(timeout=120)


@pytest.mark.parametrize(
    "bad", [b"", b"\x93\x01\x02\xc4\x01\xc1", encode_snapshot(99, b"\x80"), encode_snapshot(1, b"\xc1")]
)
async def test_a_damaged_snapshot_of_the_context_is_made_again_from_its_log(cluster: MakeCluster, bad: bytes) -> None:
    here = cluster(Summing)
    await here.start_worker()
    handle = await here.client().start(Summing, 3, run_id="run")
    await handle.result(timeout=60)
    key, _ = keys.context_snapshots(RunId("run"))
    await put(here, "run", key, bad)
    here.limits = replace(here.limits, context_snapshot=1)
    context = await here.client().context(Summing, "run")
    assert isinstance(context, Told)
    assert context.steps == 4
    assert decode_snapshot(await bytes_of(here, "run", key))[0] == 4


@pytest.mark.parametrize("damage", [b"\xff", encode_snapshot(99, b"\x80"), encode_snapshot(6, b"\xc1")])
async def test_where_the_newer_snapshot_is_damaged_the_older_one_and_the_log_after_it_are_enough(
    cluster: MakeCluster, damage: bytes
) -> None:
    here = cluster(Summing, limits=Limits(concurrency=1, context_snapshot=2))
    await here.start_worker()
    handle = await here.client().start(Summing, 8, run_id="run")
    await handle.result(timeout=60)
    cells = keys.context_snapshots(RunId("run"))
    positions = [decode_snapshot(await bytes_of(here, "run", key))[0] for key in cells]
    log = here.store._slots[slot_of(RunId("run"))].logs[keys.context_log(RunId("run"))]
    assert 0 < min(positions) == log.first < max(positions)
    newer = cells[positions.index(max(positions))]
    older = cells[positions.index(min(positions))]
    await put(here, "run", newer, damage)
    context = await here.client().context(Summing, "run")
    assert isinstance(context, Told)
    assert context.steps == 9
    await put(here, "run", newer, b"\xff")
    await put(here, "run", older, b"\xff")
    with pytest.raises(UnreadableRecordError, match="run/x"):
        await here.client().context(Summing, "run")


async def test_a_damaged_delta_sets_the_item_aside_that_needs_the_context_until_it_is_repaired(
    cluster: MakeCluster,
) -> None:
    here = cluster(Waiting, Quick)
    await here.start_worker()
    handle = await here.client().start(Waiting, 3, run_id="run")
    await asyncio.sleep(5)
    log = keys.context_log(RunId("run"))
    entries = here.store._slots[slot_of(RunId("run"))].logs[log].entries
    sound, entries[0] = entries[0], b"\xc1"
    here.members[0].services.cache.forget(RunId("run"))
    assert await (await here.client().start(Quick, 1)).result(timeout=60) == 3
    await asyncio.sleep(60)
    (item,) = await here.client().set_aside.list()
    assert "The context of run 'run' cannot be put together" in item.reason
    entries[0] = sound
    await here.client().set_aside.requeue_run("run")
    assert await handle.result(timeout=120) == 3


async def test_a_damaged_heartbeat_is_shown_and_its_worker_is_found_dead_all_the_same(cluster: MakeCluster) -> None:
    here = cluster(Summing)
    dead = await here.start_worker()
    handle = await here.client().start(Summing, 3, run_id="run")
    await asyncio.sleep(0.3)
    await dead.kill()
    await here.store.commit([Batch(slot=SYSTEM_SLOT, writes=(Put(keys.worker(dead.name), b"\x93"),))])
    shown = [worker for worker in await here.client().workers() if worker.worker_id == dead.name]
    assert [worker.status for worker in shown] == ["unreadable"]
    await here.start_worker()
    assert await handle.result(timeout=120) == 3


async def test_a_damaged_lease_is_taken_over(cluster: MakeCluster) -> None:
    here = cluster(Waiting)
    await here.store.commit([Batch(slot=SYSTEM_SLOT, writes=(Put(keys.maintenance_lease(), b"\xff\xfe"),))])
    handle = await here.client().start(Waiting, 3, run_id="run")
    worker, *_ = here.worker_of()
    await worker.run_once()  # sets the timer, and is gone
    await here.start_worker()
    assert await handle.result(timeout=120) == 3


async def test_a_damaged_note_of_a_message_goes_into_the_quarantine_and_the_others_are_recovered(
    cluster: MakeCluster,
) -> None:
    here = cluster(Quick)
    slot, index = slot_of(RunId("run")), keys.messages("default")
    await here.store.commit([Batch(slot=slot, writes=(Enter(index, "00000000000001:x:1", b"\x93\x01"),))])
    handle, _ = await paused_start(here, "run")
    here.queue._queues.clear()  # the broker loses everything
    await here.start_worker()
    assert await handle.result(timeout=120) == 3
    assert await everything_quarantined(here) == [b"\x93\x01"]
    assert list(await here.store.scan(IndexRange(index))) == []


@pytest.mark.fault(54)
async def test_a_message_of_a_newer_release_is_left_to_others_without_spinning_and_is_not_lost(
    cluster: MakeCluster,
) -> None:
    here = cluster(Quick)
    await here.start_worker()
    newer = msgpack.packb([2, "work", {"run": "of the future"}])
    await here.queue.publish([Message(queue="default", body=newer)])
    assert await (await here.client().start(Quick, 1)).result(timeout=60) == 3
    await asyncio.sleep(LEFT_TO_OTHERS_SECONDS - 20)
    assert await everything_quarantined(here) == []
    assert deliveries(here) < LEFT_TO_OTHERS_SECONDS + 100
    await asyncio.sleep(40)
    (kept,) = await here.client().quarantine()
    assert kept.body == newer
    assert "format 2, which this release of floxide_amqp does not know" in kept.reason


@pytest.mark.fault(54)
async def test_a_record_of_a_newer_release_fails_no_run_and_runs_on_a_worker_that_reads_it(
    cluster: MakeCluster,
) -> None:
    here = cluster(Quick)
    handle, item_id = await paused_start(here, "run")
    key = keys.item(RunId("run"), item_id)
    sound = await bytes_of(here, "run", key)
    await put(here, "run", key, msgpack.packb([2, *msgpack.unpackb(sound)[1:]]))
    await here.start_worker()
    await asyncio.sleep(60)
    assert await handle.status() is RunStatus.PENDING
    assert await everything_quarantined(here) == []
    assert deliveries(here) < 120
    await put(here, "run", key, sound)  # stands for a worker of that release
    assert await handle.result(timeout=60) == 3


@pytest.mark.fault(59)
async def test_a_commit_that_no_store_can_take_fails_the_run_instead_of_spinning(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Loop:
        count: int = 0

    ran = Loop()

    @node
    async def many(ctx: WorkflowCtx[Told], x: int) -> NextAll[int]:
        ran.count += 1
        return NextAll(range(x))

    class TooMuch(Workflow[int, int, Told]):
        start = many
        edges = (many >> part >> gather(total),)

    monkeypatch.setattr(codec.ITEM, "max_bytes", 400)  # stands for a record that grows beyond every limit
    here = cluster(TooMuch)
    await here.start_worker()
    handle = await here.client().start(TooMuch, 30, run_id="run")
    with pytest.raises(RunFailedError, match="A work item has at most 400 bytes"):
        await handle.result(timeout=60)
    assert ran.count == 1


async def test_a_long_message_is_kept_whole_and_the_list_stays_short(cluster: MakeCluster) -> None:
    here = cluster(Quick)
    await here.start_worker()
    body = random.Random(1).randbytes(10 * 1024 * 1024)
    await here.queue.publish([Message(queue="default", body=body)])
    await asyncio.sleep(5)
    client = here.client()
    (shown,) = await client.quarantine()
    assert (shown.body, shown.cut_from) == (body[: quarantines.BEGINNING_BYTES], len(body))
    whole = await client.quarantined(shown.quarantine_id)
    assert whole is not None
    assert (whole.body, whole.cut_from) == (body, 0)
    await client.services.quarantine.remove(shown.quarantine_id)
    assert not [key for key in here.store._slots[SYSTEM_SLOT].cells if key.name.startswith("quarantine")]


async def test_what_is_longer_than_any_broker_takes_is_cut_and_says_so(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantines, "MAX_KEPT_BYTES", 100_000)
    here = cluster(Quick)
    await here.start_worker()
    await here.queue.publish([Message(queue="default", body=b"x" * 200_000)])
    await asyncio.sleep(5)
    (shown,) = await here.client().quarantine()
    whole = await here.client().quarantined(shown.quarantine_id)
    assert whole is not None
    assert (len(whole.body), whole.cut_from) == (100_000, 200_000)
