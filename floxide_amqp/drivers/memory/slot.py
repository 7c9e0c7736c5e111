"""The records of one slot in memory, and how each write to them is taken back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final, TypeAlias

from floxide_amqp.drivers.memory.listing import COUNTER_BYTES, Listed
from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import ABSENT, PRESENT, Cell, Check, Clear, Key, LogPage, Precondition, RecordKind

NAME: Final = "memory"
NO_CELL: Final = Cell(ABSENT, b"")
COUNTER_MIN, COUNTER_MAX = -(1 << 63), (1 << 63) - 1

Undo: TypeAlias = list[tuple[Callable[[Any, Any], object], Any, Any]]
"""What to call, with which two arguments, to take each write back; applied from the last to the first."""


class KeptLog:
    """The kept entries of a log; `first` is the position of the first of them."""

    __slots__ = ("entries", "first")

    def __init__(self, first: int, entries: list[bytes]) -> None:
        self.first = first
        self.entries = entries

    @property
    def length(self) -> int:
        """The log's next position."""
        return self.first + len(self.entries)

    def page(self, start: int, limit: int) -> LogPage:
        """Return entries from a position on."""
        first = max(start, self.first, 0)
        offset = first - self.first
        return LogPage(first, tuple(self.entries[offset : offset + max(limit, 0)]), self.length)


class SlotRecords:
    """The cells, counters and logs of one slot."""

    __slots__ = ("cells", "counters", "logs")

    def __init__(self) -> None:
        self.cells: dict[Key, Cell] = {}
        self.counters: dict[Key, int] = {}
        self.logs: dict[Key, KeptLog] = {}

    def fails(self, check: Precondition) -> bool:
        """Whether a check does not hold."""
        if isinstance(check, Check):
            version = self.cells.get(check.key, NO_CELL)[0]
            return version == ABSENT if check.version == PRESENT else version != check.version
        log = self.logs.get(check.log)
        return (0 if log is None else log.length) != check.length

    def put(self, key: Key, value: bytes, undo: Undo) -> None:
        """Write a cell."""
        cells = self.cells
        before = cells.get(key)
        cells[key] = Cell(1 if before is None else before[0] + 1, value)
        undo.append((_restore_item, (cells, key), before))

    def add(self, key: Key, amount: int, undo: Undo) -> None:
        """Add to a counter.

        Raises:
            InvalidBatchError: The amount or the sum is beyond 64 bits signed.
        """
        counters = self.counters
        before = counters.get(key)
        after = amount if before is None else before + amount
        if not (COUNTER_MIN <= after <= COUNTER_MAX and COUNTER_MIN <= amount <= COUNTER_MAX):
            raise InvalidBatchError(store=NAME, reason=f"adding {amount} to counter {key} leaves 64 bits signed")
        counters[key] = after
        undo.append((_restore_item, (counters, key), before))

    def append(self, key: Key, entries: tuple[bytes, ...], undo: Undo) -> int:
        """Append to a log; return where the first entry went."""
        log = self.logs.get(key)
        if log is None:
            if not entries:
                return 0
            log = self.logs[key] = KeptLog(0, [])
            undo.append((_restore_item, (self.logs, key), None))
        before = len(log.entries)
        log.entries.extend(entries)
        undo.append((_cut_entries, log.entries, before))
        return log.first + before

    def trim(self, key: Key, before: int, undo: Undo) -> None:
        """Forget the entries of a log before a position."""
        log = self.logs.get(key)
        if log is not None and before > log.first:
            kept = log.entries[before - log.first :]
            self.logs[key] = KeptLog(min(before, log.length), kept)
            undo.append((_restore_item, (self.logs, key), log))

    def delete(self, key: Key, undo: Undo) -> None:
        """Remove whatever has this key."""
        for things in (self.cells, self.counters, self.logs):
            before = things.pop(key, None)
            if before is not None:
                undo.append((_restore_item, (things, key), before))

    def clear(self, clear: Clear, undo: Undo) -> int:
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
