"""Runs as stored: header, state, counters, lists, outputs."""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.instants import at
from floxide_amqp.core.kin import Kin
from floxide_amqp.core.records import RunHeader, RunState, Tombstone
from floxide_amqp.core.run_counts import COUNT_NAMES, RunCounts
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import RunDeletedError, RunNotFoundError, UnreadableRecordError
from floxide_amqp.ports.key_value import Entry, IndexRange, Key, Read, Snapshot
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import StoredAttributes, stored_attributes
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.items import StoredItem, item_cells, stored_item
from floxide_amqp.stores.sealed_places import arrival_place
from floxide_amqp.stores.sealed_records import readable_state
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.writes import BatchWriter

PAGE = 1_000
"""Entries read in one round trip."""

STORED_AS = {RunStatus.WAITING: (RunStatus.RUNNING, RunStatus.PENDING)}
"""Where to look for runs whose status is derived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as one snapshot."""

    header: RunHeader
    state: RunState
    epoch: int
    counts: RunCounts

    @property
    def status(self) -> RunStatus:
        """The status as shown: a run that goes on, and whose live items all wait, is waiting."""
        counts = self.counts
        if self.state.status in STORED_AS[RunStatus.WAITING] and 0 < counts.live == counts.waiting:
            return RunStatus.WAITING
        return self.state.status

    @property
    def writer(self) -> BatchWriter:
        """Builds batches for this run."""
        header = self.header
        kin = Kin(header.parent, True, True)
        return BatchWriter(header.run_id, header.created_at_ms, header.workflow, kin, header.version)


