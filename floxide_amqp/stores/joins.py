"""Joins of edges as stored: what arrived at one, and which ones of a scope wait for more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.joins import JoinInstance, arrived, closed, waiting
from floxide_amqp.core.records import ScopePath
from floxide_amqp.ports.key_value import LogPage, LogRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.sealed_places import join_place
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session

PAGE: Final = 500
"""Entries of a log read in one round trip."""


class JoinStore:
    """Reads joins of edges."""

    def __init__(self, session: Session, sealing: Sealing = PLAIN) -> None:
        self._session = session
        self._sealing = sealing

    async def arrivals(self, run_id: RunId, join_id: str, *, limit: int) -> list[tuple[int, bytes]]:
        """Return the first values that reached a join, in the order they came, as (position, payload).

        Raises:
            MissingKeyError: One is sealed, and this process lacks the key.
            UnreadableRecordError: One cannot be read or opened.
        """
        key = keys.joined(run_id, arrived(join_id))
        found: list[tuple[int, bytes]] = []
        while len(found) < limit:
            page = await self._page(run_id, arrived(join_id), len(found), min(PAGE, limit - len(found)))
            for entry in page.entries:
                position, item_id, payload = read_record(codec.decode_join_arrival, entry, key)
                if self._sealing.must_open(payload):
                    payload = self._sealing.open(payload, join_place(run_id, join_id, position, item_id))
                found.append((position, payload))
            if len(found) >= page.length or not page.entries:
                break
        return found

    async def numbers(self, run_id: RunId, join_ids: list[WorkItemId]) -> list[int]:
        """Return how many values reached each of some joins."""
        logs = tuple(LogRange(keys.joined(run_id, arrived(join_id)), 0, 0) for join_id in join_ids)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), logs=logs))
        return [page.length for page in snapshot.logs]

    async def counts(self, run_id: RunId, scopes: Sequence[ScopePath]) -> list[tuple[int, int]]:
        """Return how many items of each scope are live, and how many of its joins wait, as of one moment."""
        live = tuple(keys.scope_count(run_id, scope) for scope in scopes)
        wait = tuple(keys.joined(run_id, waiting(scope)) for scope in scopes)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), counters=(*live, *wait)))
        return list(zip(snapshot.counters[: len(live)], snapshot.counters[len(live) :], strict=True))

    async def closed(self, run_id: RunId, scopes: Sequence[ScopePath]) -> frozenset[ScopePath]:
        """Return those of some scopes that were closed before everything in them had ended."""
        counters = tuple(keys.joined(run_id, closed(scope)) for scope in scopes)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), counters=counters))
        return frozenset(scope for scope, number in zip(scopes, snapshot.counters, strict=True) if number)

    async def awaited(self, run_id: RunId, scope: ScopePath, *, least: int) -> AsyncGenerator[list[JoinInstance]]:
        """Yield pages of every join of a scope that has ever waited for more, those first that began to last.

        The first page has `least` of them, 1 to `PAGE`, and each next one twice as many.

        Raises:
            UnreadableRecordError: One cannot be read.
        """
        key = keys.joined(run_id, waiting(scope))
        end, size = (await self._page(run_id, waiting(scope), 0, 0)).length, min(PAGE, max(1, least))
        while end > 0:
            start, size = max(0, end - size), min(PAGE, 2 * size)
            page = await self._page(run_id, waiting(scope), start, end - start)
            yield [read_record(codec.decode_awaited_join, entry, key) for entry in reversed(page.entries)]
            end = start

    async def awaited_last(self, run_id: RunId, scope: ScopePath) -> list[JoinInstance]:
        """Return the joins of a scope that began to wait for more last, `PAGE` of them at most, in that order.

        Raises:
            UnreadableRecordError: One cannot be read.
        """
        key = keys.joined(run_id, waiting(scope))
        page = await self._page(run_id, waiting(scope), 0, PAGE)
        if page.length > PAGE:
            page = await self._page(run_id, waiting(scope), page.length - PAGE, PAGE)
        return [read_record(codec.decode_awaited_join, entry, key) for entry in page.entries]

    async def positions(self, run_id: RunId, join_id: str, *, limit: int) -> tuple[list[int], int]:
        """Return from where the first values came that reached a join, and how many have in all; none is opened.

        Raises:
            UnreadableRecordError: One cannot be read.
        """
        key = keys.joined(run_id, arrived(join_id))
        found: list[int] = []
        while True:
            page = await self._page(run_id, arrived(join_id), len(found), min(PAGE, limit - len(found)))
            found += (read_record(codec.decode_join_arrival, entry, key)[0] for entry in page.entries)
            if len(found) >= min(page.length, limit) or not page.entries:
                return found, page.length

    async def _page(self, run_id: RunId, name: str, start: int, limit: int) -> LogPage:
        asked = LogRange(keys.joined(run_id, name), start, limit)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(asked,)))).logs[0]
