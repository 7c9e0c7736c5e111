"""A run's context as stored: the initial state in the run's header, the log of deltas, and up to two snapshots.

Whoever has merged many deltas since the last snapshot leaves another one behind, in the place of the older of two, and
in the same commit trims the log up to the one that stays. So the store has two ways to the context: the newer snapshot
and the deltas after it, and, should that be damaged, the older one and the deltas after that. Positions in the log are
absolute, and trimming does not change them.

Invariant: the log begins at or before the position of the older of two snapshots, and at 0 where there are not two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from floxide_amqp.core.context import Context, ContextState
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.exceptions import CodecError, UnreadableRecordError
from floxide_amqp.ports.key_value import (
    PRESENT,
    Batch,
    Cell,
    Check,
    Conflict,
    LogPage,
    LogRange,
    Put,
    Read,
    Trim,
    Write,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.sealed import Place
from floxide_amqp.stores.sealed_places import SNAPSHOT
from floxide_amqp.stores.sealed_records import context_of, delta_opener
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session

PAGE = 1_000
"""Deltas read in one round trip."""

SNAPSHOT_AFTER: Final = 1_000
"""Deltas since the last snapshot, at least, before the next: few enough that a reader has them in one round trip."""

SNAPSHOT_GROWTH: Final = 2
"""A snapshot waits until the deltas since the last one have a half of its bytes: so all snapshots of a context that
grows cost three times its size, and not its square."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What is known of the two places for snapshots.

    Attributes:
        versions: Of their cells.
        positions: What of the log each has merged; 0 of one that is absent or damaged.
        size: Bytes of the newer one.
    """

    versions: tuple[int, int] = (0, 0)
    positions: tuple[int, int] = (0, 0)
    size: int = 0


@dataclass(frozen=True, slots=True)
class LoadedContext:
    """A context as read: how far it has merged the log, the bytes of deltas after the snapshot, and the snapshots."""

    state: ContextState[Any]
    position: int
    tail_bytes: int
    snapshots: Snapshots


class ContextStore:
    """Reads a run's context, whole or from where a cache stands, and leaves snapshots of it.

    Args:
        session: The store.
        snapshot_after: Deltas since the last snapshot, at least, before the next; at least 1.
        sealing: Seals and opens what lies in the store; in memory a context is plain.
    """

    def __init__(self, session: Session, *, snapshot_after: int = SNAPSHOT_AFTER, sealing: Sealing = PLAIN) -> None:
        self._session = session
        self._sealing = sealing
        self._snapshot_after = max(1, snapshot_after)

    async def load(self, header: RunHeader, kind: type[Context]) -> tuple[ContextState[Any], int]:
        """Return the merged context and the log position it reaches; see `read`."""
        loaded = await self.read(header, kind)
        return loaded.state, loaded.position

    async def read(self, header: RunHeader, kind: type[Context]) -> LoadedContext:
        """Return the merged context.

        Whoever had to read a long tail leaves a snapshot behind, so that the next reader need not.

        Raises:
            UnreadableRecordError: Neither the snapshots nor the log tell it any more.
            MissingKeyError: Part of it is sealed, and this process lacks the key.
        """
        while True:
            loaded = await self._read_once(header, kind)
            if loaded is not None:
                break  # else somebody has trimmed what was to be read next; there is a newer snapshot
        if not self.is_due(loaded.snapshots, loaded.position, loaded.tail_bytes):
            return loaded
        snapshots = await self.save(header.run_id, loaded.state, loaded.position, loaded.snapshots)
        return LoadedContext(loaded.state, loaded.position, 0, snapshots)

    async def _read_once(self, header: RunHeader, kind: type[Context]) -> LoadedContext | None:
        run_id = header.run_id
        cells = keys.context_snapshots(run_id)
        found = await self._session.read(
            Read(slot=slot_of(run_id), cells=cells, logs=(LogRange(keys.context_log(run_id), 0, PAGE),))
        )
        page = found.logs[0]
        snapshots, state = _begin(self._sealing, header, kind, found.cells, page)
        position, tail_bytes = max(snapshots.positions), 0
        if position > page.first:
            page = await self.tail(run_id, position)
        while True:
            if page.first > position:
                return None
            tail_bytes += bytes_after(position, page)
            position = apply_page(state, position, page, delta_opener(self._sealing, run_id))
            if position >= page.length:
                return LoadedContext(state, position, tail_bytes, snapshots)
            page = await self.tail(run_id, position)

    async def tail(self, run_id: RunId, position: int, limit: int = PAGE) -> LogPage:
        """Return the deltas from a position on; later ones, where those before were trimmed."""
        wanted = LogRange(keys.context_log(run_id), position, limit)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0]

    def is_due(self, snapshots: Snapshots, position: int, tail_bytes: int) -> bool:
        """Whether a snapshot should be left at a position, with so many bytes of deltas after the last one."""
        deltas = position - max(snapshots.positions)
        return deltas >= self._snapshot_after and tail_bytes * SNAPSHOT_GROWTH >= snapshots.size

    async def save(self, run_id: RunId, state: ContextState[Any], position: int, snapshots: Snapshots) -> Snapshots:
        """Leave a snapshot in the place of the older one and trim the log, if nobody has changed either meanwhile.

        Returns:
            What is known of the snapshots now: one's own, another's, or the same as before where the context is larger
            than a snapshot may be.

        Raises:
            StoreError: As of `Session.commit`.
        """
        try:
            packed = self._sealing.seal(pack(state.to_plain()), Place(run_id, SNAPSHOT, str(position)))
            data = codec.encode_snapshot(position, packed)
        except CodecError:
            return snapshots
        older = snapshots.positions.index(min(snapshots.positions))
        newer = 1 - older
        cells = keys.context_snapshots(run_id)
        writes: list[Write] = [Put(cells[older], data)]
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
        if older == 0:
            return Snapshots((v + 1, w), (position, q), len(packed))
        return Snapshots((v, w + 1), (p, position), len(packed))

    async def _look(self, run_id: RunId) -> Snapshots:
        """Return what there is now, because somebody else has left a snapshot."""
        cells = keys.context_snapshots(run_id)
        log = LogRange(keys.context_log(run_id), 0, 0)
        found = await self._session.read(Read(slot=slot_of(run_id), cells=cells, logs=(log,)))
        places = [_SnapshotPlace(run_id, number, cell, found.logs[0]) for number, cell in enumerate(found.cells)]
        return _known(found.cells, places)


class _SnapshotPlace:
    """One of the two places: what lies there, or why it is of no use."""

    def __init__(self, run_id: RunId, number: int, cell: Cell, log: LogPage) -> None:
        key = keys.context_snapshots(run_id)[number]
        self.run_id = run_id
        self.key = key
        self.position = 0
        self.packed = b""
        self.error: UnreadableRecordError | None = None
        if not cell.version:
            return
        try:
            position, self.packed = read_record(codec.decode_snapshot, cell.value, key)
            if position > log.length:
                problem = f"It reaches {position}, and the log ends at {log.length}."
                raise UnreadableRecordError(place="/".join(key), problem=problem)
            self.position = position
        except UnreadableRecordError as error:
            self.error = error

    def state(self, sealing: Sealing, kind: type[Context], log: LogPage) -> ContextState[Any] | None:
        """Return the context of this snapshot; None where there is none, and `error` says why."""
        if self.error is not None or not self.position:
            return None
        try:
            if log.first > self.position:
                problem = f"It reaches {self.position}, and the log begins at {log.first}."
                raise UnreadableRecordError(place="/".join(self.key), problem=problem)
            opened = sealing.open(self.packed, Place(self.run_id, SNAPSHOT, str(self.position)))
            return ContextState.load(kind, read_record(unpack, opened, self.key))
        except UnreadableRecordError as error:
            self.error, self.position = error, 0
            return None


def _begin(
    sealing: Sealing, header: RunHeader, kind: type[Context], cells: tuple[Cell, ...], log: LogPage
) -> tuple[Snapshots, ContextState[Any]]:
    """Return what the deltas are merged into: the newest snapshot that can be read, or the start, if the log is whole.

    The run of a newer release's snapshot is left to that release.
    """
    places = [_SnapshotPlace(header.run_id, number, cell, log) for number, cell in enumerate(cells)]
    for place in sorted(places, key=lambda place: place.position, reverse=True):
        state = place.state(sealing, kind, log)
        newer = next((one.error for one in places if one.error is not None and one.error.is_newer), None)
        if newer is not None:
            raise newer
        if state is not None:
            return _known(cells, places), state
    if log.first > 0:
        error = next((place.error for place in places if place.error is not None), None)
        raise error or UnreadableRecordError(
            place="/".join(keys.context_log(header.run_id)),
            problem=f"It begins at {log.first}, and the snapshot of what was before is missing.",
        )
    return _known(cells, places), ContextState.load(kind, unpack(context_of(sealing, header)))


def _known(cells: tuple[Cell, ...], places: list[_SnapshotPlace]) -> Snapshots:
    newest = max(places, key=lambda place: place.position)
    return Snapshots(
        versions=(cells[0].version, cells[1].version),
        positions=(places[0].position, places[1].position),
        size=len(newest.packed) if newest.position else 0,
    )


def bytes_after(position: int, page: LogPage) -> int:
    """Return the bytes of those deltas of a page that a state at this position has not merged."""
    return sum(map(len, page.entries[max(0, position - page.first) :]))


def apply_page(
    state: ContextState[Any], position: int, page: LogPage, opened: Callable[[str, bytes], bytes] | None = None
) -> int:
    """Apply those deltas of a page that are not in the state yet; return the position it reaches then.

    Args:
        state: The context.
        position: What of the log it has merged.
        page: The page.
        opened: Opens a delta of an item; None where none is sealed.
    """
    for data in page.entries[max(0, position - page.first) :]:
        item_id, delta = codec.decode_delta(data)
        state.apply(unpack(delta if opened is None else opened(item_id, delta)))
    return max(position, page.first + len(page.entries))
