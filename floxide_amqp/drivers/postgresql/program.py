"""A group of batches as a program for the server, and the server's answer as outcomes.

The function `commit_group_1` (``migrations/0001.sql``) knows nothing of batches. It loads the cells, counters and logs
it is given by number, follows instructions of four numbers each over them, all in its own memory, and then writes each
kind of thing with one statement. So a group costs the server a fixed number of statements and some steps of an
interpreter, and a counter that fifty batches raise is written once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from floxide_amqp.drivers.postgresql.given import integers
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

WIDTH = 4
"""Numbers of one instruction: what to do, and on what."""

GONE = -1
"""In place of the number of a value: the entry leaves."""


class _Do:
    """What an instruction does."""

    PUT: Final = 1
    SET: Final = 2
    CHECK: Final = 3
    ADD: Final = 4
    APPEND: Final = 5
    PASSED: Final = 6
    REPORT: Final = 7
    CHECK_LENGTH: Final = 8
    WHEN: Final = 9
    JUMP: Final = 10
    DELETE: Final = 11
    TRIM: Final = 12


class Addresses:
    """Slots and keys, each once, numbered from 1: three columns of equal length."""

    __slots__ = ("_numbers", "firsts", "seconds", "slots")

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, str, str], int] = {}
        self.slots: list[int] = []
        self.firsts: list[bytes] = []
        self.seconds: list[bytes] = []

    def number(self, slot: int, first: str, second: str) -> int:
        """Return the number of an address, a new one where it was not asked for before.

        Raises:
            UnicodeEncodeError: It is no text that UTF-8 can write: half of a surrogate pair.
        """
        address = (slot, first, second)
        number = self._numbers.get(address)
        if number is None:
            self.firsts.append(first.encode())
            self.seconds.append(second.encode())
            self.slots.append(slot)
            number = self._numbers[address] = len(self.slots)
        return number

    def columns(self) -> tuple[str, list[bytes], list[bytes]]:
        """Return slots, first and second parts of the addresses."""
        return integers(self.slots), self.firsts, self.seconds


class Program:
    """The program of a group without clears.

    Args:
        batches: The group.
        space: What the store's locks are told apart by from those of other stores in the same database.

    Attributes:
        locks: The numbers of the locks that it takes.

    Raises:
        UnicodeEncodeError: A key is not valid Unicode.
    """

    def __init__(self, batches: Sequence[Batch], *, space: bytes) -> None:
        self._batches = batches
        self._cells = Addresses()
        self._counters = Addresses()
        self._logs = Addresses()
        self._entries = Addresses()
        self._values: list[bytes] = []
        self._code: list[int] = []
        self._conflicts: dict[int, Precondition] = {}
        for batch in batches:
            self._add_batch(batch)
        self.locks = locks_of(self._partitions(), space=space)

    def arguments(self) -> tuple[object, ...]:
        """Return what the server's function takes."""
        return (
            integers(self.locks),
            *self._cells.columns(),
            *self._counters.columns(),
            *self._logs.columns(),
            *self._entries.columns(),
            self._values,
            integers(self._code),
        )

    def outcomes(self, answer: Iterable[int]) -> tuple[Outcome, ...]:
        """Return what became of each batch, from what the server's function answered behind the time."""
        numbers = iter(answer)
        return tuple([self._outcome(batch, numbers) for batch in self._batches])

    def _partitions(self) -> set[tuple[int, bytes]]:
        kinds = (self._cells, self._counters, self._logs)
        return {at for kind in kinds for at in zip(kind.slots, kind.firsts, strict=True)}

    def _do(self, what: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        """Append an instruction and return where it is."""
        here = len(self._code) + 1
        self._code += (what, a, b, c)
        return here

    def _lead_here(self, instructions: Iterable[int], argument: int) -> None:
        """Let earlier instructions go on behind the last one."""
        for at in instructions:
            self._code[at - 1 + argument] = len(self._code) + 1

    def _add_batch(self, batch: Batch) -> None:
        slot = batch.slot
        checks = [self._add_check(slot, check) for check in batch.checks]
        self._do(_Do.PASSED)
        self._add_writes(slot, batch.writes)
        for counter in _mentioned(batch.writes):
            self._do(_Do.REPORT, self._counters.number(slot, *counter))
        self._lead_here(checks, 3)

    def _add_check(self, slot: int, check: Precondition) -> int:
        if isinstance(check, Check):
            at = self._do(_Do.CHECK, self._cells.number(slot, *check.key), check.version)
        else:
            at = self._do(_Do.CHECK_LENGTH, self._logs.number(slot, *check.log), check.length)
        self._conflicts[at] = check
        return at

    def _add_writes(self, slot: int, writes: Iterable[Write]) -> None:
        whens: list[When] = []
        for write in writes:
            if isinstance(write, Put):
                self._do(_Do.PUT, self._cells.number(slot, *write.key), self._value(write.value))
            elif isinstance(write, Enter):
                self._do(_Do.SET, self._entries.number(slot, write.index, write.entry), self._value(write.value))
            elif isinstance(write, Leave):
                self._do(_Do.SET, self._entries.number(slot, write.index, write.entry), GONE)
            elif isinstance(write, When):
                whens.append(write)
            else:
                self._add_rarer(slot, write)
        for when in whens:
            self._add_when(slot, when)

    def _add_rarer(self, slot: int, write: Add | Append | Delete | Trim | Clear) -> None:
        if isinstance(write, Add):
            self._do(_Do.ADD, self._counters.number(slot, *write.counter), write.amount)
        elif isinstance(write, Append):
            first = len(self._values) + 1
            self._values += write.entries
            self._do(_Do.APPEND, self._logs.number(slot, *write.log), first, len(write.entries))
        elif isinstance(write, Delete):
            kinds = (self._cells, self._counters, self._logs)
            self._do(_Do.DELETE, *(kind.number(slot, *write.key) for kind in kinds))
        elif isinstance(write, Trim):
            self._do(_Do.TRIM, self._logs.number(slot, *write.log), write.before)

    def _add_when(self, slot: int, when: When) -> None:
        test = self._do(_Do.WHEN, self._counters.number(slot, *when.counter), when.equals)
        self._add_writes(slot, when.then)
        if not when.otherwise:
            self._lead_here([test], 3)
            return
        jump = self._do(_Do.JUMP)
        self._lead_here([test], 3)
        self._add_writes(slot, when.otherwise)
        self._lead_here([jump], 1)

    def _value(self, value: bytes) -> int:
        self._values.append(value)
        return len(self._values)

    def _outcome(self, batch: Batch, numbers: Iterator[int]) -> Outcome:
        conflict = next(numbers)
        if conflict:
            return Conflict(self._conflicts[conflict])
        positions: dict[Key, int] = {}
        touched: dict[Key, None] = {}
        _follow(batch.writes, numbers, positions, touched)
        mentioned = _mentioned(batch.writes)
        values = dict(zip(mentioned, islice(numbers, len(mentioned)), strict=True))
        return Committed(positions=positions, counters={counter: values[counter] for counter in touched})


def _follow(
    writes: Iterable[Write], numbers: Iterator[int], positions: dict[Key, int], touched: dict[Key, None]
) -> None:
    """Go the way through a batch that the server went, and note what it answered on that way."""
    whens: list[When] = []
    for write in writes:
        if isinstance(write, Append):
            positions.setdefault(write.log, next(numbers))
        elif isinstance(write, Add):
            touched[write.counter] = None
        elif isinstance(write, When):
            whens.append(write)
    for when in whens:
        touched[when.counter] = None
        _follow(when.then if next(numbers) else when.otherwise, numbers, positions, touched)


def _mentioned(writes: Iterable[Write]) -> dict[Key, None]:
    """Return the counters that a batch may add to or test, on whichever way through it."""
    found: dict[Key, None] = {}
    for write in writes:
        if isinstance(write, Add):
            found[write.counter] = None
        elif isinstance(write, When):
            found[write.counter] = None
            found |= _mentioned(write.then)
            found |= _mentioned(write.otherwise)
    return found


def locks_of(partitions: Iterable[tuple[int, bytes]], *, space: bytes) -> list[int]:
    """Return the numbers of the advisory locks that guard partitions of slots, in the one order in which all take them.

    Two partitions may share a lock by chance; then their commits wait for each other, and nothing else happens.
    """
    return sorted({_lock_of(slot, partition, space) for slot, partition in partitions})


def _lock_of(slot: int, partition: bytes, space: bytes) -> int:
    digest = hashlib.blake2b(b"%d/" % slot + partition, digest_size=8, key=space[:64]).digest()
    return int.from_bytes(digest, "big", signed=True)
