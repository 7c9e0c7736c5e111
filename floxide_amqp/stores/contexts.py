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
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import Cell, LogPage, LogRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.context_snapshots import SEGMENT_ELEMENTS, Snapshots, SnapshotStore, positions_of
from floxide_amqp.stores.encoding import unpack
from floxide_amqp.stores.sealed_records import delta_opener
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session

PAGE = 1_000
"""Deltas read in one round trip."""

TRIES: Final = 5
"""How often a context of the past is read before it counts as one that cannot be read."""

SNAPSHOT_AFTER: Final = 1_000
"""Deltas since the last snapshot, at least, before the next: few enough that a reader has them in one round trip."""

CHANGE_BYTES: Final = 4 * 1024
"""Bytes of a delta that count as one: after 1,000, or after four megabytes, there is a snapshot."""

SNAPSHOT_GROWTH: Final = 2
"""A snapshot waits until the deltas since the last one have a half of the bytes that it writes each time: so what does
not lie in segments, a set that grows, say, costs three times its size, and not its square."""


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
        segment_elements = min(SEGMENT_ELEMENTS, self._snapshot_after)  # what one change each adds between snapshots
        self._snapshots = SnapshotStore(session, sealing, segment_elements=segment_elements)

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
        loaded = await self.peek(header, kind)
        if not self.is_due(loaded.snapshots, loaded.position, loaded.tail_bytes):
            return loaded
        snapshots = await self.save(header.run_id, loaded.state, loaded.position, loaded.snapshots)
        return LoadedContext(loaded.state, loaded.position, 0, snapshots)

    async def peek(self, header: RunHeader, kind: type[Context]) -> LoadedContext:
        """Return the merged context as `read` does, and leave nothing behind: whoever only looks may look otherwise."""
        while True:
            loaded = await self._read_once(header, kind)
            if loaded is not None:
                return loaded  # else somebody has trimmed what was to be read next, and there is a newer snapshot

    async def _read_once(self, header: RunHeader, kind: type[Context]) -> LoadedContext | None:
        run_id = header.run_id
        cells = keys.context_snapshots(run_id)
        found = await self._session.read(
            Read(slot=slot_of(run_id), cells=cells, logs=(LogRange(keys.context_log(run_id), 0, PAGE),))
        )
        page = found.logs[0]
        begun = await self._snapshots.begin(header, kind, found.cells, page)
        if begun is None:
            return None
        snapshots, state = begun
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

    async def read_at(self, header: RunHeader, kind: type[Context], position: int) -> ContextState[Any] | int:
        """Return the context as it was when the log had this length.

        Returns:
            The earliest length as of which it can still be told, where the log has been trimmed since.

        Raises:
            UnreadableRecordError: Neither the snapshots nor the log tell it any more.
            MissingKeyError: Part of it is sealed, and this process lacks the key.
        """
        run_id, log = header.run_id, keys.context_log(header.run_id)
        for _ in range(TRIES):  # somebody else may leave a snapshot meanwhile, and trim the log
            cells = keys.context_snapshots(run_id)
            asked = Read(slot=slot_of(run_id), cells=cells, logs=(LogRange(log, 0, PAGE),))
            found = await self._session.read(asked)
            page, earliest = found.logs[0], positions_of(run_id, found.cells)
            fitting = tuple(
                cell if 0 < reached <= position else Cell(0, b"")
                for cell, reached in zip(found.cells, earliest, strict=True)
            )
            if page.first > 0 and not any(cell.version for cell in fitting):
                return min([reached for reached in earliest if reached], default=page.length)
            begun = await self._snapshots.begin(header, kind, (fitting[0], fitting[1]), page)
            if begun is None:
                continue
            snapshots, state = begun
            reached = max(snapshots.positions)
            while reached < position:
                page = await self.tail(run_id, reached, min(PAGE, position - reached))
                if page.first > reached or not page.entries:
                    break
                reached = apply_page(state, reached, page, delta_opener(self._sealing, run_id))
            if reached == position:
                return state
        raise UnreadableRecordError(
            place="/".join(log), problem=f"The context as of position {position} cannot be put together."
        )

    async def tail(self, run_id: RunId, position: int, limit: int = PAGE) -> LogPage:
        """Return the deltas from a position on; later ones, where those before were trimmed."""
        wanted = LogRange(keys.context_log(run_id), position, limit)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0]

    def is_due(self, snapshots: Snapshots, position: int, tail_bytes: int) -> bool:
        """Whether a snapshot should be left at a position, with so many bytes of deltas after the last one."""
        changes = max(position - max(snapshots.positions), tail_bytes // CHANGE_BYTES)
        return changes >= self._snapshot_after and tail_bytes * SNAPSHOT_GROWTH >= snapshots.size

    async def save(self, run_id: RunId, state: ContextState[Any], position: int, snapshots: Snapshots) -> Snapshots:
        """Leave a snapshot of how a state stands now; see `SnapshotStore.leave`."""
        return await self._snapshots.leave(run_id, state, position, snapshots)


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
