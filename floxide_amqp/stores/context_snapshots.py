"""Snapshots of a run's context: two places for them, and segments that both share.

A snapshot says what of the log it has merged and holds the context, but not the beginnings of its long fields, event
logs and appended lists: of those, every `SEGMENT_ELEMENTS` elements are a record of their own, which is written once,
in the commit of the first snapshot that leaves them out. So what a snapshot costs does not grow with the context.

A new snapshot takes the place of the older of two, and its commit trims the log up to the one that stays.

Invariant: the segments of a snapshot are those with numbers below what it says, and no commit writes one of them again
while the version of either place is as it was read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from floxide_amqp.core.context import Context, ContextState
from floxide_amqp.core.context_parts import StillContext, put_together
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.exceptions import CodecError, UnreadableRecordError
from floxide_amqp.ports.key_value import (
    PRESENT,
    Batch,
    Cell,
    Check,
    Conflict,
    Delete,
    LogPage,
    LogRange,
    Put,
    Read,
    Trim,
    Write,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores.context_records import (
    SnapshotRecord,
    decode_segment,
    decode_snapshot,
    encode_segment,
    encode_snapshot,
)
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.encoding import pack, pack_list, unpack
from floxide_amqp.stores.sealed_places import segment_place, snapshot_place
from floxide_amqp.stores.sealed_records import context_of
from floxide_amqp.stores.sealing import Sealing
from floxide_amqp.stores.session import Session

SEGMENT_ELEMENTS: Final = 500
"""Elements in a segment: packing so many takes a few milliseconds, after which others have their turn."""

SEGMENT_BYTES: Final = 256 * 1024
"""Bytes from which on a segment is full with fewer elements."""

SEGMENTS_READ: Final = 8
"""Segments in one round trip: about two megabytes at most, where no element is a large one."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What is known of the two places for snapshots.

    Attributes:
        versions: Of their cells.
        positions: What of the log each has merged; 0 of one that is absent or damaged.
        size: Bytes of the newer one, without its segments.
        segments: How many segments the newer one has.
        kept: How many elements of each long field are in them, by its path.
    """

    versions: tuple[int, int] = (0, 0)
    positions: tuple[int, int] = (0, 0)
    size: int = 0
    segments: int = 0
    kept: Mapping[str, int] = field(default_factory=dict[str, int])


NO_SNAPSHOTS: Final = Snapshots()
"""Of a run whose context was not read."""


class SnapshotStore:
    """Reads the snapshots of contexts, and leaves new ones.

    Args:
        session: The store.
        sealing: Seals and opens what lies in it.
        segment_elements: Elements of a long field in a segment; at least 1.
    """

    def __init__(self, session: Session, sealing: Sealing, *, segment_elements: int = SEGMENT_ELEMENTS) -> None:
        self._session = session
        self._sealing = sealing
        self._segment_elements = segment_elements

    async def begin(
        self, header: RunHeader, kind: type[Context], cells: tuple[Cell, ...], log: LogPage
    ) -> tuple[Snapshots, ContextState[Any]] | None:
        """Return what the deltas are merged into: the newest snapshot that can be read, or the start, with a whole log.

        The run of a newer release's snapshot is left to that release.

        Returns:
            None if other snapshots have taken the place of these while their segments were read.

        Raises:
            UnreadableRecordError: Neither tells the context any more.
            MissingKeyError: It is sealed, and this process lacks the key.
        """
        run_id = header.run_id
        places = [_SnapshotPlace(run_id, number, cell, log) for number, cell in enumerate(cells)]
        for place in sorted(places, key=lambda place: place.position, reverse=True):
            state = await self._state_of(place, kind, log)
            if state is None and place.error is not None and await self._are_replaced(run_id, cells):
                return None
            newer = next((one.error for one in places if one.error is not None and one.error.is_newer), None)
            if newer is not None:
                raise newer
            if state is not None:
                return _known(cells, places), state
        if log.first > 0:
            error = next((place.error for place in places if place.error is not None), None)
            raise error or UnreadableRecordError(
                place="/".join(keys.context_log(run_id)),
                problem=f"It begins at {log.first}, and the snapshot of what was before is missing.",
            )
        return _known(cells, places), ContextState.load(kind, unpack(context_of(self._sealing, header)))

    async def leave(self, run_id: RunId, state: ContextState[Any], position: int, snapshots: Snapshots) -> Snapshots:
        """Leave a snapshot in the place of the older one and trim the log, if nobody has changed either meanwhile.

        The state may grow meanwhile: the snapshot is of how it stands now.

        Returns:
            What is known of the snapshots now: one's own, another's, or the same as before where the context is larger
            than a snapshot may be.

        Raises:
            StoreError: As of `Session.commit`.
        """
        still, older = StillContext(state), snapshots.positions.index(min(snapshots.positions))
        newer = 1 - older
        cells = keys.context_snapshots(run_id)
        try:
            writes, kept = await self._segments(run_id, still, snapshots)
            segments = snapshots.segments + len(writes)
            packed = self._sealing.seal(pack(still.rest(kept)), snapshot_place(run_id, position, segments))
            writes.append(Put(cells[older], encode_snapshot(position, packed, segments, kept)))
        except CodecError:
            return snapshots
        if snapshots.positions[newer]:
            writes.append(Trim(keys.context_log(run_id), snapshots.positions[newer]))
        checks = (
            *(Check(cell, version) for cell, version in zip(cells, snapshots.versions, strict=True)),
            Check(keys.state(run_id), PRESENT),  # it may have been deleted meanwhile
        )
        batch = Batch(slot=slot_of(run_id), checks=checks, writes=tuple(writes))
        if isinstance(await self._session.commit(batch), Conflict):
            return await self._look(run_id)
        (v, w), (p, q) = snapshots.versions, snapshots.positions
        versions, positions = ((v + 1, w), (position, q)) if older == 0 else ((v, w + 1), (p, position))
        return Snapshots(versions, positions, len(packed), segments, kept)

    async def _segments(
        self, run_id: RunId, still: StillContext, snapshots: Snapshots
    ) -> tuple[list[Write], dict[str, int]]:
        """Return what writes the segments that are full now, and what of each field they hold with those before them.

        Others have their turn after each of them.
        """
        writes: list[Write] = []
        kept = dict(snapshots.kept)
        for path, length in still.lengths.items():
            while (elements := self._full(still, path, kept.get(path, 0), length)) is not None:
                number, first = snapshots.segments + len(writes), kept.get(path, 0)
                packed = self._sealing.seal(pack_list(elements), segment_place(run_id, number, path, first))
                writes.append(Put(keys.context_segment(run_id, number), encode_segment(path, first, packed)))
                kept[path] = first + len(elements)
                await asyncio.sleep(0)
        return writes, kept

    def _full(self, still: StillContext, path: str, first: int, length: int) -> list[bytes] | None:
        """Return the packed elements of the next segment of a field; None where there are too few for one yet."""
        packed: list[bytes] = []
        size = 0
        for element in still.elements(path, first, min(length, first + self._segment_elements)):
            packed.append(pack(element))
            size += len(packed[-1])
            if size >= SEGMENT_BYTES:
                return packed
        return packed if len(packed) == self._segment_elements else None

    async def _look(self, run_id: RunId) -> Snapshots:
        """Return what there is now, because somebody else has left a snapshot."""
        log = LogRange(keys.context_log(run_id), 0, 0)
        found = await self._session.read(Read(slot=slot_of(run_id), cells=keys.context_snapshots(run_id), logs=(log,)))
        places = [_SnapshotPlace(run_id, number, cell, found.logs[0]) for number, cell in enumerate(found.cells)]
        return _known(found.cells, places)

    async def _are_replaced(self, run_id: RunId, cells: tuple[Cell, ...]) -> bool:
        """Whether there are others in the places for snapshots than there were."""
        now = (await self._session.read(Read(slot=slot_of(run_id), cells=keys.context_snapshots(run_id)))).cells
        return [cell.version for cell in now] != [cell.version for cell in cells]

    async def _state_of(self, place: _SnapshotPlace, kind: type[Context], log: LogPage) -> ContextState[Any] | None:
        """Return the context of a snapshot; None where there is none, and the place's `error` says why."""
        record = place.record
        if place.error is not None or not place.position:
            return None
        try:
            if log.first > place.position:
                problem = f"It reaches {place.position}, and the log begins at {log.first}."
                raise UnreadableRecordError(place="/".join(place.key), problem=problem)
            bound = snapshot_place(place.run_id, record.position, record.segments)
            rest = read_record(unpack, self._sealing.open(record.context, bound), place.key)
            return put_together(kind, rest, await self._beginnings(place.run_id, record))
        except UnreadableRecordError as error:
            place.error, place.position = error, 0
            return None

    async def _beginnings(self, run_id: RunId, record: SnapshotRecord) -> dict[str, list[object]]:
        """Return the elements that the segments of a snapshot have of each long field.

        Raises:
            UnreadableRecordError: A segment is missing or damaged, or they do not have what the snapshot says.
        """
        found: dict[str, list[object]] = {}
        for first in range(0, record.segments, SEGMENTS_READ):
            numbers = range(first, min(first + SEGMENTS_READ, record.segments))
            cells = tuple([keys.context_segment(run_id, number) for number in numbers])
            values = (await self._session.read(Read(slot=slot_of(run_id), cells=cells))).cells
            for number, cell in zip(numbers, values, strict=True):
                self._add(run_id, number, cell, found)
                await asyncio.sleep(0)
        if {path: len(elements) for path, elements in found.items()} != dict(record.kept):
            place = "/".join(keys.context_segment(run_id, 0))
            raise UnreadableRecordError(place=place, problem="The segments do not have what their snapshot says.")
        return found

    def _add(self, run_id: RunId, number: int, cell: Cell, found: dict[str, list[object]]) -> None:
        key = keys.context_segment(run_id, number)
        segment = read_record(decode_segment, cell.value, key)
        elements = found.setdefault(segment.path, [])
        if segment.first != len(elements):
            problem = f"It begins at {segment.first}, and those before it end at {len(elements)}."
            raise UnreadableRecordError(place="/".join(key), problem=problem)
        bound = segment_place(run_id, number, segment.path, segment.first)
        more = read_record(unpack, self._sealing.open(segment.elements, bound), key)
        if not isinstance(more, list):
            raise UnreadableRecordError(place="/".join(key), problem="It holds no list.")
        elements.extend(more)  # pyright: ignore[reportUnknownArgumentType]  # of plain data


