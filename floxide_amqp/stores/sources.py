"""Sources as stored: what each is, what somebody wants of it, what became of its items, all in the slot of its name.

Nothing here decides which runs are started: that two with the same key are one run follows from the run's id. So counts
are added to without asking, and what is said of a source may be a moment old.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.sources import SourceControl, SourceCounts, SourceProblem, SourceSpec
from floxide_amqp.ports.key_value import (
    ABSENT,
    Add,
    Batch,
    Check,
    Conflict,
    Enter,
    IndexRange,
    Key,
    Leave,
    Put,
    Read,
    Write,
)
from floxide_amqp.stores import keys, source_keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import BOOL, BYTES, INT, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.session import Session

SPEC: Final = Shape("source", 5, name=STR, kind=STR, workflow=STR, version=STR, origin=STR)
CONTROL: Final = Shape("control of a source", 2, paused=BOOL, note=STR)
PROBLEM: Final = Shape("problem of a source", 3, text=STR, at_ms=INT, worker=STR)
POSITION: Final = Shape("position of a source", 2, position=BYTES, holder=STR)
LATEST: Final = Shape("latest item of a source", 1, at_ms=INT)

COUNTED: Final = tuple(each.name for each in fields(SourceCounts))
COPIED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """A source as of one moment.

    Attributes:
        position: How far its iterator is, encoded; empty for not at all.
        latest_ms: When its latest item came, store time; 0 for never.
        control_version: Of the cell that says what is wanted of it.
    """

    spec: SourceSpec
    control: SourceControl
    problem: SourceProblem
    counts: SourceCounts
    latest_ms: int
    position: bytes
    control_version: int


class SourceStore:
    """Reads and writes what is kept of sources."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, name: str) -> StoredSource | None:
        """Return a source, or None where there is none.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        cells, counters = cells_of(name), counters_of(name)
        read = Read(slot=slot_of(source_keys.source_partition(name)), cells=cells, counters=counters)
        found = await self._session.read(read)
        spec, control, problem, latest, position = found.cells
        if not spec.version:
            return None
        return StoredSource(
            spec=read_record(_decode_spec, spec.value, cells[0]),
            control=read_record(_decode_control, control.value, cells[1]) if control.version else SourceControl(),
            problem=read_record(_decode_problem, problem.value, cells[2]) if problem.version else SourceProblem(),
            counts=SourceCounts(**dict(zip(COUNTED, found.counters, strict=True))),
            latest_ms=unpack_record(LATEST, latest.value)[0] if latest.version else 0,
            position=unpack_record(POSITION, position.value)[0] if position.version else b"",
            control_version=control.version,
        )  # fmt: skip

    async def steering(self, name: str) -> tuple[SourceControl, SourceProblem, int]:
        """Return what is wanted of a source, what keeps it from its items, and the version of the cell that says so.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        wanted = cells_of(name)[1:3]
        found = await self._session.read(Read(slot=slot_of(source_keys.source_partition(name)), cells=wanted))
        control, problem = found.cells
        return (
            read_record(_decode_control, control.value, wanted[0]) if control.version else SourceControl(),
            read_record(_decode_problem, problem.value, wanted[1]) if problem.version else SourceProblem(),
            problem.version,
        )

    async def names(self, *, after: str = "", limit: int = 100) -> list[str]:
        """Return the names of sources, in order, behind one of them."""
        found = await self._session.scan(IndexRange(source_keys.SOURCES, after=after, limit=limit))
        return [entry.entry for entry in found]

    async def put(self, spec: SourceSpec) -> None:
        """Say what a source is; what is there already and the same is not written again."""
        found = await self.find(spec.name)
        if found is not None and found.spec == spec:
            return
        record = pack_record(SPEC, spec.name, spec.kind, spec.workflow, spec.version, spec.origin)
        await self._commit(spec.name, Put(cells_of(spec.name)[0], record), Enter(source_keys.SOURCES, spec.name))

    async def put_control(self, name: str, control: SourceControl, version: int) -> bool:
        """Say what is wanted of a source; return whether nobody else was faster."""
        key = cells_of(name)[1]
        batch = Batch(
            slot=slot_of(source_keys.source_partition(name)), checks=(Check(key, version or ABSENT),),
            writes=(Put(key, pack_record(CONTROL, control.paused, control.note)),),
        )  # fmt: skip
        return not isinstance(await self._session.commit(batch), Conflict)

    async def put_problem(self, name: str, problem: SourceProblem) -> None:
        """Say what keeps a source from its items."""
        record = pack_record(PROBLEM, problem.text, problem.at_ms, problem.worker)
        await self._commit(name, Put(cells_of(name)[2], record))

    async def count(self, name: str, counts: SourceCounts, at_ms: int, started: Iterable[RunId] = ()) -> None:
        """Add to a source's counts.

        Args:
            name: The source.
            counts: What became of some items.
            at_ms: When the latest of them came, store time.
            started: Runs to be listed as open.
        """
        amounts = zip(counters_of(name), (getattr(counts, each) for each in COUNTED), strict=True)
        await self._commit(
            name, *(Add(key, amount) for key, amount in amounts if amount),
            Put(cells_of(name)[3], pack_record(LATEST, at_ms)),
            *(Enter(source_keys.open_runs_of_source(name), run_id) for run_id in started),
        )  # fmt: skip

    async def position(self, name: str) -> tuple[bytes, str, int]:
        """Return how far a source's iterator is, encoded, who has it, and the version of the cell that says so."""
        key = cells_of(name)[4]
        (cell,) = (await self._session.read(Read(slot=slot_of(source_keys.source_partition(name)), cells=(key,)))).cells
        if not cell.version:
            return b"", "", 0
        position, holder = read_record(_decode_position, cell.value, key)
        return position, holder, cell.version

    async def put_position(self, name: str, position: bytes, holder: str, version: int) -> bool:
        """Say how far a source's iterator is and who has it; return whether nobody else was faster."""
        key = cells_of(name)[4]
        batch = Batch(
            slot=slot_of(source_keys.source_partition(name)), checks=(Check(key, version or ABSENT),),
            writes=(Put(key, pack_record(POSITION, position, holder)),),
        )  # fmt: skip
        return not isinstance(await self._session.commit(batch), Conflict)

    async def open_runs(self, name: str, *, after: str = "", limit: int = 500) -> list[RunId]:
        """Return runs that are listed as open, in order, behind one of them."""
        wanted = IndexRange(source_keys.open_runs_of_source(name), after=after, limit=limit)
        found = await self._session.read(Read(slot=slot_of(source_keys.source_partition(name)), indexes=(wanted,)))
        return [RunId(entry.entry) for entry in found.indexes[0]]

    async def forget_runs(self, name: str, run_ids: Sequence[RunId]) -> None:
        """List runs as open no more."""
        await self._commit(name, *(Leave(source_keys.open_runs_of_source(name), run_id) for run_id in run_ids))

    async def _commit(self, name: str, *writes: Write) -> None:
        await self._session.commit(Batch(slot=slot_of(source_keys.source_partition(name)), writes=writes))


