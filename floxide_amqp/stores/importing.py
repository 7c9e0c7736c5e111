"""Putting an exported run into a store: everything is written under a mark, and one commit at the end makes it a run.

Until then the id is taken by a tombstone, so nobody can start a run under it, and by a mark that every commit checks and
raises, so of two who import it at once one stops. An import that died is cleared by the next one of the same id, or by
deleting the run. What leads to items (timers, dead letters, lists) is made from the items; timers that are due soon come
with the last commit, since whoever fires one earlier finds no run and drops it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from floxide_amqp.core import changes as c
from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, slot_of
from floxide_amqp.core.records import RunHeader, RunState, Timer, TimerKind, Tombstone, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import CodecError, RunFileError, RunImportError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Add,
    Append,
    Batch,
    Check,
    Clear,
    Committed,
    Delete,
    Enter,
    IndexRange,
    Key,
    Leave,
    Precondition,
    Put,
    Read,
    RecordKind,
    Trim,
    Write,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.dead_letters import decode_letter, encode_place
from floxide_amqp.stores.exporting import EXPORTABLE, list_run
from floxide_amqp.stores.run_file import (
    ArrivalsFrame,
    CellFrame,
    CounterFrame,
    EntriesFrame,
    Frame,
    LiveFrame,
    LogFrame,
    RunFileHead,
    RunFileReader,
)
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.writes import STATUS_LETTERS, BatchWriter

MOST_WRITES: Final = 500
"""Writes in one commit."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""About how many bytes one commit writes, unless one record has more."""

SOON_MS: Final = 600_000
"""Timers due within it come with the last commit; later ones before it, which is over sooner than that."""

MOST_SOON: Final = 5_000
"""Timers that the last commit sets at most; of more, the others are put off until after it."""


@dataclass
class _Findings:
    """What a file has of the records by which a run is led, found when it is gone through for the first time."""

    header: CellFrame | None = None
    state: CellFrame | None = None
    letters: set[str] = field(default_factory=set[str])


