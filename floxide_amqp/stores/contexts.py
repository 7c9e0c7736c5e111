"""A run's context as stored: a snapshot (at first the initial state, in the run's header) and the log of deltas."""

from __future__ import annotations

from typing import Any, cast

from floxide_amqp.core.context import Context, ContextState
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import RunHeader
from floxide_amqp.ports.key_value import (
    Batch,
    Cell,
    Check,
    CheckLength,
    Committed,
    LogPage,
    LogRange,
    Put,
    Read,
    Trim,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.session import Session

PAGE = 1_000
"""Deltas read in one round trip."""


class ContextStore:
    """Reads a run's context, whole or from where a cache stands."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def load(self, header: RunHeader, kind: type[Context]) -> tuple[ContextState[Any], int]:
        """Return the merged context and the log position it reaches."""
        run_id = header.run_id
        snapshot = await self._session.read(
            Read(
                slot=slot_of(run_id),
                cells=(keys.context_snapshot(run_id),),
                logs=(LogRange(keys.context_log(run_id), 0, PAGE),),
            )
        )
        state, position = self._base(header, kind, snapshot.cells[0])
        page = snapshot.logs[0]
        while True:
            position = apply_page(state, position, page)
            if position >= page.length:
                return state, position
            page = await self.tail(run_id, position)

    async def tail(self, run_id: RunId, position: int, limit: int = PAGE) -> LogPage:
        """Return the deltas from a position on."""
        wanted = LogRange(keys.context_log(run_id), position, limit)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0]

    async def compact(self, header: RunHeader, kind: type[Context]) -> bool:
        """Replace the log by a snapshot, in one checked batch; return whether nobody was faster.

        Positions do not change: the log goes on where it was.
        """
        run_id = header.run_id
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.context_snapshot(run_id),)))).cells[0]
        state, position = await self.load(header, kind)
        log = keys.context_log(run_id)
        outcome = await self._session.commit(
            Batch(
                slot=slot_of(run_id),
                checks=(Check(keys.context_snapshot(run_id), cell.version), CheckLength(log, position)),
                writes=(Put(keys.context_snapshot(run_id), pack([position, state.to_plain()])), Trim(log, position)),
            )
        )
        return isinstance(outcome, Committed)

    @staticmethod
    def _base(header: RunHeader, kind: type[Context], cell: Cell) -> tuple[ContextState[Any], int]:
        if cell.version == 0:
            return ContextState.load(kind, unpack(header.context)), 0
        position, plain = cast("tuple[int, object]", unpack(cell.value))
        return ContextState.load(kind, plain), position


def apply_page(state: ContextState[Any], position: int, page: LogPage) -> int:
    """Apply those deltas of a page that are not in the state yet; return the position it reaches then."""
    for data in page.entries[max(0, position - page.first) :]:
        _, delta = codec.decode_delta(data)
        state.apply(unpack(delta))
    return max(position, page.first + len(page.entries))
