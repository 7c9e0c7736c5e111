"""A group of batches of one tag, written down for `commit.lua`, and what that answers.

Every record a group touches gets a number, and batches name records by number: the script then works on arrays, asks
for each partition's fields at once, and writes each at once. All that can be wrong with a group without looking at the
store is found here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from floxide_amqp.drivers.clearing import clear_of
from floxide_amqp.drivers.redis.layout import (
    CELL,
    COUNTER,
    LOG,
    Layout,
    check_slot,
    member,
    number_of,
    number_text,
)
from floxide_amqp.drivers.redis.packing import packed, storable
from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Batch,
    Check,
    Clear,
    Committed,
    Conflict,
    Delete,
    Enter,
    Key,
    Leave,
    Outcome,
    Precondition,
    Put,
    Trim,
    When,
    Write,
)

PUT, ENTER, LEAVE, ADD, APPEND, TRIM, DELETE, WHEN, CLEAR = range(1, 10)
"""What `commit.lua` calls the writes."""

COUNTER_MIN, COUNTER_MAX = -(1 << 63), (1 << 63) - 1
LARGE: Final = 1 << 53
"""Amounts below this overflow no counter, unless one was filled with larger ones before."""
MOST: Final = 1 << 53
"""Positions and limits are doubles in the script; none that is real comes near this."""


class Group:
    """Batches of one tag as an argument of the script.

    Args:
        batches: The batches, all of one tag.
        layout: Where things are.
        store: What errors call the store.

    Attributes:
        is_large: Whether it adds numbers so large that evaluating it may well find it faulty.

    Raises:
        InvalidBatchError: One of them asks for what no store can do.
    """

    def __init__(self, batches: Sequence[Batch], *, layout: Layout, store: str) -> None:
        self._batches = batches
        self._layout = layout
        self._store = store
        self.is_large = False
        self._places: dict[tuple[int, str], tuple[int, str]] = {}
        self._hashes: list[str] = []
        self._ids: dict[tuple[str, int, Key], int] = {}
        self._keys: list[Key] = []
        self._homes: list[int] = []
        self._fields: list[str] = []
        self._lists: list[str] = []
        self._index_numbers: dict[str, int] = {}
        self._indexes: list[str] = []
        self._entry_ids: dict[tuple[str, str, int], int] = {}
        self._entry_homes: list[int] = []
        self._entries: list[bytes] = []
        with storable(store):
            written = [self._batch(batch) for batch in batches]
            records = (self._hashes, self._homes, self._fields, self._lists)
            self.packed = packed((*records, self._indexes, self._entry_homes, self._entries, written))

    def outcomes(self, found: Sequence[Any]) -> list[Outcome]:
        """Return the outcome of each batch, from what the script says of each."""
        return [self._outcome(batch, said) for batch, said in zip(self._batches, found, strict=True)]

    def overflow(self, record: int) -> InvalidBatchError:
        """Return what to raise where a counter would leave 64 bits."""
        reason = f"adding to counter {self._keys[record - 1]} leaves 64 bits signed"
        return InvalidBatchError(store=self._store, reason=reason)

    def _outcome(self, batch: Batch, said: Any) -> Outcome:
        if isinstance(said, int):
            return Conflict(batch.checks[said - 1])
        keys = self._keys
        middle, end = 1 + 2 * said[0], len(said) - 1
        return Committed(
            positions={keys[said[k] - 1]: said[k + 1] for k in range(1, middle, 2)},
            counters={keys[said[k] - 1]: number_of(said[k + 1]) for k in range(middle, end, 2)},
            cleared=said[end],
        )

    def _batch(self, batch: Batch) -> tuple[list[int], list[Any]]:
        slot = batch.slot
        check_slot(slot, store=self._store)
        checks: list[int] = []
        for check in batch.checks:
            self._check(slot, check, checks)
        clear = clear_of(batch, store=self._store)
        if clear is not None:
            return checks, self._clear(slot, clear)
        return checks, self._writes(slot, batch.writes)

    def _check(self, slot: int, check: Precondition, into: list[int]) -> None:
        if isinstance(check, Check):
            into += (self._record(CELL, slot, check.key), min(check.version, MOST))
        else:
            into += (self._record(LOG, slot, check.log), min(check.length, MOST))

    def _clear(self, slot: int, clear: Clear) -> list[Any]:
        home, lists = self._place(slot, clear.partition)
        return [CLEAR, home, (min(max(clear.limit, 0), MOST), clear.keep, lists)]

    def _writes(self, slot: int, writes: Iterable[Write]) -> list[Any]:
        """Return code, record or entry, and value of each write; the conditional ones last."""
        written: list[Any] = []
        whens: list[Any] = []
        record = self._record
        for write in writes:
            if isinstance(write, Put):
                written += (PUT, record(CELL, slot, write.key), _bytes(write.value))
            elif isinstance(write, Enter):
                written += (ENTER, self._entry(slot, write.index, write.entry), _bytes(write.value))
            elif isinstance(write, Leave):
                written += (LEAVE, self._entry(slot, write.index, write.entry), 0)
            elif isinstance(write, Add):
                written += (ADD, record(COUNTER, slot, write.counter), self._amount(write))
            elif isinstance(write, Append):
                written += (APPEND, record(LOG, slot, write.log), [_bytes(entry) for entry in write.entries])
            elif isinstance(write, Delete):
                others = (record(COUNTER, slot, write.key), record(LOG, slot, write.key))
                written += (DELETE, record(CELL, slot, write.key), others)
            elif isinstance(write, Trim):
                written += (TRIM, record(LOG, slot, write.log), max(min(write.before, MOST), -MOST))
            elif isinstance(write, When):
                branches = (self._writes(slot, write.then), self._writes(slot, write.otherwise))
                whens += (WHEN, record(COUNTER, slot, write.counter), (number_text(write.equals), *branches))
        return written + whens

    def _amount(self, add: Add) -> int | str:
        amount = add.amount
        if -LARGE < amount < LARGE:
            return amount
        if not COUNTER_MIN <= amount <= COUNTER_MAX:
            reason = f"adding {amount} to counter {add.counter} leaves 64 bits signed"
            raise InvalidBatchError(store=self._store, reason=reason)
        self.is_large = True
        return number_text(amount)

    def _place(self, slot: int, partition: str) -> tuple[int, str]:
        place = self._places.get((slot, partition))
        if place is None:
            self._hashes.append(self._layout.records(slot, partition))
            place = self._places[slot, partition] = (len(self._hashes), self._layout.lists(slot, partition))
        return place

    def _record(self, kind: str, slot: int, key: Key) -> int:
        number = self._ids.get((kind, slot, key))
        if number is None:
            partition, name = key
            home, lists = self._place(slot, partition)
            self._keys.append(key)
            self._homes.append(home)
            self._fields.append(kind + name)
            self._lists.append(lists + name if kind == LOG else "")
            number = self._ids[kind, slot, key] = len(self._keys)
        return number

    def _entry(self, slot: int, index: str, entry: str) -> int:
        number = self._entry_ids.get((index, entry, slot))
        if number is None:
            home = self._index_numbers.get(index)
            if home is None:
                self._indexes += self._layout.index(self._layout.tag_of(slot), index)
                home = self._index_numbers[index] = len(self._index_numbers) + 1
            self._entry_homes.append(home)
            self._entries.append(member(entry, slot))
            number = self._entry_ids[index, entry, slot] = len(self._entries)
        return number


def _bytes(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return value  # pyright: ignore[reportUnknownVariableType]  # a view of anything
    raise TypeError(f"a value must be bytes, not {type(value).__name__}")
