from __future__ import annotations

import pytest

from floxide_amqp import Context, EventLog
from floxide_amqp.core.context import ContextState, context_to_plain, delta_of
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import Append, Batch, Put, Read
from floxide_amqp.stores import contexts, keys
from floxide_amqp.stores.encoding import pack
from floxide_amqp.stores.record_codec import encode_delta
from floxide_amqp.stores.session import Session

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
    return (await session.read(Read(slot=slot_of(RUN), cells=(keys.context_snapshot(RUN),)))).cells[0].version


async def test_a_context_is_read_over_as_many_pages_as_its_log_has(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "PAGE", 3)
    await _append(session, 0, 8)
    state, position = await contexts.ContextStore(session).load(HEADER, Counted)
    assert (list(state.view("x").log), position) == (list(range(8)), 8)
    assert await _snapshot_version(session) == 0


async def test_whoever_reads_a_long_log_leaves_a_snapshot_from_which_the_next_reader_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "SNAPSHOT_AFTER", 5)
    await session.commit(Batch(slot=slot_of(RUN), writes=(Put(keys.state(RUN), b""),)))
    await _append(session, 0, 6)
    await contexts.ContextStore(session).load(HEADER, Counted)
    assert await _snapshot_version(session) == 1
    await _append(session, 6, 2)
    state, position = await contexts.ContextStore(session).load(HEADER, Counted)
    assert (list(state.view("x").log), position) == (list(range(8)), 8)
    assert await _snapshot_version(session) == 1


async def test_whoever_reads_a_run_that_is_being_deleted_leaves_no_snapshot_behind(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "SNAPSHOT_AFTER", 5)
    await _append(session, 0, 6)
    await contexts.ContextStore(session).load(HEADER, Counted)
    assert await _snapshot_version(session) == 0
