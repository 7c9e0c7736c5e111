from __future__ import annotations

import random

import pytest

from floxide_amqp import Context, EventLog
from floxide_amqp.core.context import ContextState, context_to_plain, delta_of
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import Append, Batch, LogPage, LogRange, Put, Read, Trim
from floxide_amqp.stores import contexts, keys
from floxide_amqp.stores.context_records import decode_snapshot
from floxide_amqp.stores.encoding import pack
from floxide_amqp.stores.record_codec import encode_delta
from floxide_amqp.stores.session import Session
from floxide_amqp.testing.faults import FaultyKeyValueStore, StoreFaults

RUN = RunId("run")


class Counted(Context):
    log: EventLog[int] = EventLog()


HEADER = RunHeader(
    run_id=RUN, workflow="W", version="1", input=b"", input_digest="", context=pack(context_to_plain(Counted())),
    created_at_ms=0, deadline_ms=None, reply_to="", start_item=WorkItemId("first"),
)  # fmt: skip


@pytest.fixture
def session() -> Session:
    return Session(MemoryKeyValueStore(), SystemClock())


async def _append(session: Session, first: int, count: int) -> None:
    state = ContextState.load(Counted, context_to_plain(Counted()))
    for number in range(first, first + count):
        view = state.view(f"item-{number}")
        view.log.append(number)
        delta = encode_delta(f"item-{number}", pack(delta_of(view)))
        append = Append(keys.context_log(RUN), (delta,))
        await session.commit(Batch(slot=slot_of(RUN), writes=(append,)))


async def _snapshot_version(session: Session) -> int:
    return (await session.read(Read(slot=slot_of(RUN), cells=(keys.context_snapshots(RUN)[0],)))).cells[0].version


async def test_a_context_is_read_over_as_many_pages_as_its_log_has(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "PAGE", 3)
    await _append(session, 0, 8)
    state, position = await contexts.ContextStore(session).load(HEADER, Counted)
    assert (list(state.view("x").log), position) == (list(range(8)), 8)
    assert await _snapshot_version(session) == 0


async def test_whoever_reads_a_long_log_leaves_a_snapshot_from_which_the_next_reader_goes_on(session: Session) -> None:
    await session.commit(Batch(slot=slot_of(RUN), writes=(Put(keys.state(RUN), b""),)))
    await _append(session, 0, 6)
    await contexts.ContextStore(session, snapshot_after=5).load(HEADER, Counted)
    assert await _snapshot_version(session) == 1
    await _append(session, 6, 2)
    state, position = await contexts.ContextStore(session, snapshot_after=5).load(HEADER, Counted)
    assert (list(state.view("x").log), position) == (list(range(8)), 8)
    assert await _snapshot_version(session) == 1


async def test_whoever_reads_a_run_that_is_being_deleted_leaves_no_snapshot_behind(session: Session) -> None:
    await _append(session, 0, 6)
    await contexts.ContextStore(session, snapshot_after=5).load(HEADER, Counted)
    assert await _snapshot_version(session) == 0


async def _begun(session: Session) -> None:
    await session.commit(Batch(slot=slot_of(RUN), writes=(Put(keys.state(RUN), b""),)))


async def _stored(session: Session) -> tuple[tuple[int, int], LogPage]:
    cells = keys.context_snapshots(RUN)
    found = await session.read(Read(slot=slot_of(RUN), cells=cells, logs=(LogRange(keys.context_log(RUN)),)))
    first, second = (decode_snapshot(cell.value)[0] if cell.version else 0 for cell in found.cells)
    return (first, second), found.logs[0]


async def _told(session: Session, *, snapshot_after: int = 1_000) -> tuple[list[int], int]:
    state, position = await contexts.ContextStore(session, snapshot_after=snapshot_after).load(HEADER, Counted)
    return list(state.view("x").log), position


