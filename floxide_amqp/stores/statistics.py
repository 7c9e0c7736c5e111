"""What a store holds, counted: runs by status, records and bytes by kind, the largest runs.

It passes over everything, page by page, while others work; what changes meanwhile is counted as it is met. Sizes are
those of values and of index entries, without what a server adds to them.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from floxide_amqp.core.ids import SLOT_COUNT, SYSTEM_SLOT, RunId, Slot
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import Entry, IndexRange, Read, RecordInfo, RecordKind
from floxide_amqp.stores import keys, run_list_keys, schedule_keys, source_keys
from floxide_amqp.stores.session import Session

PAGE: Final = 1_000
"""Records and entries asked for at a time."""

AT_ONCE: Final = 100
"""Indexes of runs read in one round trip: most of them have few entries."""

STATUSES: Final = tuple(status for status in RunStatus if status is not RunStatus.WAITING)
"""The statuses that are stored."""

OPEN: Final = tuple(status for status in STATUSES if not status.is_terminal)

LISTS: Final = (
    run_list_keys.RUNS, *(run_list_keys.ended_runs(status) for status in STATUSES if status.is_terminal),
    keys.CONDEMNED, keys.TOMBSTONES, keys.RUNS_ASIDE, keys.TIMERS, keys.SET_ASIDE,
    keys.WORKERS, keys.QUARANTINE, keys.DEAD_LETTERS, keys.LETTERS,
    schedule_keys.SCHEDULES, source_keys.SOURCES,
)  # fmt: skip
"""Indexes over all runs whose names are known, but those by status."""

EXACT: Final = {
    "header": "headers", "state": "headers", "x": "context", "xs": "context", "xt": "context", "h": "history",
    "e": "errors", "tombstone": "tombstones", "attributes": "attributes", "moments": "history",
    "spec": "schedules", "progress": "schedules",
    "source": "sources", "control": "sources", "problem": "sources", "latest": "sources", "position": "sources",
}  # fmt: skip
PREFIXES: Final = {
    "i": "items", "v": "inputs of items", "s": "scopes", "n": "scopes", "c": "counters", "p": "pages of fan-outs",
    "d": "dead letters", "k": "children", "g": "letters received", "xc": "context",
}  # fmt: skip
"""What a record of a run is, by its name, or by what its name begins with before a colon."""


@dataclass
class Amount:
    """How many records, or entries of indexes, and how many bytes."""

    records: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.records += 1
        self.bytes += size


@dataclass(frozen=True, slots=True)
class RunSize:
    """A run and how much there is of it."""

    run_id: str
    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OldestRun:
    """The open run that was started first."""

    run_id: str
    status: RunStatus
    created_at_ms: int


@dataclass(kw_only=True)
class StoreStatistics:
    """What a store holds.

    Attributes:
        runs: How many runs have each stored status; a waiting run is running.
        kinds: How much there is of each kind.
        oldest_open: The open run that was started first, if there is one.
        largest: The largest runs, the largest first.
    """

    runs: dict[str, int] = field(default_factory=dict[str, int])
    kinds: dict[str, Amount] = field(default_factory=lambda: defaultdict[str, Amount](Amount))
    oldest_open: OldestRun | None = None
    largest: list[RunSize] = field(default_factory=list[RunSize])

    @property
    def total(self) -> Amount:
        """All kinds together."""
        kinds = self.kinds.values()
        return Amount(sum(each.records for each in kinds), sum(each.bytes for each in kinds))


def _unheard(done: int, steps: int) -> None:
    del done, steps


async def survey(
    session: Session, *, largest: int = 10, on_progress: Callable[[int, int], None] = _unheard
) -> StoreStatistics:
    """Count what a store holds.

    Args:
        session: The store.
        largest: How many of the largest runs to name; 0 or more.
        on_progress: Told how many steps are done, and of how many.

    Raises:
        StoreUnavailableError: The store, or one of its servers, was out of reach for longer than the patience.
    """
    survey = _Survey(session, largest)
    steps = SLOT_COUNT + 2
    for slot in range(SLOT_COUNT):
        on_progress(slot, steps)
        await survey.slot(Slot(slot))
    on_progress(SLOT_COUNT, steps)
    for part in session.parts:
        await survey.system(part)
    on_progress(SLOT_COUNT + 1, steps)
    await survey.lists()
    on_progress(steps, steps)
    return survey.found


class _Survey:
    def __init__(self, session: Session, largest: int) -> None:
        self._session = session
        self._largest = largest
        self.found = StoreStatistics()

    async def slot(self, slot: Slot) -> None:
        """Count the runs of a slot, with the indexes that are theirs."""
        sizes: dict[str, Amount] = defaultdict(Amount)
        indexes: dict[str, str] = {}
        async for page in _records(self._session, slot):
            for record in page:
                run_id = record.key.partition
                self.found.kinds[kind_of(record)].add(record.size)
                sizes[run_id].add(record.size)
                indexes |= dict.fromkeys(_indexes(record), run_id)
        names = sorted(indexes)
        for some in (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)):
            for name, amount in zip(some, await self._index_sizes(slot, some), strict=True):
                for counted in (sizes[indexes[name]], self.found.kinds["indexes"]):
                    counted.records += amount.records
                    counted.bytes += amount.bytes
        runs = [RunSize(run_id, amount.records, amount.bytes) for run_id, amount in sizes.items()]
        largest = (*self.found.largest, *runs)
        self.found.largest = heapq.nlargest(self._largest, largest, key=lambda run: (run.bytes, run.run_id))

    async def _index_sizes(self, slot: Slot, names: Sequence[str]) -> list[Amount]:
        """Return how much is in each of some indexes of a slot; most of them are small."""
        amounts = {name: Amount() for name in names}
        after: dict[str, str] = dict.fromkeys(names, "")
        while after:
            ranges = tuple([IndexRange(name, behind, limit=PAGE) for name, behind in after.items()])
            found = (await self._session.read(Read(slot=slot, indexes=ranges))).indexes
            pages = dict(zip(tuple(after), found, strict=True))
            for name, entries in pages.items():
                _count(amounts[name], entries)
            after = {name: entries[-1].entry for name, entries in pages.items() if len(entries) == PAGE}
        return list(amounts.values())

    async def system(self, part: Session) -> None:
        """Count what belongs to a server."""
        async for page in _records(part, SYSTEM_SLOT):
            for record in page:
                kind = "quarantine" if record.key.name.startswith("quarantine") else "workers and the like"
                self.found.kinds[kind].add(record.size)

    async def lists(self) -> None:
        """Count the lists that span all runs, and find the oldest open run."""
        for index in LISTS:
            await self._list(
                index, times=2 if index == run_list_keys.RUNS else 1
            )  # each run is listed under its workflow too
        for status in STATUSES:
            count = await self._list(run_list_keys.runs_with_status(status))
            if count:
                self.found.runs[status.value] = count
        oldest = [run for status in OPEN if (run := await self._oldest(status)) is not None]
        self.found.oldest_open = min(oldest, key=lambda run: run.created_at_ms, default=None)

    async def _list(self, index: str, *, times: int = 1) -> int:
        after, count = "", Amount()
        while True:
            entries = await self._session.scan(IndexRange(index, after, limit=PAGE))
            _count(count, entries)
            if len(entries) < PAGE:
                break
            after = entries[-1].entry
        self.found.kinds["indexes"].records += count.records * times
        self.found.kinds["indexes"].bytes += count.bytes * times
        return count.records

    async def _oldest(self, status: RunStatus) -> OldestRun | None:
        for entry in await self._session.scan(
            IndexRange(run_list_keys.runs_with_status(status), limit=1, reverse=True)
        ):
            return OldestRun(run_list_keys.run_of(entry.entry), status, run_list_keys.created_at_ms(entry.entry))
        return None


async def _records(session: Session, slot: Slot) -> AsyncGenerator[Sequence[RecordInfo]]:
    after: bytes | None = b""
    while after is not None:
        page = await session.records(slot, after=after, limit=PAGE)
        yield page.records
        after = page.after


def kind_of(record: RecordInfo) -> str:
    """Return what a record of a run is."""
    name = record.key.name
    return EXACT.get(name) or PREFIXES.get(name.partition(":")[0]) or "other"


def _indexes(record: RecordInfo) -> Iterable[str]:
    """Return the names of indexes that there may be because of a record."""
    run_id, name = RunId(record.key.partition), record.key.name
    if name == "header" and record.kind is RecordKind.CELL:
        return keys.live_items(run_id), *(keys.arrivals(run_id, opener) for opener in keys.ALWAYS)
    if name.startswith(keys.SCOPE_PREFIX):
        return (keys.arrivals(run_id, keys.opener_of(record.key)),)
    return ()


def _count(amount: Amount, entries: Iterable[Entry]) -> None:
    for entry in entries:
        amount.add(len(entry.entry) + len(entry.value))