class RunStore:
    """Reads runs."""

    def __init__(self, session: Session, sealing: Sealing = PLAIN) -> None:
        self._session = session
        self._sealing = sealing

    async def find(self, run_id: RunId) -> StoredRun | None:
        """Return a run, or None where there is none."""
        return self._run(run_id, await self._read(run_id))

    async def load_end(self, run_id: RunId) -> tuple[RunState, tuple[Entry, ...] | None]:
        """Return a run's state, for whoever waits for its end; its header, which comes and goes with it, is not read.

        Returns:
            The state, and the run's output as it is stored; None where it has not completed, or has several.

        Raises:
            RunDeletedError: It was deleted, not long ago.
            RunNotFoundError: There is none with this id.
        """
        wanted = IndexRange(keys.arrivals(run_id, ""), limit=2)
        read = Read(slot=slot_of(run_id), cells=(keys.state(run_id),), indexes=(wanted,))
        snapshot = await self._session.read(read)
        cell, output = snapshot.cells[0], snapshot.indexes[0]
        if cell.version == 0:
            raise await self._why_not_found(run_id)
        state = self._state(run_id, cell.value)
        is_whole = state.status is RunStatus.COMPLETED and not state.is_by_hand
        return state, output if is_whole and len(output) == 1 else None

    async def find_with_item(
        self, run_id: RunId, item_id: WorkItemId, *, with_counts: bool = True
    ) -> tuple[StoredRun | None, StoredItem | None]:
        """Return a run and one of its items as of one moment; None for what is not there.

        Without its counts, which are zero then, it takes less to read: for whoever reads thousands.
        """
        cells = item_cells(run_id, item_id)
        snapshot = await self._read(run_id, *cells, names=COUNT_NAMES if with_counts else ())
        found = stored_item(cells[0], snapshot.cells[2], snapshot.cells[3], self._sealing)
        return self._run(run_id, snapshot), found

    async def find_with_attributes(self, run_id: RunId) -> tuple[StoredRun, StoredAttributes] | None:
        """Return a run and its attributes as of one moment, or None where there is none."""
        snapshot = await self._read(run_id, keys.attributes(run_id))
        run = self._run(run_id, snapshot)
        return None if run is None else (run, stored_attributes(run_id, snapshot.cells[2]))

    async def load_with_attributes(self, run_id: RunId) -> tuple[StoredRun, StoredAttributes]:
        """Return a run and its attributes as of one moment; raises as `load`."""
        found = await self.find_with_attributes(run_id)
        if found is None:
            raise await self._why_not_found(run_id)
        return found

    async def attributes(self, run_id: RunId) -> StoredAttributes:
        """Return the attributes of a run; none where there is no such run.

        Raises:
            UnreadableRecordError: They cannot be read.
        """
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.attributes(run_id),)))).cells[0]
        return stored_attributes(run_id, cell)

    async def _read(self, run_id: RunId, *more: Key, names: tuple[str, ...] = COUNT_NAMES) -> Snapshot:
        counters = tuple([keys.count(run_id, name) for name in names])
        cells = (keys.header(run_id), keys.state(run_id), *more)
        return await self._session.read(Read(slot=slot_of(run_id), cells=cells, counters=counters))

    async def load(self, run_id: RunId) -> StoredRun:
        """Return a run.

        Raises:
            RunDeletedError: It was deleted, not long ago.
            RunNotFoundError: There is none with this id.
        """
        found = await self.find(run_id)
        if found is None:
            raise await self._why_not_found(run_id)
        return found

    async def tombstone(self, run_id: RunId) -> tuple[Tombstone | None, int]:
        """Return what is left of a run that was deleted, if anything is, and its version."""
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.tombstone(run_id),)))).cells[0]
        return (codec.decode_tombstone(cell.value) if cell.version else None), cell.version

    async def _why_not_found(self, run_id: RunId) -> RunNotFoundError:
        tombstone, _ = await self.tombstone(run_id)
        if tombstone is None:
            return RunNotFoundError(run_id=run_id)
        return RunDeletedError(
            run_id=run_id, status=tombstone.status.value, ended_at=at(tombstone.ended_at_ms),
            deleted_at=at(tombstone.deleted_at_ms),
        )  # fmt: skip

    async def outputs(self, run_id: RunId, *, after: str = "", limit: int = PAGE) -> list[tuple[str, bytes]]:
        """Return outputs in fan-out order as (entry, payload)."""
        return await self.arrivals(run_id, "", after=after, limit=limit)

    async def arrivals(
        self, run_id: RunId, opener: str, *, after: str = "", limit: int = PAGE
    ) -> list[tuple[str, bytes]]:
        """Return what arrived at the join of a fan-out, in fan-out order, as (entry, payload).

        Raises:
            MissingKeyError: It is sealed, and this process lacks the key.
            UnreadableRecordError: It is sealed, and cannot be opened.
        """
        wanted = IndexRange(keys.arrivals(run_id, opener), after=after, limit=limit)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))
        return self.arrived(run_id, opener, snapshot.indexes[0])

    def arrived(self, run_id: RunId, opener: str, entries: Iterable[Entry]) -> list[tuple[str, bytes]]:
        """Return what arrived at a join, opened; raises as `arrivals`."""
        sealing = self._sealing
        return [
            (each.entry, sealing.open(each.value, arrival_place(run_id, opener, each.entry)))
            if sealing.must_open(each.value)
            else (each.entry, each.value)
            for each in entries
        ]

    async def all_arrivals(self, run_id: RunId, opener: str) -> list[bytes]:
        """Return everything that arrived at a join, in fan-out order."""
        payloads: list[bytes] = []
        after = ""
        while True:
            page = await self.arrivals(run_id, opener, after=after)
            payloads += [payload for _, payload in page]
            if len(page) < PAGE:
                return payloads
            after = page[-1][0]

    def _run(self, run_id: RunId, snapshot: Snapshot) -> StoredRun | None:
        header, state = snapshot.cells[:2]
        if header.version == 0 or state.version == 0:
            return None
        return StoredRun(
            header=read_header(run_id, header.value),
            state=self._state(run_id, state.value),
            epoch=state.version,
            counts=RunCounts(**dict(zip(COUNT_NAMES, snapshot.counters, strict=bool(snapshot.counters)))),
        )

    def _state(self, run_id: RunId, data: bytes) -> RunState:
        return readable_state(self._sealing, run_id, read_record(codec.decode_state, data, keys.state(run_id)))


def read_header(run_id: RunId, data: bytes) -> RunHeader:
    """Return a run's header, its input and context still sealed.

    Raises:
        UnreadableRecordError: It cannot be read, or is another run's.
    """
    key = keys.header(run_id)
    header = read_record(codec.decode_header, data, key)
    if header.run_id != run_id:
        raise UnreadableRecordError(place="/".join(key), problem=f"It is the header of run {header.run_id!r}.")
    return header
