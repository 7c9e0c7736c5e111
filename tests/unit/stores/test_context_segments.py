"""What a snapshot writes of a long context, and what becomes of one whose parts are damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import pytest

from floxide_amqp import Context, EventLog, Union
from floxide_amqp.core.context import ContextState, context_to_plain, delta_of
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import Append, Batch, Cell, Delete, Key, Put, Read, Write
from floxide_amqp.stores import context_snapshots, keys
from floxide_amqp.stores.context_records import decode_segment, decode_snapshot, encode_segment, encode_snapshot
from floxide_amqp.stores.context_snapshots import Snapshots
from floxide_amqp.stores.contexts import ContextStore, LoadedContext
from floxide_amqp.stores.encoding import pack, pack_list, unpack
from floxide_amqp.stores.record_codec import encode_delta
from floxide_amqp.stores.session import Session

RUN = RunId("run")
EVERY = 10
"""Changes between snapshots, and elements of a segment."""


class Book(Context):
    log: EventLog[str] = EventLog()
    seen: Annotated[set[int], Union()] = set()


HEADER = RunHeader(
    run_id=RUN, workflow="W", version="1", input=b"", input_digest="", context=pack(context_to_plain(Book())),
    created_at_ms=0, deadline_ms=None, reply_to="", start_item=WorkItemId("first"),
)  # fmt: skip


class Here:
    """A store, and a worker that carries one run on in it."""

    def __init__(self) -> None:
        self.session = Session(MemoryKeyValueStore(), SystemClock())
        self.contexts = ContextStore(self.session, snapshot_after=EVERY)
        self.state = ContextState.load(Book, context_to_plain(Book()))
        self.position = 0

    async def write(self, *writes: Write) -> None:
        await self.session.commit(Batch(slot=slot_of(RUN), writes=writes))

    async def step(self, *texts: str, seen: Sequence[int] = ()) -> None:
        view = self.state.view(f"item-{self.position}")
        view.log.extend(texts)
        view.seen |= set(seen)
        delta = delta_of(view)
        self.state.apply(delta)
        entry = encode_delta(WorkItemId("item"), pack(delta))
        await self.write(Append(keys.context_log(RUN), (entry,)))
        self.position += 1

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step(f"event {self.position}")

    async def save(self, snapshots: Snapshots) -> Snapshots:
        return await self.contexts.save(RUN, self.state, self.position, snapshots)

    async def read(self) -> LoadedContext:
        return await self.contexts.read(HEADER, Book)

    async def told(self) -> list[str]:
        return list((await self.read()).state.view("x").log)

    async def cell(self, name: str) -> Cell:
        cells = tuple([key for key in _all_keys() if key.name == name])
        return (await self.session.read(Read(slot=slot_of(RUN), cells=cells))).cells[0]

    async def sizes(self) -> dict[str, int]:
        found = (await self.session.read(Read(slot=slot_of(RUN), cells=_all_keys()))).cells
        return {key.name: len(cell.value) for key, cell in zip(_all_keys(), found, strict=True) if cell.version}


def _all_keys() -> tuple[Key, ...]:
    return (*keys.context_snapshots(RUN), *(keys.context_segment(RUN, number) for number in range(40)))


@pytest.fixture
async def here() -> Here:
    found = Here()
    await found.write(Put(keys.state(RUN), b""))
    return found


async def test_a_snapshot_writes_what_is_new_whatever_the_length_of_the_log(here: Here) -> None:
    snapshots, written = Snapshots(), list[int]()
    for count in range(1, 31):
        before = await here.sizes()
        await here.steps(EVERY)
        snapshots = await here.save(snapshots)
        after = await here.sizes()
        new = set(after) - set(before)
        assert new - {"xs", "xt"} == {f"xc:{count - 1}"}
        written.append(sum(after[name] for name in (*new - {"xs", "xt"}, "xs" if count % 2 else "xt")))
    assert max(written) < 1.5 * written[0]
    assert (await here.read()).snapshots == snapshots
    assert await here.told() == [f"event {number}" for number in range(30 * EVERY)]


async def test_each_step_that_is_read_back_has_the_whole_log(here: Here) -> None:
    for count in range(1, 60):
        await here.step(*(f"event {number}" for number in range(count % 5)), f"step {count}")
        loaded = await here.read()  # leaves snapshots by itself
        assert loaded.state.to_plain() == here.state.to_plain()
        assert loaded.position == count
    sizes = await here.sizes()
    assert "xc:3" in sizes
    assert max(sizes["xs"], sizes["xt"]) < 12 * sizes["xc:0"]


async def test_what_lies_in_no_segment_waits_for_as_many_bytes_of_deltas_as_half_of_it(here: Here) -> None:
    snapshots: set[tuple[int, int]] = set()
    for step in range(400):
        await here.step(seen=range(5 * step, 5 * step + 5))
        snapshots.add((await here.read()).snapshots.positions)
    assert 5 <= len(snapshots) <= 20  # and not 40


async def test_a_large_change_counts_as_several(here: Here) -> None:
    await here.step("x" * 3 * 4_096)
    assert (await here.read()).snapshots.positions == (0, 0)
    await here.step("x" * 8 * 4_096)
    assert (await here.read()).snapshots.positions == (2, 0)


async def test_large_elements_fill_a_segment_with_few(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_snapshots, "SEGMENT_BYTES", 1_000)
    for number in range(EVERY):
        await here.step(f"{number}" * 400)
    snapshots = await here.save(Snapshots())
    assert (snapshots.segments, snapshots.kept) == (3, {"log": 9})
    assert await here.told() == [f"{number}" * 400 for number in range(EVERY)]


async def test_others_have_their_turn_after_each_segment(here: Here) -> None:
    await here.steps(20 * EVERY)
    saving = asyncio.create_task(here.save(Snapshots()))
    turns = 0
    while not saving.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 20


async def test_steps_go_on_while_a_snapshot_is_made_and_do_not_show_in_it(here: Here) -> None:
    await here.steps(20 * EVERY)
    saving = asyncio.create_task(here.save(Snapshots()))
    await asyncio.sleep(0)
    await here.step("later")
    assert not saving.done()
    snapshots = await saving
    assert (snapshots.positions, snapshots.segments) == ((200, 0), 20)
    assert await here.told() == [*(f"event {number}" for number in range(200)), "later"]


async def test_of_two_who_leave_a_snapshot_at_once_one_writes_segments(here: Here) -> None:
    await here.steps(2 * EVERY)
    one, other = await asyncio.gather(here.save(Snapshots()), here.save(Snapshots()))
    assert one == other
    assert [(await here.cell(name)).version for name in ("xs", "xt", "xc:0", "xc:1")] == [1, 0, 1, 1]


async def test_a_segment_that_only_the_newer_snapshot_has_may_be_damaged(here: Here) -> None:
    await here.steps(EVERY)
    snapshots = await here.save(Snapshots())
    await here.steps(EVERY)
    assert (await here.save(snapshots)).segments == 2
    await here.steps(3)
    await here.write(Put(keys.context_segment(RUN, 1), b"\xff"))
    everything = [f"event {number}" for number in range(23)]
    assert await here.told() == everything
    assert decode_segment((await here.cell("xc:1")).value).first == EVERY  # it was made again
    assert await here.told() == everything


def _moved(value: bytes) -> bytes:
    path, first, elements = decode_segment(value)
    return encode_segment(path, first + 1, elements)


def _other_field(value: bytes) -> bytes:
    _, first, elements = decode_segment(value)
    return encode_segment("seen", first, elements)


def _too_few(value: bytes) -> bytes:
    path, first, elements = decode_segment(value)
    return encode_segment(path, first, pack(unpack(elements)[1:]))  # type: ignore[index]


def _no_list(value: bytes) -> bytes:
    path, first, _ = decode_segment(value)
    return encode_segment(path, first, pack(7))


@pytest.mark.parametrize("damage", [None, lambda _: b"\xff", _moved, _other_field, _too_few, _no_list])
async def test_without_a_segment_that_both_snapshots_have_the_context_is_unreadable_and_not_half_of_it(
    here: Here, damage: object
) -> None:
    snapshots = Snapshots()
    for _ in range(2):
        await here.steps(EVERY)
        snapshots = await here.save(snapshots)
    key = keys.context_segment(RUN, 0)
    value = (await here.cell("xc:0")).value
    await here.write(Put(key, damage(value)) if callable(damage) else Delete(key))
    with pytest.raises(UnreadableRecordError, match="run/xc:0"):
        await here.read()
    await here.write(Put(key, value))
    assert await here.told() == [f"event {number}" for number in range(2 * EVERY)]


async def test_a_segment_of_a_newer_release_is_left_to_it(here: Here) -> None:
    snapshots = Snapshots()
    for _ in range(2):
        await here.steps(EVERY)
        snapshots = await here.save(snapshots)
    await here.write(Put(keys.context_segment(RUN, 1), b"\x94\x02\x01\x01\x01"))
    with pytest.raises(UnreadableRecordError) as caught:
        await here.read()
    assert caught.value.is_newer


async def test_who_reads_the_segments_of_a_run_that_was_deleted_meanwhile_begins_anew(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.steps(EVERY)
    await here.save(Snapshots())
    read, deleted = here.session.read, False

    async def deleting(asked: Read) -> object:
        nonlocal deleted
        if keys.context_segment(RUN, 0) in asked.cells and not deleted:
            deleted = True
            await here.write(*(Delete(key) for key in (*_all_keys(), keys.context_log(RUN), keys.state(RUN))))
        return await read(asked)

    monkeypatch.setattr(here.session, "read", deleting)
    assert (await here.told(), deleted) == ([], True)


@pytest.mark.parametrize("kept", [{"log": -1}, {"log": 11}, {"seen": 1}, {}])
async def test_a_snapshot_that_claims_other_segments_than_there_are_is_passed_over(
    here: Here, kept: dict[str, int]
) -> None:
    await here.steps(EVERY)
    await here.save(Snapshots())
    position, context, segments, _ = decode_snapshot((await here.cell("xs")).value)
    await here.write(Put(keys.context_snapshots(RUN)[0], encode_snapshot(position, context, segments, kept)))
    assert await here.told() == [f"event {number}" for number in range(EVERY)]


def test_a_list_of_packed_values_is_the_packed_list() -> None:
    for values in ([], [1], [["a", "", (1, {2})]] * 20, [[n] for n in range(70_000)]):
        assert pack_list([pack(value) for value in values]) == pack(list(values))
