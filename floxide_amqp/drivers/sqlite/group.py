"""A group of batches, evaluated in memory between one read and one write of the file.

`GroupState` first collects what the batches may ask about, `load` reads all of it, `apply` decides and changes each
batch in turn, and `flush` writes what came of it. So a batch that conflicts, or a group that is faulty, has written
nothing, and a counter that fifty batches raise is written once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeAlias, TypeVar

from floxide_amqp.drivers.sqlite import statements
from floxide_amqp.drivers.sqlite.statements import Address, address_of
from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Batch,
    Check,
    CheckLength,
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

_COUNTER_MIN, _COUNTER_MAX = -(1 << 63), (1 << 63) - 1

_IndexAddress: TypeAlias = tuple[str, str, int]
_AddressT = TypeVar("_AddressT")
_ValueT = TypeVar("_ValueT")


class _Gone(Enum):
    """Stands for the value of what was deleted; unlike None, nobody can put it."""

    GONE = "gone"


_GONE = _Gone.GONE


class _LogChanges:
    """A log's bounds as of the batches applied so far, and what to write of it."""

    __slots__ = ("appended", "end", "first", "is_deleted", "is_trimmed", "written_from")

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.written_from = end  # position of appended[0]
        self.appended: list[bytes] = []
        self.is_deleted = False
        self.is_trimmed = False

    def append(self, entries: tuple[bytes, ...]) -> int:
        position = self.end
        self.appended.extend(entries)
        self.end += len(entries)
        return position

    def trim(self, before: int) -> None:
        before = min(before, self.end)
        if before > self.first:
            self.first = before
            self.is_trimmed = True
            if before > self.written_from:
                del self.appended[: before - self.written_from]
                self.written_from = before

    def delete(self) -> None:
        self.first = self.end = self.written_from = 0
        self.appended = []
        self.is_deleted = True
        self.is_trimmed = False


