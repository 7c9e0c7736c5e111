"""A group of batches that have nothing in common, as rows for the server, and the server's answer as outcomes.

That is nearly every group of a worker whose runs are many: each batch is of a run of its own, whose checks hold. What
is then written is known but for the branches of `When`, and the function `commit_disjoint_1` (``migrations/0002.sql``)
writes it without an interpreter. It is for those groups what `program` is for all.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

from floxide_amqp.drivers.postgresql.given import Given, integers
from floxide_amqp.drivers.postgresql.program import locks_of
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Batch,
    Check,
    Committed,
    Enter,
    Key,
    Leave,
    Outcome,
    Precondition,
    Put,
    When,
    Write,
)

_ADD: Final = 3
_APPEND: Final = 4
"""Numbers of one row."""

MOST_APPENDED: Final = 32
"""Entries of one log at once. For each the server looks for the log's end anew, past those that it has just put there:
32 take as long as by the general way, 1,000 take 16 times as long, and 4,000 take 63 times (0.8 s)."""

ALWAYS: Final = 1
"""The number of the branch that is taken whatever the counters are."""


class NotDisjointError(Exception):
    """A group writes something twice, or has an operation that `DisjointProgram` has no rows for."""


class _Homes(dict[str, int]):
    """Where the row of a partition begins, among the homes of one batch; a new one gets the next row.

    Attributes:
        rows: The homes of all batches.

    Raises:
        NotDisjointError: Another batch is at home in the partition that is asked for.
    """

    __slots__ = ("_given", "_slot", "_slots", "rows")

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._given = given
        self._slot = 0
        self._slots: dict[str, int] = {}
        self.rows: list[int] = []

    def enter(self, slot: int) -> None:
        """Go on to the next batch."""
        self.clear()
        self._slot = slot

    def __missing__(self, partition: str) -> int:
        if partition in self._slots:
            raise NotDisjointError
        self._slots[partition] = self._slot
        home = self[partition] = len(self.rows) + 1
        self.rows += (self._slot, self._given[partition])
        return home

    def partitions(self) -> list[tuple[int, bytes]]:
        """Return the homes of all batches, as `locks_of` takes them."""
        return [(slot, partition.encode()) for partition, slot in self._slots.items()]


class DisjointProgram:
    """The rows of a group in which no batch, and no write, depends on another.

    Each batch has partitions of its own, and puts, adds to, appends to, enters or takes out each thing once. It tests a
    counter only after it has added to it, and branches hold no more than puts and entries. (An entry and a cell whose
    two names are the same count as one thing; that is rare, and such a group goes the other way. So does one that
    appends more than `MOST_APPENDED` entries to a log.)

    Args:
        batches: The group.
        space: As for `locks_of`.

    Attributes:
        locks: The numbers of the locks that it takes.

    Raises:
        NotDisjointError: It is no such group.
        UnicodeEncodeError: A key is not valid Unicode.
    """

    def __init__(self, batches: Sequence[Batch], *, space: bytes) -> None:
        self._given = Given()
        self._homes = _Homes(self._given)
        self._checks: list[int] = []
        self._adds: list[int] = []
        self._whens: list[int] = []
        self._puts: list[int] = []
        self._appends: list[int] = []
        self._leaves: list[int] = []
        self._enters: list[int] = []
        self._written: set[tuple[str, str]] = set()
        self._answers: list[tuple[dict[Key, int], dict[Key, int]]] = []
        for batch in batches:
            self._homes.enter(batch.slot)
            self._add_checks(batch.checks)
            self._add_batch(batch)
        self.locks = locks_of(self._homes.partitions(), space=space)

    def arguments(self) -> tuple[object, ...]:
        """Return what the server's function takes."""
        before = self._homes.rows, self._checks, self._adds, self._whens
        after = self._puts, self._appends, self._leaves, self._enters
        return (integers(self.locks), self._given.all, *map(integers, before + after))

    def outcomes(self, answer: Sequence[int]) -> tuple[Outcome, ...]:
        """Return what became of each batch, from what the server's function answered behind the time."""
        appended = len(self._adds) // _ADD
        return tuple(
            [
                Committed(
                    positions={log: answer[appended + at] for log, at in logs.items()},
                    counters={counter: answer[at] for counter, at in counters.items()},
                )
                for logs, counters in self._answers
            ]
        )

    def _add_checks(self, checks: Iterable[Precondition]) -> None:
        given, homes = self._given, self._homes
        for check in checks:
            if not isinstance(check, Check):
                raise NotDisjointError
            partition, name = check.key
            self._checks += (homes[partition], given[name], check.version)

    def _add_batch(self, batch: Batch) -> None:
        given, homes = self._given, self._homes
        logs: dict[Key, int] = {}
        counters: dict[Key, int] = {}
        whens: list[When] = []
        others, targets = self._add_writes(batch.slot, batch.writes, ALWAYS)
        self._claim(targets)
        for write in others:
            if isinstance(write, Add):
                partition, name = write.counter
                counters[_new(write.counter, counters)] = len(self._adds) // _ADD
                self._adds += (homes[partition], given[name], write.amount)
            elif isinstance(write, Append) and 0 < len(write.entries) <= MOST_APPENDED:
                partition, name = write.log
                logs[_new(write.log, logs)] = len(self._appends) // _APPEND
                for place, entry in enumerate(write.entries):
                    self._appends += (homes[partition], given[name], given.value(entry), place)
            elif isinstance(write, When):
                whens.append(write)
            else:
                raise NotDisjointError
        for when in whens:
            self._add_when(batch.slot, when, counters)
        self._answers.append((logs, counters))

    def _add_writes(self, slot: int, writes: Sequence[Write], branch: int) -> tuple[list[Write], set[tuple[str, str]]]:
        """Add puts and entries; return the writes of other kinds, and what is written."""
        given, homes = self._given, self._homes
        others: list[Write] = []
        targets: set[tuple[str, str]] = set()
        for write in writes:
            if isinstance(write, Put):
                partition, name = write.key
                targets.add(write.key)
                self._puts += (homes[partition], given[name], given.value(write.value), branch)
            elif isinstance(write, Enter):
                targets.add((write.index, write.entry))
                self._enters += (slot, given[write.index], given[write.entry], branch, given.value(write.value))
            elif isinstance(write, Leave):
                targets.add((write.index, write.entry))
                self._leaves += (slot, given[write.index], given[write.entry], branch)
            else:
                others.append(write)
        if len(targets) + len(others) < len(writes):
            raise NotDisjointError
        return others, targets

    def _add_when(self, slot: int, when: When, counters: Mapping[Key, int]) -> None:
        if when.counter not in counters:
            raise NotDisjointError
        branch = len(self._whens) + ALWAYS + 1
        self._whens += (counters[when.counter] + 1, when.equals)
        others, then = self._add_writes(slot, when.then, branch)
        more_others, otherwise = self._add_writes(slot, when.otherwise, branch + 1)
        if others or more_others:
            raise NotDisjointError
        self._claim(then | otherwise)  # what is in both is written once all the same

    def _claim(self, targets: set[tuple[str, str]]) -> None:
        if not self._written.isdisjoint(targets):
            raise NotDisjointError
        self._written |= targets


def _new(key: Key, keys: Container[Key]) -> Key:
    if key in keys:
        raise NotDisjointError
    return key
