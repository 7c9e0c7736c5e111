"""Putting an exported run into a store, where it goes on as it was.

The file is gone through twice: once to see that it is whole, before anything is written, and once to write it. What
leads to items (timers, dead letters, lists of runs) is made from the items. It comes with the last commit, but for
timers that are due late: whoever fires one earlier finds no run, and drops it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from floxide_amqp.core import changes as c
from floxide_amqp.core.compensation import undo_timer
from floxide_amqp.core.decisions import message_entry
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.limit_moves import waits_for_limit
from floxide_amqp.core.place_changes import EnterMessage, SetTimer
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import CodecError, RunImportError
from floxide_amqp.ports.key_value import Add, Append, Enter, Key, Put, Trim, Write
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import attribute_index
from floxide_amqp.stores.checked_file import HEADER, STATE, CheckedFile
from floxide_amqp.stores.dead_letters import decode_letter, encode_place
from floxide_amqp.stores.exporting import EXPORTABLE
from floxide_amqp.stores.import_commits import ImportCommits
from floxide_amqp.stores.letters import first_entry
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
    VersionFrame,
)
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.task_queues import TaskQueueStore
from floxide_amqp.stores.versions import VersionStore
from floxide_amqp.stores.writes import STATUS_LETTERS, BatchWriter

SOON_MS: Final = 600_000
"""Timers due within it come with the last commit; later ones before it, which is over sooner than that."""

MOST_SOON: Final = 5_000
"""Timers that the last commit sets at most; of more, the others are put off until after it."""

GAP: Final = 10_000
"""Trimmed entries of a log that one write stands for."""

WAKES: Final = {WorkItemStatus.HELD: TimerKind.HOLD, WorkItemStatus.WAITING_RETRY: TimerKind.RETRY}
"""What wakes a waiting item."""

OVER: Final = (WorkItemStatus.COMPLETED, WorkItemStatus.CANCELLED)
"""Items that never come back into their task queue; a failed one does when its run is resumed."""

PENDING: Final = STATUS_LETTERS[WorkItemStatus.PENDING]


OPEN: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.COMPENSATING)
"""Runs that nobody has to resume."""


class RunImport:
    """Puts exported runs into a store.

    Args:
        session: The store.
        standing_since_ms: Where no worker lives, neither there nor here, since when: runs that go on are taken as
            well, and their pending items are looked for like those whose messages were put at this moment and lost.
            None to take only runs that are paused or have ended.
    """

    def __init__(self, session: Session, *, standing_since_ms: int | None = None) -> None:
        self._session = session
        self._standing_since_ms = standing_since_ms

    async def read(self, path: Path) -> RunFileHead:
        """Put the run of a file into the store, with the status it had. Return what the file says of itself.

        Items that a worker of the other store held, and those that waited for a worker with their node, are pending.
        So are those that waited for a concurrency key of the other store, or for a child, which stays there: they ask
        for the key here, and start another child. A child that was called and not yet started is started here.

        Raises:
            RunFileError: The file is none, is damaged, or of a later format; the store was not touched.
            RunImportError: The store has a run of this id, or had one not long ago; or somebody imports it too.
            StoreError: The store failed; what was written is no run, and goes with the next try.
        """
        reader = RunFileReader(path)
        checked = CheckedFile(path, reader, (*EXPORTABLE, *(() if self._standing_since_ms is None else OPEN)))
        one = _OneImport(self._session, checked, self._standing_since_ms)
        await one.commits.begin()
        for frame in reader.frames():
            await one.put(frame)
        await one.end()
        return checked.head


class _OneImport:
    """Turns the frames of one file into writes."""

    def __init__(self, session: Session, file: CheckedFile, standing_since_ms: int | None) -> None:
        self._session = session
        self._beside = session.beside(file.header.run_id)
        self._file = file
        self._is_alone = standing_since_ms is None  # its children stay where they are
        self._standing_since_ms = standing_since_ms or 0
        self._is_open = file.state.status in OPEN
        self._run_id = file.header.run_id
        self._writer = BatchWriter(self._run_id, file.header.created_at_ms, file.header.workflow)
        self._timers: list[Timer] = []
        self._last: list[Write] = []
        self._unparked = 0
        self._pending: set[str] = set()
        self._queues: set[str] = set()
        self.commits = ImportCommits(session, file.header, file.state.status)

    async def put(self, frame: Frame) -> None:
        """Write what a frame holds."""
        add, run_id = self.commits.add, self._run_id
        match frame:
            case CellFrame(name):
                if name not in (HEADER, STATE):
                    cell, leads = self._cell(frame)
                    await add(*self._puts(cell), *leads, size=len(cell.value))
            case CounterFrame(name, value):
                await add(Add(Key(run_id, name), value))
            case LogFrame(name, first):
                for start in range(0, first, GAP):  # positions are absolute: what was trimmed is put there, and trimmed
                    await add(Append(Key(run_id, name), (b"",) * min(GAP, first - start)), size=GAP)
                await add(Trim(Key(run_id, name), first))
            case EntriesFrame(name, _, entries):
                await add(Append(Key(run_id, name), entries), size=sum(map(len, entries)))
            case VersionFrame(description):
                header = self._file.header
                await VersionStore(self._beside).offer(header.workflow, header.version, description)
            case LiveFrame(entries):
                live = keys.live_items(run_id)
                changed = self._pending
                await add(*(Enter(live, each, PENDING if each in changed else value) for each, value in entries))
            case ArrivalsFrame(opener, entries):
                index, size = keys.arrivals(run_id, opener), sum(len(value) for _, value in entries)
                if opener == keys.POSTED:  # with the last commit, for whoever delivers them looks at the run
                    self._last += (Enter(keys.LETTERS, *first_entry(run_id, *each)) for each in entries)
                await add(*(Enter(index, entry, value) for entry, value in entries), size=size)

    async def end(self) -> None:
        """Make it a run."""
        if self._unparked:
            await self.commits.add(*self._writer.writes((c.Count("waiting", -self._unparked),)))
        until_ms = self._session.now_ms() + SOON_MS
        if self._file.state.status is RunStatus.COMPENSATING:  # what it undoes next, or what leads to what it undoes
            at, epoch = self._standing_since_ms, self._file.state_frame.version
            self._last += self._writer.writes((SetTimer(undo_timer(self._run_id, epoch, at)),))
        await self._set_timers(until_ms)
        await self.commits.flush()
        if self._is_alone:  # else all that is known goes with the runs
            await TaskQueueStore(self._beside).note(self._queues)
        if self._session.now_ms() > until_ms:
            reason = "the store is too slow, and timers that were set meanwhile are due"
            raise RunImportError(run_id=self._run_id, reason=reason, cure="Repeat it.")
        await self.commits.conclude((*self._last, *self._listing()))

    def _listing(self) -> list[Write]:
        """What lists the run, and its header and state."""
        state, workflow, entry = self._file.state, self._file.header.workflow, self._writer.run_entry
        writes: list[Write] = [
            Enter(run_list_keys.RUNS, entry),
            Enter(run_list_keys.runs_of_workflow(workflow), entry),
            Enter(
                run_list_keys.runs_with_status(state.status),
                entry,
                run_list_keys.listed_as(workflow, self._file.header.version),
            ),
        ]
        writes += [Enter(attribute_index(name, value), entry) for name, value in self._file.attributes.items()]
        if state.finished_at_ms is not None:
            ended = run_list_keys.timed_run(state.finished_at_ms, self._run_id)
            writes.append(Enter(run_list_keys.ended_runs(state.status), ended, workflow.encode()))
        if state.deadline_ms is not None and not state.status.is_terminal:
            timer = Timer(due_ms=state.deadline_ms, run_id=self._run_id, kind=TimerKind.RUN_TIMEOUT)
            writes += self._writer.writes((SetTimer(timer),))
        return [*writes, *self._puts(self._file.header_frame), *self._puts(self._file.state_frame)]

    def _puts(self, frame: CellFrame) -> tuple[Write, ...]:
        """Write a cell so often that it has its version."""
        key = Key(self._run_id, frame.name)
        return (*(Put(key, b"") for _ in range(frame.version - 1)), Put(key, frame.value))

    def _cell(self, frame: CellFrame) -> tuple[CellFrame, tuple[Write, ...]]:
        """Return a cell as it is to be here, and a message entry that leads to it; note what else does."""
        if frame.name.startswith(keys.ITEM_PREFIX):
            try:
                return self._item(frame)
            except CodecError:  # it comes as it is: its step will say so
                self._lead_to_unreadable()
        with suppress(CodecError):
            if frame.name.startswith(keys.DEAD_LETTER_PREFIX):
                letter = decode_letter(frame.value)
                self._last.append(
                    Enter(keys.DEAD_LETTERS, letter.letter_id, encode_place(self._run_id, letter.item_id))
                )
        return frame, ()

    def _item(self, frame: CellFrame) -> tuple[CellFrame, tuple[Write, ...]]:
        """Return an item as it was, or pending if it was in somebody's hands; note the timer that leads to it."""
        item = codec.decode_item(frame.value)
        if item.status not in OVER:
            self._queues.add(item.queue)
        has_letter = self._file.letters.get(item.item_id) == frame.version
        is_parked = item.status is WorkItemStatus.PARKED and not has_letter
        has_left_child = self._is_alone and waits_for_child(item.waits_for) in self._file.children
        has_left_line = self._is_alone and waits_for_limit(item.waits_for) is not None  # nobody here knows of it
        is_parted = (has_left_child or has_left_line) and item.status is WorkItemStatus.HELD
        if has_left_child or has_left_line:
            item = replace(item, waits_for="")
        if item.status is WorkItemStatus.IN_PROGRESS or is_parked or is_parted:
            self._unparked += is_parked or is_parted
            self._pending.add(item.item_id)
            pending = replace(
                item, status=WorkItemStatus.PENDING, owner=WorkerId(""), anchored=False, spared=False, note=""
            )
            turn = frame.version + 1
            return CellFrame(frame.name, turn, codec.encode_item(pending)), self._message_of(pending, turn)
        if item.status is WorkItemStatus.PENDING:
            left = CellFrame(frame.name, frame.version, codec.encode_item(item)) if has_left_child else frame
            return left, self._message_of(item, frame.version)
        kind = WAKES.get(item.status)
        if kind is not None and item.due_ms and not self._file.state.status.is_terminal:
            due = Timer(due_ms=item.due_ms, run_id=self._run_id, item_id=item.item_id, kind=kind, turn=frame.version)
            self._timers.append(due)
        return frame, ()

    def _message_of(self, item: WorkItem, turn: int) -> tuple[Write, ...]:
        """Note a message of a pending item of a run that goes on: one that is lost, unless it is in its queue yet."""
        if not self._is_open or self._file.state.is_over_for(item):
            return ()
        entry = message_entry(self._standing_since_ms, item.item_id, turn)
        return self._writer.writes((EnterMessage(item.queue, entry, item.item_id, turn, WorkerId(""), 0),))

    def _lead_to_unreadable(self) -> None:
        """Let somebody look at all items of a run that goes on: nothing else would lead to the one."""
        if self._is_open:
            at, epoch = self._standing_since_ms, self._file.state_frame.version
            look = Timer(due_ms=at, run_id=self._run_id, kind=TimerKind.RESUME, turn=epoch)
            self._last += self._writer.writes((SetTimer(look),))

    async def _set_timers(self, until_ms: int) -> None:
        """Set those that are due late; the others come with the last commit, so many of them as go into one."""
        soon = 0
        for timer in self._timers:
            if timer.due_ms < until_ms and soon < MOST_SOON:
                soon += 1
                self._last += self._writer.writes((SetTimer(timer),))
            else:
                later = replace(timer, due_ms=max(timer.due_ms, until_ms))
                await self.commits.add(*self._writer.writes((SetTimer(later),)))