async def test_the_log_is_trimmed_up_to_the_older_of_two_snapshots_and_positions_stay(session: Session) -> None:
    await _begun(session)
    trace: list[tuple[tuple[int, int], int]] = []
    for first in range(0, 60, 10):
        await _append(session, first, 10)
        assert await _told(session, snapshot_after=5) == (list(range(first + 10)), first + 10)
        positions, page = await _stored(session)
        trace.append((positions, page.first))
        assert page.length == first + 10
    assert trace == [((10, 0), 0), ((10, 20), 10), ((30, 20), 20), ((30, 40), 30), ((50, 40), 40), ((50, 60), 50)]


async def test_who_reads_on_where_the_log_was_trimmed_meanwhile_begins_anew(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "PAGE", 4)
    await _begun(session)
    await _append(session, 0, 10)
    store = contexts.ContextStore(session, snapshot_after=1_000)
    tail, trimmed = store.tail, 0

    async def trimmed_before(run_id: RunId, position: int, limit: int = 4) -> LogPage:
        nonlocal trimmed
        if trimmed < 2:
            trimmed += 1
            await _append(session, 10 * trimmed, 10)
            await _told(session, snapshot_after=5)
        return await tail(run_id, position, limit)

    monkeypatch.setattr(store, "tail", trimmed_before)
    state, position = await store.load(HEADER, Counted)
    assert (list(state.view("x").log), position) == (list(range(30)), 30)
    assert (await _stored(session))[1].first > 0


@pytest.mark.parametrize(("which", "kept"), [(0, 20), (1, 23)])
async def test_either_snapshot_may_be_damaged(session: Session, which: int, kept: int) -> None:
    await _begun(session)
    for first in (0, 10):
        await _append(session, first, 10)
        await _told(session, snapshot_after=5)
    await _append(session, 20, 3)
    damage = Put(keys.context_snapshots(RUN)[which], b"\xff")
    await session.commit(Batch(slot=slot_of(RUN), writes=(damage,)))
    assert await _told(session, snapshot_after=5) == (list(range(23)), 23)
    await _append(session, 23, 20)
    assert await _told(session, snapshot_after=5) == (list(range(43)), 43)
    positions, page = await _stored(session)
    assert (min(positions), max(positions), page.first) == (kept, 43, kept)


async def test_a_log_whose_beginning_is_gone_without_a_snapshot_is_unreadable_and_not_half_a_context(
    session: Session,
) -> None:
    await _append(session, 0, 5)
    await session.commit(Batch(slot=slot_of(RUN), writes=(Trim(keys.context_log(RUN), 2),)))
    with pytest.raises(UnreadableRecordError, match="It begins at 2, and the snapshot of what was before is missing"):
        await _told(session)


async def test_of_two_who_leave_a_snapshot_at_once_one_does_and_the_other_learns_of_it(session: Session) -> None:
    await _begun(session)
    await _append(session, 0, 10)
    store = contexts.ContextStore(session)
    one, other = await store.read(HEADER, Counted), await store.read(HEADER, Counted)
    left = await store.save(RUN, one.state, one.position, one.snapshots)
    await _append(session, 10, 10)
    assert await store.save(RUN, other.state, other.position, other.snapshots) == left
    assert await _stored(session) == ((10, 0), await store.tail(RUN, 0))


async def test_a_snapshot_whose_reply_is_lost_is_left_once() -> None:
    memory = MemoryKeyValueStore()
    session = Session(memory, SystemClock())
    faulty = FaultyKeyValueStore(memory, random.Random(1), StoreFaults(lost_reply=0.5))
    await _begun(session)
    store = contexts.ContextStore(Session(faulty, SystemClock()), snapshot_after=3)
    for first in range(0, 100, 5):
        await _append(session, first, 5)
        loaded = await store.read(HEADER, Counted)
        assert list(loaded.state.view("x").log) == list(range(first + 5))
        positions, page = await _stored(session)
        assert loaded.snapshots.positions == positions
        assert page.first <= min(positions)