def cells_of(name: str) -> tuple[Key, Key, Key, Key, Key]:
    """The cells of what a source is, what is wanted of it, what it met, when its latest item came, how far it is."""
    at = source_keys.source_partition(name)
    return Key(at, "source"), Key(at, "control"), Key(at, "problem"), Key(at, "latest"), Key(at, "position")


def counters_of(name: str) -> tuple[Key, ...]:
    """The counters of what became of a source's items."""
    partition = source_keys.source_partition(name)
    return tuple(keys.count(partition, each) for each in COUNTED)


async def copy_source(source: Session, target: Session, name: str) -> None:
    """Copy a source from one server to another that has nothing of it; what it is comes last, and makes it whole."""
    slot, cells, counters = slot_of(source_keys.source_partition(name)), cells_of(name), counters_of(name)
    found = await source.read(Read(slot=slot, cells=cells, counters=counters))
    if not found.cells[0].version:
        return
    index, after = source_keys.open_runs_of_source(name), ""
    while True:
        wanted = IndexRange(index, after=after, limit=COPIED_AT_ONCE)
        entries = (await source.read(Read(slot=slot, indexes=(wanted,)))).indexes[0]
        if not entries:
            break
        await target.commit(Batch(slot=slot, writes=tuple(Enter(index, each.entry) for each in entries)))
        after = entries[-1].entry
    copied = tuple(Put(key, cell.value) for key, cell in zip(cells, found.cells, strict=True) if cell.version)
    added = tuple(Add(key, amount) for key, amount in zip(counters, found.counters, strict=True) if amount)
    writes: tuple[Write, ...] = (*copied, *added, Enter(source_keys.SOURCES, name))
    await target.commit(Batch(slot=slot, checks=(Check(cells[0], ABSENT),), writes=writes))  # or it is there


def _decode_spec(data: bytes) -> SourceSpec:
    name, kind, workflow, version, origin = unpack_record(SPEC, data)[:5]
    return SourceSpec(name=name, kind=kind, workflow=workflow, version=version, origin=origin)


def _decode_control(data: bytes) -> SourceControl:
    paused, note = unpack_record(CONTROL, data)[:2]
    return SourceControl(paused=paused, note=note)


def _decode_problem(data: bytes) -> SourceProblem:
    text, at_ms, worker = unpack_record(PROBLEM, data)[:3]
    return SourceProblem(text=text, at_ms=at_ms, worker=worker)


def _decode_position(data: bytes) -> tuple[bytes, str]:
    position, holder = unpack_record(POSITION, data)[:2]
    return position, holder
