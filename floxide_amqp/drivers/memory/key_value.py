"""The key-value store in the memory of this process: the default of every run that needs no durability.

A commit applies each batch directly and notes how to undo every write, so a group that turns out faulty leaves no
trace. A lock makes calls from several threads (a heartbeat has its own event loop) take turns; nothing awaits while
it is held, so cancelling a call can never cut a group in two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeAlias

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.clearing import clear_of
from floxide_amqp.drivers.memory.listing import COUNTER_BYTES, Listed, listed_page
from floxide_amqp.drivers.memory.sorted_entries import SortedEntries
from floxide_amqp.drivers.running_clock import RunningClock
from floxide_amqp.exceptions import InvalidBatchError, StoreClosedError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Batch,
    Cell,
    Check,
    Clear,
    CommitReply,
    Committed,
    Conflict,
    Delete,
    Durability,
    Enter,
    Entry,
    IndexRange,
    Key,
    Leave,
    LogPage,
    LogRange,
    Outcome,
    Precondition,
    Put,
    Read,
    ReadReply,
    RecordKind,
    RecordPage,
    Snapshot,
    Trim,
    When,
    Write,
)

_NAME = "memory"
_NO_CELL = Cell(ABSENT, b"")
_COUNTER_MIN, _COUNTER_MAX = -(1 << 63), (1 << 63) - 1

_Undo: TypeAlias = list[tuple[Callable[[Any, Any], object], Any, Any]]
"""What to call, with which two arguments, to take each write back; applied from the last to the first."""


class _Log:
    """The kept entries of a log; `first` is the position of the first of them."""

    __slots__ = ("entries", "first")

    def __init__(self, first: int, entries: list[bytes]) -> None:
        self.first = first
        self.entries = entries

    @property
    def length(self) -> int:
        return self.first + len(self.entries)

    def page(self, start: int, limit: int) -> LogPage:
        first = max(start, self.first, 0)
        offset = first - self.first
        return LogPage(first, tuple(self.entries[offset : offset + max(limit, 0)]), self.length)


class _Slot:
    """The cells, counters and logs of one slot."""

    __slots__ = ("cells", "counters", "logs")

    def __init__(self) -> None:
        self.cells: dict[Key, Cell] = {}
        self.counters: dict[Key, int] = {}
        self.logs: dict[Key, _Log] = {}

    def fails(self, check: Precondition) -> bool:
        if isinstance(check, Check):
            version = self.cells.get(check.key, _NO_CELL)[0]
            return version == ABSENT if check.version == PRESENT else version != check.version
        log = self.logs.get(check.log)
        return (0 if log is None else log.length) != check.length

    def put(self, key: Key, value: bytes, undo: _Undo) -> None:
        cells = self.cells
        before = cells.get(key)
        cells[key] = Cell(1 if before is None else before[0] + 1, value)
        undo.append((_restore_item, (cells, key), before))

    def add(self, key: Key, amount: int, undo: _Undo) -> None:
        counters = self.counters
        before = counters.get(key)
        after = amount if before is None else before + amount
        if not (_COUNTER_MIN <= after <= _COUNTER_MAX and _COUNTER_MIN <= amount <= _COUNTER_MAX):
            raise InvalidBatchError(store=_NAME, reason=f"adding {amount} to counter {key} leaves 64 bits signed")
        counters[key] = after
        undo.append((_restore_item, (counters, key), before))

    def append(self, key: Key, entries: tuple[bytes, ...], undo: _Undo) -> int:
        log = self.logs.get(key)
        if log is None:
            if not entries:
                return 0
            log = self.logs[key] = _Log(0, [])
            undo.append((_restore_item, (self.logs, key), None))
        before = len(log.entries)
        log.entries.extend(entries)
        undo.append((_cut_entries, log.entries, before))
        return log.first + before

    def trim(self, key: Key, before: int, undo: _Undo) -> None:
        log = self.logs.get(key)
        if log is not None and before > log.first:
            kept = log.entries[before - log.first :]
            self.logs[key] = _Log(min(before, log.length), kept)
            undo.append((_restore_item, (self.logs, key), log))

    def delete(self, key: Key, undo: _Undo) -> None:
        for things in (self.cells, self.counters, self.logs):
            before = things.pop(key, None)
            if before is not None:
                undo.append((_restore_item, (things, key), before))

    def clear(self, clear: Clear, undo: _Undo) -> int:
        """Remove what lies in a partition; finding it costs a look at every key of the slot."""
        count = 0
        for things in (self.cells, self.counters, self.logs):
            mine = (key for key in things if key.partition == clear.partition and key.name not in clear.keep)
            for key in list(islice(mine, max(0, clear.limit - count))):
                undo.append((_restore_item, (things, key), things.pop(key)))
                count += 1
        return count

    def listed(self) -> Listed:
        """Return, for each kind, the keys and how to tell a record's size and number."""
        cells, counters, logs = self.cells, self.counters, self.logs
        return {
            RecordKind.CELL: (cells, lambda key: (len(cells[key].value), cells[key].version)),
            RecordKind.COUNTER: (counters, lambda key: (COUNTER_BYTES, counters[key])),
            RecordKind.LOG: (
                [key for key, log in logs.items() if log.length],
                lambda key: (sum(map(len, logs[key].entries)), logs[key].length),
            ),
        }


def _restore_item(place: tuple[dict[Key, Any], Key], value: object) -> None:
    things, key = place
    if value is None:
        things.pop(key, None)
    else:
        things[key] = value


def _cut_entries(entries: list[bytes], length: int) -> None:
    del entries[length:]