class GroupState:
    """What a group of batches has read and changed so far."""

    def __init__(self, batches: Sequence[Batch], *, store: str) -> None:
        self._store = store
        self._versions: dict[Address, int] = {}
        self._counters: dict[Address, int] = {}
        self._logs: dict[Address, _LogChanges] = {}
        self._cell_changes: dict[Address, bytes | _Gone] = {}
        self._counter_changes: dict[Address, int | _Gone] = {}
        self._index_changes: dict[_IndexAddress, bytes | _Gone] = {}
        self._log_addresses: dict[Address, None] = {}
        for batch in batches:
            self._collect_checks(batch.slot, batch.checks)
            self._collect_writes(batch.slot, batch.writes)

    def _collect_checks(self, slot: int, checks: Iterable[Precondition]) -> None:
        for check in checks:
            if isinstance(check, Check):
                self._versions[address_of(slot, check.key)] = 0
            else:
                self._log_addresses[address_of(slot, check.log)] = None

    def _collect_writes(self, slot: int, writes: Iterable[Write]) -> None:
        for write in writes:
            if isinstance(write, Put):
                self._versions[address_of(slot, write.key)] = 0
            elif isinstance(write, Add):
                self._counters[address_of(slot, write.counter)] = 0
            elif isinstance(write, (Append, Trim)):
                self._log_addresses[address_of(slot, write.log)] = None
            elif isinstance(write, When):
                self._counters[address_of(slot, write.counter)] = 0
                self._collect_writes(slot, write.then)
                self._collect_writes(slot, write.otherwise)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the present state of everything the batches may ask about."""
        cells, counters, logs = list(self._versions), list(self._counters), list(self._log_addresses)
        versions, values, bounds = statements.look_up_numbers(connection, cells, counters, logs)
        self._versions = dict(zip(cells, versions, strict=True))
        self._counters = dict(zip(counters, values, strict=True))
        self._logs = {at: _LogChanges(first, end) for at, (first, end) in zip(logs, bounds, strict=True)}

    def apply(self, batch: Batch) -> Outcome:
        """Check a batch and apply it, in memory.

        Raises:
            InvalidBatchError: A counter would leave 64 bits; the group must not be flushed.
        """
        slot = batch.slot
        for check in batch.checks:
            if self._fails(slot, check):
                return Conflict(check)
        positions: dict[Key, int] = {}
        touched: dict[Key, None] = {}
        self._apply_writes(slot, batch.writes, positions, touched)
        counters = {key: self._counters[address_of(slot, key)] for key in touched}
        return Committed(positions=positions, counters=counters)

    def _fails(self, slot: int, check: Precondition) -> bool:
        if isinstance(check, CheckLength):
            return self._logs[address_of(slot, check.log)].end != check.length
        version = self._versions[address_of(slot, check.key)]
        return version == ABSENT if check.version == PRESENT else version != check.version

    def _apply_writes(
        self, slot: int, writes: Iterable[Write], positions: dict[Key, int], touched: dict[Key, None]
    ) -> None:
        whens: list[When] = []
        for write in writes:
            if isinstance(write, Put):
                address = address_of(slot, write.key)
                self._versions[address] += 1
                self._cell_changes[address] = write.value
            elif isinstance(write, Enter):
                self._index_changes[write.index, write.entry, slot] = write.value
            elif isinstance(write, Leave):
                self._index_changes[write.index, write.entry, slot] = _GONE
            elif isinstance(write, Add):
                self._add(address_of(slot, write.counter), write.amount)
                touched[write.counter] = None
            elif isinstance(write, Append):
                positions.setdefault(write.log, self._logs[address_of(slot, write.log)].append(write.entries))
            elif isinstance(write, Delete):
                self._delete(address_of(slot, write.key))
            elif isinstance(write, Trim):
                self._logs[address_of(slot, write.log)].trim(write.before)
            elif isinstance(write, When):
                whens.append(write)
        for when in whens:
            touched[when.counter] = None
            holds = self._counters[address_of(slot, when.counter)] == when.equals
            self._apply_writes(slot, when.then if holds else when.otherwise, positions, touched)

    def _add(self, address: Address, amount: int) -> None:
        value = self._counters[address] + amount
        if not (_COUNTER_MIN <= value <= _COUNTER_MAX and _COUNTER_MIN <= amount <= _COUNTER_MAX):
            reason = f"adding {amount} to counter {Key(*address[1:])} leaves 64 bits signed"
            raise InvalidBatchError(store=self._store, reason=reason)
        self._counters[address] = value
        self._counter_changes[address] = value

    def _delete(self, address: Address) -> None:
        self._versions[address] = 0
        self._cell_changes[address] = _GONE
        self._counters[address] = 0
        self._counter_changes[address] = _GONE
        if address not in self._logs:
            self._logs[address] = _LogChanges(0, 0)
        self._logs[address].delete()

    def clear(self, connection: sqlite3.Connection, batch: Batch, clear: Clear) -> Outcome:
        """Check a batch that clears a partition, and remove its records from the file.

        The group's other changes must have been flushed, and those after it be loaded afterwards.
        """
        for check in batch.checks:
            if self._fails(batch.slot, check):
                return Conflict(check)
        return Committed(cleared=statements.clear_partition(connection, batch.slot, clear))

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write what the applied batches changed."""
        cells, counters, entries = self._cell_changes, self._counter_changes, self._index_changes
        _write(connection, statements.delete_from("cells"), _gone(cells))
        _write(connection, statements.delete_from("counters"), _gone(counters))
        _write(connection, statements.leave_index, _gone(entries))
        versions = self._versions
        _write_values(connection, statements.put_cells, [(*at, versions[at], value) for at, value in _kept(cells)])
        _write(connection, statements.put_counters, [(*at, value) for at, value in _kept(counters)])
        _write_values(connection, statements.enter_index, [(*at, value) for at, value in _kept(entries)])
        self._flush_logs(connection)

    def _flush_logs(self, connection: sqlite3.Connection) -> None:
        logs = self._logs
        deleted = [at for at, log in logs.items() if log.is_deleted]
        _write(connection, statements.delete_from("log_entries"), deleted)
        _write(connection, statements.delete_from("log_starts"), deleted)
        trimmed = [(at, log.first) for at, log in logs.items() if log.is_trimmed]
        for at, first in trimmed:
            connection.execute(statements.TRIM_LOG, (*at, first))
        _write(connection, statements.put_log_starts, [(*at, first) for at, first in trimmed])
        _write_values(
            connection,
            statements.append_entries,
            [(*at, log.written_from + n, entry) for at, log in logs.items() for n, entry in enumerate(log.appended)],
        )


def _gone(changes: Mapping[_AddressT, _ValueT | _Gone]) -> list[_AddressT]:
    return [at for at, value in changes.items() if value is _GONE]


def _kept(changes: Mapping[_AddressT, _ValueT | _Gone]) -> list[tuple[_AddressT, _ValueT]]:
    return [(at, value) for at, value in changes.items() if not isinstance(value, _Gone)]


_write = statements.write_rows
_write_values = statements.write_values
