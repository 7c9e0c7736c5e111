"""Work items as stored: cells, the list of live ones, pages of large fan-outs, history and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from floxide_amqp.core.ids import RunId, ScopeId, WorkItemId, slot_of
from floxide_amqp.core.records import ErrorRecord, HistoryEntry, Routed, Scope, WorkItem
from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import IndexRange, LogRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.session import Session

PAGE = 500
"""Items read in one round trip."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item and its turn."""

    item: WorkItem
    turn: int


class ItemStore:
    """Reads work items."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, run_id: RunId, item_ids: Sequence[WorkItemId]) -> list[StoredItem | None]:
        """Return items of one run in the order asked; None for each that is not there."""
        cells = tuple(keys.item(run_id, item_id) for item_id in item_ids)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), cells=cells))
        return [StoredItem(codec.decode_item(c.value), c.version) if c.version else None for c in snapshot.cells]

    async def live_ids(self, run_id: RunId, *, after: str = "", limit: int = PAGE) -> list[WorkItemId]:
        """Return ids of items that are not ended, in the order of their ids."""
        wanted = IndexRange(keys.live_items(run_id), after=after, limit=limit)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))
        return [WorkItemId(entry.entry) for entry in snapshot.indexes[0]]

    async def live(self, run_id: RunId, *, after: str = "", limit: int = PAGE) -> list[StoredItem]:
        """Return items that are not ended (failed ones without a fallback included), in the order of their ids."""
        ids = await self.live_ids(run_id, after=after, limit=limit)
        if not ids:
            return []
        return [found for found in await self.find(run_id, ids) if found is not None]

    async def scope(self, run_id: RunId, scope_id: ScopeId) -> Scope:
        """Return a scope.

        Raises:
            CodecError: It is not there, although an item of it is.
        """
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.scope(run_id, scope_id),)))).cells[0]
        return codec.decode_scope(cell.value)

    async def page(self, run_id: RunId, opener: str, number: int) -> tuple[Routed, ...]:
        """Return one page of a large fan-out's outputs.

        Raises:
            StoreError: The page is not there although its item is.
        """
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.page(run_id, opener, number),)))).cells[
            0
        ]
        if cell.version == 0:
            raise StoreError(
                f"Page {number} of the fan-out of item {opener} of run {run_id!r} is missing from the store."
            )
        return codec.decode_page(cell.value)

    async def history(self, run_id: RunId, *, start: int = 0, limit: int = PAGE) -> list[HistoryEntry]:
        """Return ended items in the order they ended, from position `start` on."""
        return [
            codec.decode_history(data) for data in await self._log(LogRange(keys.history(run_id), start, limit), run_id)
        ]

    async def history_length(self, run_id: RunId) -> int:
        """Return how many items have ended."""
        wanted = LogRange(keys.history(run_id), 0, 0)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0].length

    async def errors(self, run_id: RunId, *, start: int = 0, limit: int = PAGE) -> list[ErrorRecord]:
        """Return failed attempts in the order they happened, from position `start` on."""
        return [
            codec.decode_error(data) for data in await self._log(LogRange(keys.errors(run_id), start, limit), run_id)
        ]

    async def _log(self, wanted: LogRange, run_id: RunId) -> tuple[bytes, ...]:
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0].entries