class MemoryKeyValueStore:
    """A key-value store that lasts as long as this object.

    Safe to use from several threads and event loops. Reading an index for one slot passes over the entries of other
    slots that lie in the range asked for: give bounds.

    Args:
        clock: Tells the time that replies carry; by default that of the event loop, or the machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or RunningClock()
        self._lock = threading.Lock()
        self._slots: dict[Slot, _Slot] = {}
        self._indexes: dict[str, SortedEntries] = {}
        self._is_closed = False

    @property
    def durability(self) -> Durability:
        """Nothing survives this process."""
        return Durability.NOTHING

    @property
    def is_shared(self) -> bool:
        """No other process can open it."""
        return False

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches in order, each atomic, each seeing those before it.

        Raises:
            InvalidBatchError: A counter would leave 64 bits; nothing of the group was applied.
            StoreClosedError: The store was closed.
        """
        with self._lock:
            self._check_open()
            undo: _Undo = []
            try:
                outcomes = tuple([self._apply_batch(batch, undo) for batch in batches])
            except BaseException:
                for restore, place, value in reversed(undo):
                    restore(place, value)
                raise
        return CommitReply(outcomes, self._clock.now_ms())

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Return what each read asks for, all as of one moment.

        Raises:
            StoreClosedError: The store was closed.
        """
        with self._lock:
            self._check_open()
            snapshots = tuple([self._snapshot(read) for read in reads])
        return ReadReply(snapshots, self._clock.now_ms())

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Return a range of an index over all slots, in the order of the entry keys.

        Raises:
            StoreClosedError: The store was closed.
        """
        with self._lock:
            self._check_open()
            return self._range(index_range, None)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List the cells, counters and logs of a slot, by kind and then by key; a page costs a look at every key.

        Raises:
            StoreClosedError: The store was closed.
        """
        with self._lock:
            self._check_open()
            return self._record_page(slot, partition, after, limit)

    async def aclose(self) -> None:
        """Forget everything; a second call does nothing."""
        with self._lock:
            self._is_closed = True
            self._slots.clear()
            self._indexes.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(store=_NAME)

    def _slot(self, number: Slot) -> _Slot:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
        return slot

    def _apply_batch(self, batch: Batch, undo: _Undo) -> Outcome:
        slot = self._slot(batch.slot)
        for check in batch.checks:
            if slot.fails(check):
                return Conflict(check)
        clear = clear_of(batch, store=_NAME)
        if clear is not None:
            return Committed(cleared=slot.clear(clear, undo))
        positions: dict[Key, int] = {}
        touched: dict[Key, None] = {}
        self._apply_writes(batch, batch.writes, positions, touched, undo)
        counters = slot.counters
        return Committed(positions=positions, counters={key: counters.get(key, 0) for key in touched})

    def _apply_writes(
        self,
        batch: Batch,
        writes: tuple[Write, ...],
        positions: dict[Key, int],
        touched: dict[Key, None],
        undo: _Undo,
    ) -> None:
        number = batch.slot
        slot = self._slots[number]
        whens: list[When] = []
        for write in writes:
            if isinstance(write, Put):
                slot.put(write.key, write.value, undo)
            elif isinstance(write, Enter):
                self._enter(write.index, (write.entry, number), write.value, undo)
            elif isinstance(write, Add):
                slot.add(write.counter, write.amount, undo)
                touched[write.counter] = None
            elif isinstance(write, Leave):
                self._leave(write.index, (write.entry, number), undo)
            elif isinstance(write, Append):
                positions.setdefault(write.log, slot.append(write.log, write.entries, undo))
            elif isinstance(write, Delete):
                slot.delete(write.key, undo)
            elif isinstance(write, Trim):
                slot.trim(write.log, write.before, undo)
            elif isinstance(write, When):
                whens.append(write)
        for when in whens:
            touched[when.counter] = None
            holds = slot.counters.get(when.counter, 0) == when.equals
            self._apply_writes(batch, when.then if holds else when.otherwise, positions, touched, undo)

    def _enter(self, index: str, key: tuple[str, int], value: bytes, undo: _Undo) -> None:
        entries = self._indexes.get(index)
        if entries is None:
            entries = self._indexes[index] = SortedEntries()
        undo.append((entries.restore, key, entries.enter(key, value)))

    def _leave(self, index: str, key: tuple[str, int], undo: _Undo) -> None:
        entries = self._indexes.get(index)
        if entries is not None:
            undo.append((entries.restore, key, entries.leave(key)))

    def _snapshot(self, read: Read) -> Snapshot:
        slot = self._slots.get(read.slot)
        if slot is None:
            slot = _Slot()
        cells, counters = slot.cells, slot.counters
        return Snapshot(
            cells=tuple([cells.get(key, _NO_CELL) for key in read.cells]),
            counters=tuple([counters.get(key, 0) for key in read.counters]),
            logs=tuple([_log_page(slot, asked) for asked in read.logs]),
            indexes=tuple([self._range(asked, read.slot) for asked in read.indexes]),
        )

    def _record_page(self, slot: Slot, partition: str | None, after: bytes, limit: int) -> RecordPage:
        found = self._slots.get(slot)
        return listed_page({} if found is None else found.listed(), partition, after, limit)

    def _range(self, asked: IndexRange, slot: Slot | None) -> tuple[Entry, ...]:
        entries = self._indexes.get(asked.index)
        if entries is None or asked.limit <= 0:
            return ()
        found = entries.between(asked.after, asked.before, reverse=asked.reverse)
        wanted = (Entry(entry, value, home) for entry, home, value in found if slot is None or home == slot)
        return tuple(islice(wanted, asked.limit))


def _log_page(slot: _Slot, asked: LogRange) -> LogPage:
    log = slot.logs.get(asked.log)
    return LogPage(max(asked.start, 0), (), 0) if log is None else log.page(asked.start, asked.limit)
