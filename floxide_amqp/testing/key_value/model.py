"""The port's meaning in its plainest form: dictionaries, copied before each batch. Slow, and easy to believe."""

from __future__ import annotations

from copy import deepcopy

from floxide_amqp.core.ids import Slot
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Batch,
    Cell,
    Check,
    Clear,
    Committed,
    Conflict,
    Delete,
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
    RecordInfo,
    RecordKind,
    Snapshot,
    Trim,
    When,
    Write,
)


class _State:
    def __init__(self) -> None:
        self.cells: dict[tuple[Slot, Key], Cell] = {}
        self.counters: dict[tuple[Slot, Key], int] = {}
        self.logs: dict[tuple[Slot, Key], list[bytes | None]] = {}
        """Every entry a log ever had since it was last deleted; None where trimmed."""
        self.entries: dict[tuple[str, str, Slot], bytes] = {}


class KeyValueModel:
    """A store of dictionaries to compare a driver with."""

    def __init__(self) -> None:
        self._state = _State()

    def commit(self, batch: Batch) -> Outcome:
        """Apply one batch."""
        for check in batch.checks:
            if not self._holds(batch.slot, check):
                return Conflict(check)
        if batch.writes and isinstance(batch.writes[0], Clear):
            return Committed(cleared=self._clear(batch.slot, batch.writes[0]))
        before = deepcopy(self._state)
        positions: dict[Key, int] = {}
        touched: set[Key] = set()
        try:
            self._write(batch.slot, batch.writes, positions, touched)
        except OverflowError:
            self._state = before
            raise
        counters = {key: self._state.counters.get((batch.slot, key), 0) for key in touched}
        return Committed(positions=positions, counters=counters)

    def _clear(self, slot: Slot, clear: Clear) -> int:
        """Clear a partition whole; of one cleared in part nothing is said."""
        count = 0
        for things in (self._state.cells, self._state.counters, self._state.logs):
            for home, key in list(things):
                if home == slot and key.partition == clear.partition and key.name not in clear.keep:
                    del things[home, key]
                    count += 1
        assert count < clear.limit, "the model knows only clears that leave nothing"
        return count

    def read(self, read: Read) -> Snapshot:
        """Answer one read."""
        state = self._state
        return Snapshot(
            cells=tuple(state.cells.get((read.slot, key), Cell(ABSENT, b"")) for key in read.cells),
            counters=tuple(state.counters.get((read.slot, key), 0) for key in read.counters),
            logs=tuple(self._page(read.slot, asked) for asked in read.logs),
            indexes=tuple(
                tuple([entry for entry in self._range(asked) if entry.slot == read.slot][: asked.limit])
                for asked in read.indexes
            ),
        )

    def scan(self, asked: IndexRange) -> list[Entry]:
        """Answer one scan."""
        return self._range(asked)[: asked.limit]

    def records(self, slot: Slot, partition: str) -> set[RecordInfo]:
        """Return all records of a partition, without the counters that are 0."""
        state = self._state

        def mine(at: tuple[Slot, Key]) -> bool:
            return at[0] == slot and at[1].partition == partition

        return {
            *(RecordInfo(at[1], RecordKind.CELL, len(c.value), c.version) for at, c in state.cells.items() if mine(at)),
            *(RecordInfo(at[1], RecordKind.COUNTER, 8, n) for at, n in state.counters.items() if n and mine(at)),
            *(
                RecordInfo(at[1], RecordKind.LOG, sum(len(entry or b"") for entry in log), len(log))
                for at, log in state.logs.items()
                if log and mine(at)
            ),
        }

    def _holds(self, slot: Slot, check: Precondition) -> bool:
        if isinstance(check, Check):
            version = self._state.cells.get((slot, check.key), Cell(ABSENT, b"")).version
            return version > 0 if check.version == PRESENT else version == check.version
        return len(self._state.logs.get((slot, check.log), [])) == check.length

    def _write(self, slot: Slot, writes: tuple[Write, ...], positions: dict[Key, int], touched: set[Key]) -> None:
        for write in writes:
            if not isinstance(write, When | Clear):
                self._write_plainly(slot, write, positions, touched)
        for when in writes:
            if isinstance(when, When):
                touched.add(when.counter)
                holds = self._state.counters.get((slot, when.counter), 0) == when.equals
                self._write(slot, when.then if holds else when.otherwise, positions, touched)

    def _write_plainly(
        self,
        slot: Slot,
        write: Put | Delete | Add | Append | Trim | Enter | Leave,
        positions: dict[Key, int],
        touched: set[Key],
    ) -> None:
        state = self._state
        match write:
            case Put(key, value):
                version = state.cells[slot, key].version if (slot, key) in state.cells else ABSENT
                state.cells[slot, key] = Cell(version + 1, value)
            case Delete(key):
                state.cells.pop((slot, key), None)
                state.counters.pop((slot, key), None)
                state.logs.pop((slot, key), None)
            case Add(key, amount):
                touched.add(key)
                total = state.counters.get((slot, key), 0) + amount
                if not -(1 << 63) <= total < 1 << 63:
                    raise OverflowError(total)
                state.counters[slot, key] = total
            case Append(key, entries):
                positions.setdefault(key, len(state.logs.get((slot, key), [])))
                if entries:
                    state.logs.setdefault((slot, key), []).extend(entries)
            case Trim(key, before):
                kept = state.logs.get((slot, key), [])
                for position in range(min(before, len(kept))):
                    kept[position] = None
            case Enter(index, entry, value):
                state.entries[index, entry, slot] = value
            case Leave(index, entry):
                state.entries.pop((index, entry, slot), None)

    def _page(self, slot: Slot, asked: LogRange) -> LogPage:
        entries = self._state.logs.get((slot, asked.log), [])
        trimmed = sum(entry is None for entry in entries)
        first = max(asked.start, trimmed)
        kept = tuple(entry for entry in entries[first : first + asked.limit] if entry is not None)
        return LogPage(first, kept, len(entries))

    def _range(self, asked: IndexRange) -> list[Entry]:
        found = [
            Entry(entry, value, slot)
            for (index, entry, slot), value in self._state.entries.items()
            if index == asked.index and entry > asked.after and (asked.before is None or entry < asked.before)
        ]
        return sorted(found, key=lambda entry: (entry.entry, entry.slot), reverse=asked.reverse)
