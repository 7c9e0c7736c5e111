"""A driver against the model: Hypothesis invents groups and reads, both must answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from floxide_amqp.core.ids import Slot
from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Batch,
    Check,
    CheckLength,
    Clear,
    Delete,
    Enter,
    IndexRange,
    Key,
    KeyValueStore,
    Leave,
    LogRange,
    Precondition,
    Put,
    Read,
    RecordInfo,
    RecordKind,
    Trim,
    When,
    Write,
)
from floxide_amqp.testing.key_value.model import KeyValueModel

SLOTS = [Slot(3), Slot(4)]
KEYS = [Key("r", "a"), Key("r", "b"), Key("s", "a")]
INDEXES = ["i", "j"]
ENTRIES = ["a", "b", "ba", "é", "\uffff", "😀"]

_keys = st.sampled_from(KEYS)
_values = st.binary(max_size=3)
_bounds = st.sampled_from(["", *ENTRIES])
_small = st.integers(-2, 2)


def _tuple_of_writes(writes: list[Write]) -> tuple[Write, ...]:
    return tuple(writes)


def _tuple_of_checks(checks: list[Precondition]) -> tuple[Precondition, ...]:
    return tuple(checks)


def _writes(depth: int) -> st.SearchStrategy[tuple[Write, ...]]:
    kinds: list[st.SearchStrategy[Write]] = [
        st.builds(Put, _keys, _values),
        st.builds(Delete, _keys),
        st.builds(Add, _keys, _small),
        st.builds(Append, _keys, st.lists(_values, max_size=3).map(tuple)),
        st.builds(Trim, _keys, st.integers(-1, 6)),
        st.builds(Enter, st.sampled_from(INDEXES), st.sampled_from(ENTRIES), _values),
        st.builds(Leave, st.sampled_from(INDEXES), st.sampled_from(ENTRIES)),
    ]
    if depth:
        kinds.append(st.builds(When, _keys, _small, _writes(depth - 1), _writes(depth - 1)))
    return st.lists(st.one_of(kinds), max_size=4).map(_tuple_of_writes)


_checks: st.SearchStrategy[Precondition] = st.one_of(
    st.builds(Check, _keys, st.sampled_from([ABSENT, PRESENT, 1, 2, 3])),
    st.builds(CheckLength, _keys, st.integers(0, 4)),
)
_clears = st.builds(
    Clear,
    st.sampled_from([key.partition for key in KEYS]),
    st.just(100),
    st.lists(st.sampled_from([key.name for key in KEYS]), max_size=1).map(tuple),
)
_batches = st.builds(
    Batch,
    slot=st.sampled_from(SLOTS),
    checks=st.lists(_checks, max_size=2).map(_tuple_of_checks),
    writes=_writes(2) | st.tuples(_clears),
)
_ranges = st.builds(
    IndexRange, st.sampled_from(INDEXES), _bounds, st.none() | _bounds, st.integers(0, 4), st.booleans()
)
_log_ranges = st.builds(LogRange, _keys, st.integers(0, 6), st.integers(0, 4))


class KeyValueMachine(RuleBasedStateMachine):
    """Commits and reads on a driver and on the model; made for one store by `compare_with_model`."""

    runner: ClassVar[asyncio.Runner]
    store: ClassVar[KeyValueStore]
    examples: ClassVar[count[int]]
    has_several_servers: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.model = KeyValueModel()
        self.example = next(self.examples)

    @rule(group=st.lists(_batches, max_size=3))
    def commit(self, group: list[Batch]) -> None:
        """Commit a group; outcomes agree."""
        reply = self.runner.run(self.store.commit([self._own_batch(batch) for batch in group]))
        assert reply.outcomes == tuple(self.model.commit(self._own_batch(batch)) for batch in group)

    @rule(group=st.lists(_batches, max_size=3), later=st.lists(_batches, max_size=1))
    def commit_a_faulty_group(self, group: list[Batch], later: list[Batch]) -> None:
        """Commit a group with a batch no store can apply; it is refused and, as the invariant sees, nothing changed."""
        counter = Key("r", "faulty")
        faulty = Batch(slot=SLOTS[0], writes=(Add(counter, 1), Add(counter, (1 << 63) - 1)))
        together = [
            batch for batch in (*group, faulty, *later) if batch.slot == SLOTS[0] or not self.has_several_servers
        ]
        batches = [self._own_batch(batch) for batch in together]
        with pytest.raises(StoreError):
            self.runner.run(self.store.commit(batches))

    @rule(
        slot=st.sampled_from(SLOTS),
        logs=st.lists(_log_ranges, max_size=2),
        indexes=st.lists(_ranges, max_size=2),
    )
    def read(self, slot: Slot, logs: list[LogRange], indexes: list[IndexRange]) -> None:
        """Read pages and ranges; answers agree."""
        self._compare(
            Read(
                slot=slot,
                logs=tuple(LogRange(self._own(asked.log), asked.start, asked.limit) for asked in logs),
                indexes=tuple(self._own_range(asked) for asked in indexes),
            )
        )

    @rule(asked=_ranges)
    def scan(self, asked: IndexRange) -> None:
        """Scan all slots; answers agree."""
        own = self._own_range(asked)
        assert list(self.runner.run(self.store.scan(own))) == self.model.scan(own)

    @rule(slot=st.sampled_from(SLOTS), partition=st.sampled_from(["r", "s"]), limit=st.integers(1, 4))
    def records(self, slot: Slot, partition: str, limit: int) -> None:
        """List a partition; answers agree, but for the size of a log, which a driver may estimate."""
        own = self._own(Key(partition, "")).partition
        found = {record for record in self.runner.run(_records(self.store, slot, own, limit)) if record.number}
        assert {_sized(record) for record in found} == {_sized(record) for record in self.model.records(slot, own)}

    @invariant()
    def everything_agrees(self) -> None:
        """Read everything there can be."""
        keys = tuple(self._own(key) for key in KEYS)
        for slot in SLOTS:
            self._compare(
                Read(
                    slot=slot,
                    cells=keys,
                    counters=keys,
                    logs=tuple(LogRange(key) for key in keys),
                    indexes=tuple(self._own_range(IndexRange(index)) for index in INDEXES),
                )
            )

    def _compare(self, read: Read) -> None:
        assert self.runner.run(self.store.read([read])).snapshots == (self.model.read(read),)

    def _own(self, key: Key) -> Key:
        """Keep the examples apart on the one store they share."""
        return Key(f"{self.example}/{key.partition}", key.name)

    def _own_range(self, asked: IndexRange) -> IndexRange:
        index = f"{self.example}/{asked.index}"
        return IndexRange(index, asked.after, asked.before, asked.limit, asked.reverse)

    def _own_batch(self, batch: Batch) -> Batch:
        checks = tuple(
            Check(self._own(check.key), check.version)
            if isinstance(check, Check)
            else CheckLength(self._own(check.log), check.length)
            for check in batch.checks
        )
        return Batch(slot=batch.slot, checks=checks, writes=self._own_writes(batch.writes))

    def _own_writes(self, writes: tuple[Write, ...]) -> tuple[Write, ...]:
        return tuple(self._own_write(write) for write in writes)

    def _own_write(self, write: Write) -> Write:
        match write:
            case Put(key, value):
                return Put(self._own(key), value)
            case Delete(key):
                return Delete(self._own(key))
            case Add(key, amount):
                return Add(self._own(key), amount)
            case Append(key, entries):
                return Append(self._own(key), entries)
            case Trim(key, before):
                return Trim(self._own(key), before)
            case Enter(index, entry, value):
                return Enter(f"{self.example}/{index}", entry, value)
            case Leave(index, entry):
                return Leave(f"{self.example}/{index}", entry)
            case Clear(partition, limit, keep):
                return Clear(self._own(Key(partition, "")).partition, limit, keep)
            case When(key, equals, then, otherwise):
                return When(self._own(key), equals, self._own_writes(then), self._own_writes(otherwise))


async def _records(store: KeyValueStore, slot: Slot, partition: str, limit: int) -> list[RecordInfo]:
    found: list[RecordInfo] = []
    after: bytes | None = b""
    while after is not None:
        page = await store.records(slot, partition=partition, after=after, limit=limit)
        found += page.records
        after = page.after
    return found


def _sized(record: RecordInfo) -> RecordInfo:
    return record if record.kind is not RecordKind.LOG else record._replace(size=0)


def compare_with_model(
    open_store: Callable[[], Awaitable[KeyValueStore]],
    *,
    examples: int = 40,
    steps: int = 12,
    has_several_servers: bool = False,
) -> None:
    """Run the machine against a store opened for it; blocks, so call it outside of any event loop's thread.

    Args:
        open_store: Opens the store; once.
        examples: Histories to try.
        steps: Longest history.
        has_several_servers: Whether a faulty group is refused as a whole only where all of it is for one server.
    """

    async def opened() -> KeyValueStore:
        return await open_store()

    with asyncio.Runner() as runner:
        store = runner.run(opened())
        shared = {"runner": runner, "store": store, "examples": count(), "has_several_servers": has_several_servers}
        machine = type("Machine", (KeyValueMachine,), shared)
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
        finally:
            runner.run(store.aclose())
