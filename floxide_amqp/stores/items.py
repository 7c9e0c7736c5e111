"""Work items as stored: cells, the list of live ones, pages of large fan-outs, history and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from floxide_amqp.core.fast_dataclasses import dataclass, replace
from floxide_amqp.core.ids import RunId, ScopeId, WorkItemId, slot_of
from floxide_amqp.core.log_records import ErrorRecord, HistoryEntry
from floxide_amqp.core.records import Routed, Scope, WorkItem
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import Cell, IndexRange, Key, LogRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.large_inputs import APART
from floxide_amqp.stores.sealed import read_apart
from floxide_amqp.stores.sealed_records import opened_page, readable_item, readable_record, readable_scope
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.writes import STATUS_LETTERS

T = TypeVar("T")

PAGE = 500
"""Items read in one round trip."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item and its turn."""

    item: WorkItem
    turn: int


class ItemStore:
    """Reads work items."""

    def __init__(self, session: Session, sealing: Sealing = PLAIN) -> None:
        self._session = session
        self._sealing = sealing

    async def find(self, run_id: RunId, item_ids: Sequence[WorkItemId]) -> list[StoredItem | None]:
        """Return items of one run in the order asked; None for each that is not there.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        cells = tuple([key for item_id in item_ids for key in item_cells(run_id, item_id)])
        found = (await self._session.read(Read(slot=slot_of(run_id), cells=cells))).cells
        return [stored_item(*each, self._sealing) for each in zip(cells[::2], found[::2], found[1::2], strict=True)]

    async def live_entries(
        self, run_id: RunId, *, after: str = "", limit: int = PAGE
    ) -> list[tuple[WorkItemId, bytes]]:
        """Return ids of items that are not ended with the letters of their status, in the order of the ids."""
        wanted = IndexRange(keys.live_items(run_id), after=after, limit=limit)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))
        return [(WorkItemId(entry.entry), entry.value) for entry in snapshot.indexes[0]]

    async def live_ids(self, run_id: RunId, *, after: str = "", limit: int = PAGE) -> list[WorkItemId]:
        """Return ids of items that are not ended, in the order of their ids."""
        return [item_id for item_id, _ in await self.live_entries(run_id, after=after, limit=limit)]

    async def live(self, run_id: RunId, *, after: str = "", limit: int = PAGE) -> list[StoredItem]:
        """Return items that are not ended (failed ones without a fallback included), in the order of their ids."""
        ids = await self.live_ids(run_id, after=after, limit=limit)
        if not ids:
            return []
        return [found for found in await self.find(run_id, ids) if found is not None]

    async def listed(self, run_id: RunId, entries: Sequence[tuple[WorkItemId, bytes]]) -> list[StoredItem] | None:
        """Return live items with the statuses that the list of them said; None where one of them has moved on since.

        Args:
            run_id: The run.
            entries: The list, as `live_entries` gave it.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        found = await self.find(run_id, [item_id for item_id, _ in entries]) if entries else []
        items = [
            each
            for each, (_, letters) in zip(found, entries, strict=True)
            if each is not None and STATUS_LETTERS[each.item.status] == letters
        ]
        return items if len(items) == len(entries) else None

    async def scope(self, run_id: RunId, scope_id: ScopeId) -> Scope:
        """Return a scope.

        Raises:
            UnreadableRecordError: It cannot be read, or is not there although an item of it is.
        """
        key = keys.scope(run_id, scope_id)
        scope = read_record(codec.decode_scope, await self._cell(run_id, key), key)
        return readable_scope(self._sealing, run_id, scope)

    async def closed(self, run_id: RunId, scopes: Iterable[ScopeId]) -> frozenset[ScopeId]:
        """Return those of some scopes that were closed before everything in them had ended."""
        asked = tuple(scopes)
        if not asked:
            return frozenset()
        cells = tuple(keys.scope(run_id, scope) for scope in asked)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), cells=cells))
        return frozenset(scope for scope, cell in zip(asked, snapshot.cells, strict=True) if cell.version > 1)

    async def page(self, run_id: RunId, opener: str, number: int) -> tuple[Routed, ...]:
        """Return one page of a large fan-out's outputs.

        Raises:
            UnreadableRecordError: The page cannot be read, or is not there although its item is.
            MissingKeyError: It is sealed, and this process lacks the key.
        """
        key = keys.page(run_id, opener, number)
        routes = read_record(codec.decode_page, await self._cell(run_id, key), key)
        return opened_page(self._sealing, run_id, opener, number, routes)

    async def _cell(self, run_id: RunId, key: Key) -> bytes:
        """Return what a cell holds that must be there."""
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(key,)))).cells[0]
        if cell.version == 0:
            raise UnreadableRecordError(place="/".join(key), problem="It is missing from the store.")
        return cell.value

    async def history(self, run_id: RunId, *, start: int = 0, limit: int = PAGE) -> list[HistoryEntry]:
        """Return ended items in the order they ended, from position `start` on."""
        return await self._entries(LogRange(keys.history(run_id), start, limit), run_id, codec.decode_history)

    async def history_length(self, run_id: RunId) -> int:
        """Return how many items have ended."""
        wanted = LogRange(keys.history(run_id), 0, 0)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0].length

    async def errors(self, run_id: RunId, *, start: int = 0, limit: int = PAGE) -> list[ErrorRecord]:
        """Return failed attempts in the order they happened, from position `start` on."""
        found = await self._entries(LogRange(keys.errors(run_id), start, limit), run_id, codec.decode_error)
        return [readable_record(self._sealing, run_id, record) for record in found]

    async def _entries(self, wanted: LogRange, run_id: RunId, decode: Callable[[bytes], T]) -> list[T]:
        page = (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0]
        return [
            read_record(decode, data, wanted.log, f"position {position}")
            for position, data in enumerate(page.entries, page.first)
        ]


def item_cells(run_id: RunId, item_id: WorkItemId) -> tuple[Key, Key]:
    """Return where an item is: the cells of its record and of its input, which is empty unless the input is large."""
    return keys.item(run_id, item_id), keys.item_input(run_id, item_id)


def stored_item(key: Key, cell: Cell, input_cell: Cell, sealing: Sealing = PLAIN) -> StoredItem | None:
    """Return what two cells hold as an item with its turn, its input still sealed; None where there is none.

    Args:
        key: Where the item's record is.
        cell: What is there.
        input_cell: What the cell of its input holds, read at the same moment.
        sealing: Opens its texts.

    Raises:
        UnreadableRecordError: It cannot be read, is another item's, or its input is missing.
    """
    if not cell.version:
        return None
    item, run_id = read_record(codec.decode_item, cell.value, key), RunId(key.partition)
    if keys.item(run_id, item.item_id) != key:
        raise UnreadableRecordError(place="/".join(key), problem=f"It is the record of item {item.item_id!r}.")
    if item.input.payload is APART:
        if not input_cell.version:
            missing = keys.item_input(run_id, item.item_id)
            raise UnreadableRecordError(place="/".join(missing), problem="It is missing from the store.")
        item = replace(item, input=replace(item.input, payload=read_apart(input_cell.value, item.item_id)))
    return StoredItem(readable_item(sealing, run_id, item), cell.version)