class _SnapshotPlace:
    """One of the two places: what lies there, or why it is of no use."""

    def __init__(self, run_id: RunId, number: int, cell: Cell, log: LogPage) -> None:
        self.run_id = run_id
        self.key = keys.context_snapshots(run_id)[number]
        self.position = 0
        self.record = SnapshotRecord(0, b"")
        self.error: UnreadableRecordError | None = None
        if not cell.version:
            return
        try:
            self.record = read_record(decode_snapshot, cell.value, self.key)
            if self.record.position > log.length:
                problem = f"It reaches {self.record.position}, and the log ends at {log.length}."
                raise UnreadableRecordError(place="/".join(self.key), problem=problem)
            self.position = self.record.position
        except UnreadableRecordError as error:
            self.error = error


def moved_context(run_id: RunId, position: int, snapshot: bytes, segments: int) -> list[Write]:
    """Return what puts a context in place of all that was there of it.

    Args:
        run_id: The run.
        position: The length of the log, which is forgotten.
        snapshot: The context, packed and sealed for `position` without segments; empty where the log is empty.
        segments: How many segments there were.
    """
    places = keys.context_snapshots(run_id)
    if not position:
        return []
    record = encode_snapshot(position, snapshot)
    writes: list[Write] = [Put(place, record) for place in places]
    writes.append(Trim(keys.context_log(run_id), position))
    return [*writes, *(Delete(keys.context_segment(run_id, number)) for number in range(segments))]


def _known(cells: tuple[Cell, ...], places: list[_SnapshotPlace]) -> Snapshots:
    newest = max(places, key=lambda place: place.position)
    record = newest.record if newest.position else SnapshotRecord(0, b"")
    return Snapshots(
        versions=(cells[0].version, cells[1].version),
        positions=(places[0].position, places[1].position),
        size=len(record.context), segments=record.segments, kept=record.kept,
    )  # fmt: skip


def positions_of(run_id: RunId, cells: tuple[Cell, ...]) -> tuple[int, ...]:
    """Return what of the log each snapshot has merged; 0 of one that is absent or damaged."""
    whole = LogPage(0, (), sys.maxsize)
    return tuple([_SnapshotPlace(run_id, number, cell, whole).position for number, cell in enumerate(cells)])