class RunImport:
    """Puts exported runs into a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self, path: Path) -> RunFileHead:
        """Put the run of a file into the store, as it was: paused, or ended. Return what the file says of itself.

        Items that a worker of the other store held, and those that waited for a worker with their node, are pending.

        Raises:
            RunFileError: The file is none, is damaged, or of a later format; the store was not touched.
            RunImportError: The store has a run of this id, or had one not long ago; or somebody imports it too.
            StoreError: The store failed; what was written is no run, and goes with the next try.
        """
        reader = RunFileReader(path)
        head = reader.head()
        header, state, letters = _check(path, head, reader)
        one = _OneImport(self._session, header, state, letters)
        await one.begin()
        for frame in reader.frames():
            await one.put(frame)
        await one.end()
        return head


def _check(path: Path, head: RunFileHead, reader: RunFileReader) -> tuple[CellFrame, CellFrame, set[str]]:
    """Go through the whole file before anything is written; return header, state, and the names of dead letters."""
    found = _Findings()
    for frame in reader.frames():
        if isinstance(frame, CellFrame):
            if frame.version < 1:
                raise _damaged(path, f"the record {frame.name!r} has version {frame.version}")
            if frame.name == keys.header(RunId("")).name:
                found.header = frame
            elif frame.name == keys.state(RunId("")).name:
                found.state = frame
            elif frame.name.startswith(keys.LETTER_PREFIX):
                found.letters.add(frame.name.removeprefix(keys.LETTER_PREFIX))
    if found.header is None or found.state is None:
        raise _damaged(path, "the run's header or state is missing")
    try:
        header, state = codec.decode_header(found.header.value), codec.decode_state(found.state.value)
    except CodecError as error:
        raise _damaged(path, str(error).rstrip(".")) from error
    if header.run_id != head.run_id or state.status not in EXPORTABLE:
        raise _damaged(path, f"it holds run {header.run_id!r}, {state.status.value}")
    return found.header, found.state, found.letters


def _damaged(path: Path, problem: str) -> RunFileError:
    return RunFileError(path=str(path), problem=f"it is damaged: {problem}")


class _OneImport:
    """Writes one run; `_version` is that of its mark as long as nobody else has touched it."""

    def __init__(self, session: Session, header: CellFrame, state: CellFrame, letters: set[str]) -> None:
        self._session = session
        self._header_frame, self._state_frame, self._letters = header, state, letters
        self._header: RunHeader = codec.decode_header(header.value)
        self._state: RunState = codec.decode_state(state.value)
        self._run_id = self._header.run_id
        self._mark = keys.imported(self._run_id)
        self._tombstone = keys.tombstone(self._run_id)
        self._version = ABSENT
        self._tombstone_version = ABSENT
        self._writes: list[Write] = []
        self._bytes = 0
        self._writer = BatchWriter(self._run_id, self._header.created_at_ms, self._header.workflow)
        self._soon: list[c.Change] = []
        self._unparked = 0

    # --- beginning and end

    async def begin(self) -> None:
        """Take the id, and clear what an import that died has left."""
        cells = (keys.header(self._run_id), keys.state(self._run_id), self._tombstone, self._mark)
        header, state, tombstone, mark = (await self._session.read(Read(slot=self._slot, cells=cells))).cells
        if header.version or state.version:
            raise self._refused("this store has a run of this id", "Delete that one first (`floxide delete`).")
        if tombstone.version and not mark.version:
            raise self._refused(
                "a run of this id was deleted here not long ago", "Wait until its id is free, see Retention(tombstone=…)."
            )
        self._version, self._tombstone_version = mark.version, tombstone.version
        now = self._session.now_ms()
        taken = Tombstone(
            run_id=self._run_id, workflow=self._header.workflow, version=self._header.version,
            input_digest=self._header.input_digest, status=self._state.status, ended_at_ms=now, deleted_at_ms=now,
        )  # fmt: skip
        checks = (
            Check(keys.header(self._run_id), ABSENT),
            Check(keys.state(self._run_id), ABSENT),
            Check(self._tombstone, self._tombstone_version),
        )
        await self._commit((Put(self._tombstone, codec.encode_tombstone(taken)),), checks)
        self._tombstone_version += 1
        if mark.version:
            await self._clear()

    async def _clear(self) -> None:
        """Remove what is there under the mark."""
        indexes = {keys.live_items(self._run_id), keys.arrivals(self._run_id, "")}
        async for page in list_run(self._session, self._run_id):
            for record in page:
                if record.kind is RecordKind.CELL and record.key.name.startswith(keys.SCOPE_PREFIX):
                    indexes.add(keys.arrivals(self._run_id, keys.opener_of(record.key)))
        for name in sorted(indexes):
            wanted = IndexRange(name, limit=MOST_WRITES)
            while found := (await self._session.read(Read(slot=self._slot, indexes=(wanted,)))).indexes[0]:
                await self._commit(tuple(Leave(name, entry.entry) for entry in found))
        kept = (self._mark.name, self._tombstone.name)
        while True:
            batch = Batch(
                slot=self._slot,
                checks=(Check(self._mark, self._version),),
                writes=(Clear(self._run_id, MOST_WRITES, kept),),
            )
            outcome = await self._session.commit(batch)
            if not isinstance(outcome, Committed):
                raise self._overtaken()
            if outcome.cleared < MOST_WRITES:
                return

    async def end(self) -> None:
        """Make it a run."""
        await self._flush()
        if self._unparked:
            self._add(*self._writer.writes((c.Count("waiting", -self._unparked),)))
            await self._flush()
        run_id, state = self._run_id, self._state
        writes: list[Write] = list(self._writer.writes(self._soon))
        if state.deadline_ms is not None and not state.status.is_terminal:
            timer = Timer(due_ms=state.deadline_ms, run_id=run_id, kind=TimerKind.RUN_TIMEOUT)
            writes += self._writer.writes((c.SetTimer(timer),))
        entry = self._writer.run_entry
        writes += (
            Enter(keys.RUNS, entry),
            Enter(keys.runs_of_workflow(self._header.workflow), entry),
            Enter(keys.runs_with_status(state.status), entry),
        )
        if state.finished_at_ms is not None:
            ended = keys.timed_run(state.finished_at_ms, run_id)
            writes.append(Enter(keys.ended_runs(state.status), ended, self._header.workflow.encode()))
        writes += (*self._puts(self._header_frame), *self._puts(self._state_frame))
        writes += (Delete(self._tombstone), Delete(self._mark))
        checks = (
            Check(self._mark, self._version),
            Check(self._tombstone, self._tombstone_version),
            Check(keys.header(run_id), ABSENT),
            Check(keys.state(run_id), ABSENT),
        )
        outcome = await self._session.commit(Batch(slot=self._slot, checks=checks, writes=tuple(writes)))
        if not isinstance(outcome, Committed) and not await self._is_there():
            raise self._overtaken()

    async def _is_there(self) -> bool:
        """Whether the last commit stands, whose reply was lost and which conflicts with itself when it is repeated."""
        cells = (keys.header(self._run_id), keys.state(self._run_id))
        header, state = (await self._session.read(Read(slot=self._slot, cells=cells))).cells
        return header.value == self._header_frame.value and state.version >= self._state_frame.version

    # --- records

    async def put(self, frame: Frame) -> None:
        """Write what a frame holds, with the next full commit."""
        match frame:
            case CellFrame(name) if name in (self._header_frame.name, self._state_frame.name):
                return
            case CellFrame(name) if name.startswith(keys.ITEM_PREFIX):
                self._add(*self._item(frame), size=len(frame.value))
            case CellFrame(name) if name.startswith(keys.LETTER_PREFIX):
                self._add(*self._puts(frame), size=len(frame.value))
                self._soon += self._letter(frame)
            case CellFrame():
                for some in _in_parts(self._puts(frame), MOST_WRITES):
                    self._add(*some, size=len(frame.value))
                    await self._flush_if_full()
            case CounterFrame(name, value):
                self._add(Add(self._key(name), value))
            case LogFrame(name, first):
                await self._put_gap(self._key(name), first)
            case EntriesFrame(name, _, entries):
                self._add(Append(self._key(name), entries), size=sum(map(len, entries)))
            case LiveFrame(entries):
                live = keys.live_items(self._run_id)
                self._add(*(Enter(live, item_id, _letters(value)) for item_id, value in entries))
            case ArrivalsFrame(opener, entries):
                name = keys.arrivals(self._run_id, opener)
                self._add(*(Enter(name, entry, value) for entry, value in entries), size=_bytes_of(entries))
        await self._flush_if_full()

    def _item(self, frame: CellFrame) -> Sequence[Write]:
        """An item as it was, or pending if it was in somebody's hands; with the timer that leads to it."""
        try:
            item = codec.decode_item(frame.value)
        except CodecError:  # its step will say so, as it would have where it comes from
            return self._puts(frame)
        was = item.status
        is_parked = was is WorkItemStatus.PARKED and item.item_id not in self._letters
        if was is WorkItemStatus.IN_PROGRESS or is_parked:
            self._unparked += is_parked
            pending = replace(
                item, status=WorkItemStatus.PENDING, owner=WorkerId(""), anchored=False, spared=False, note=""
            )
            live = Enter(keys.live_items(self._run_id), item.item_id, STATUS_LETTERS[WorkItemStatus.PENDING])
            again = CellFrame(frame.name, frame.version + 1, codec.encode_item(pending))
            return (*self._puts(again), live)
        if not self._state.status.is_terminal and item.due_ms:
            self._lead(item, frame.version)
        return self._puts(frame)

    def _lead(self, item: WorkItem, turn: int) -> None:
        kinds = {WorkItemStatus.HELD: TimerKind.HOLD, WorkItemStatus.WAITING_RETRY: TimerKind.RETRY}
        kind = kinds.get(item.status)
        if kind is None:
            return
        due_ms, later = item.due_ms, self._session.now_ms() + SOON_MS
        timer = Timer(due_ms=due_ms, run_id=self._run_id, item_id=item.item_id, kind=kind, turn=turn)
        if due_ms < later and len(self._soon) < MOST_SOON:
            self._soon.append(c.SetTimer(timer))
        else:
            self._add(*self._writer.writes((c.SetTimer(replace(timer, due_ms=max(due_ms, later))),)))

    def _letter(self, frame: CellFrame) -> Iterator[c.Change]:
        with suppress(CodecError):
            yield _LetterEntry(decode_letter(frame.value).letter_id, frame.name.removeprefix(keys.LETTER_PREFIX))
