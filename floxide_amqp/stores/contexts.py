"""A run's context as stored: a snapshot (at first the initial state, in the run's header) and the log of deltas."""

from __future__ import annotations

from typing import Any

from floxide_amqp.core.context import Context, ContextState
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import (
    PRESENT,
    Batch,
    Cell,
    Check,
    LogPage,
    LogRange,
    Put,
    Read,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.session import Session

PAGE = 1_000
"""Deltas read in one round trip."""

SNAPSHOT_AFTER = 5_000
"""Deltas that a reader must have merged before it leaves a snapshot behind: rare next to the steps that wrote them."""


class ContextStore:
    """Reads a run's context, whole or from where a cache stands."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def load(self, header: RunHeader, kind: type[Context]) -> tuple[ContextState[Any], int]:
        """Return the merged context and the log position it reaches.

        Whoever had to read a long tail leaves a snapshot behind, so that the next reader need not.
        """
        run_id = header.run_id
        log = keys.context_log(run_id)
        snapshot = await self._session.read(
            Read(slot=slot_of(run_id), cells=(keys.context_snapshot(run_id),), logs=(LogRange(log, 0, PAGE),))
        )
        cell, page = snapshot.cells[0], snapshot.logs[0]
        state, base = self._base(header, kind, cell, page)
        position = base
        if base:
            page = await self.tail(run_id, base)
        while True:
            position = apply_page(state, position, page)
            if position >= page.length:
                break
            page = await self.tail(run_id, position)
        if position - base >= SNAPSHOT_AFTER:
            await self._put_snapshot(run_id, state, position, cell.version)
        return state, position

    async def tail(self, run_id: RunId, position: int, limit: int = PAGE) -> LogPage:
        """Return the deltas from a position on."""
        wanted = LogRange(keys.context_log(run_id), position, limit)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0]

    async def _put_snapshot(self, run_id: RunId, state: ContextState[Any], position: int, version: int) -> None:
        """Write a snapshot, if nobody wrote one since `version`; the log stays, and goes on at its position."""
        key = keys.context_snapshot(run_id)
        put = Put(key, codec.encode_snapshot(position, pack(state.to_plain())))
        checks = (Check(key, version), Check(keys.state(run_id), PRESENT))  # it may have been deleted meanwhile
        await self._session.commit(Batch(slot=slot_of(run_id), checks=checks, writes=(put,)))

    @staticmethod
    def _base(header: RunHeader, kind: type[Context], cell: Cell, beginning: LogPage) -> tuple[ContextState[Any], int]:
        """Return what the deltas are merged into: the snapshot; the start, where that is damaged and the log whole."""
        key = keys.context_snapshot(header.run_id)
        if cell.version:
            try:
                position, packed = read_record(codec.decode_snapshot, cell.value, key)
                if position > beginning.length:
                    raise UnreadableRecordError(
                        place="/".join(key), problem=f"It reaches {position}, and the log ends at {beginning.length}."
                    )
                return ContextState.load(kind, read_record(unpack, packed, key)), position
            except UnreadableRecordError as error:  # the log is whole: a snapshot only saves reading it
                if error.is_newer or beginning.first > 0:
                    raise
        return ContextState.load(kind, unpack(header.context)), 0


def apply_page(state: ContextState[Any], position: int, page: LogPage) -> int:
    """Apply those deltas of a page that are not in the state yet; return the position it reaches then."""
    for data in page.entries[max(0, position - page.first) :]:
        _, delta = codec.decode_delta(data)
        state.apply(unpack(delta))
    return max(position, page.first + len(page.entries))
