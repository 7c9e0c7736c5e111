"""The key-value store in the memory of this process: the default of every run that needs no durability.

A commit applies each batch directly and notes how to undo every write, so a group that turns out faulty leaves no
trace. A lock makes calls from several threads (a heartbeat has its own event loop) take turns; nothing awaits while
it is held, so cancelling a call can never cut a group in two.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.clearing import clear_of
from floxide_amqp.drivers.memory.listing import listed_page
from floxide_amqp.drivers.memory.slot import NAME, NO_CELL, SlotRecords, Undo
from floxide_amqp.drivers.memory.sorted_entries import SortedEntries
from floxide_amqp.drivers.running_clock import RunningClock
from floxide_amqp.exceptions import StoreClosedError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Batch,
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
    Put,
    Read,
    ReadReply,
    RecordPage,
    Snapshot,
    Trim,
    When,
    Write,
)


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
        self._slots: dict[Slot, SlotRecords] = {}
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
            undo: Undo = []
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
            raise StoreClosedError(store=NAME)

    def _slot(self, number: Slot) -> SlotRecords:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = SlotRecords()
        return slot

    def _apply_batch(self, batch: Batch, undo: Undo) -> Outcome:
        slot = self._slot(batch.slot)
        for check in batch.checks:
            if slot.fails(check):
                return Conflict(check)
        clear = clear_of(batch, store=NAME)
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
        undo: Undo,
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

    def _enter(self, index: str, key: tuple[str, int], value: bytes, undo: Undo) -> None:
        entries = self._indexes.get(index)
        if entries is None:
            entries = self._indexes[index] = SortedEntries()
            undo.append((self._indexes.pop, index, None))
        undo.append((entries.restore, key, entries.enter(key, value)))

    def _leave(self, index: str, key: tuple[str, int], undo: Undo) -> None:
        entries = self._indexes.get(index)
        if entries is not None:
            undo.append((entries.restore, key, entries.leave(key)))
            if not entries:  # each run has some of its own
                del self._indexes[index]
                undo.append((self._indexes.__setitem__, index, entries))

    def _snapshot(self, read: Read) -> Snapshot:
        slot = self._slots.get(read.slot)
        if slot is None:
            slot = SlotRecords()
        cells, counters = slot.cells, slot.counters
        return Snapshot(
            cells=tuple([cells.get(key, NO_CELL) for key in read.cells]),
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


def _log_page(slot: SlotRecords, asked: LogRange) -> LogPage:
    log = slot.logs.get(asked.log)
    return LogPage(max(asked.start, 0), (), 0) if log is None else log.page(asked.start, asked.limit)
