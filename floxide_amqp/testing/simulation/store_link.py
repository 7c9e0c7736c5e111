"""The connection by which one simulated process talks to the store server: what it calls is late, lost or cut.

A call that was sent reaches the server even if its process dies at that moment, as a packet on its way does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from floxide_amqp.core.ids import Slot
from floxide_amqp.exceptions import CommitOutcomeUnknownError, StoreError, StoreUnavailableError
from floxide_amqp.ports.key_value import Batch, CommitReply, Durability, Entry, IndexRange, Read, ReadReply, RecordPage
from floxide_amqp.testing.simulation.loop import SeededLoop, context_of, never
from floxide_amqp.testing.simulation.storage import StoreServer

T = TypeVar("T")


class StoreLink:
    """One process's connection to the store server: the driver it works with.

    Args:
        server: The server.
        who: Whose connection it is, for the story.
        chance: Draws latencies and what goes wrong.
        loop: The simulation's loop.

    Attributes:
        is_cut: Whether this process cannot reach the server, though others can.
        on_io: Told before each call is sent (such as ``commit``), and when a commit's reply was received
            (``committed``); returns whether the process has died at this very point.
    """

    def __init__(self, server: StoreServer, who: str, chance: random.Random, loop: SeededLoop) -> None:
        self._server = server
        self._who = who
        self._chance = chance
        self._loop = loop
        self._context = context_of(None)
        self.is_cut = False
        self.on_io: Callable[[str], bool] = _lives

    @property
    def durability(self) -> Durability:
        """What the engine is told: what was reported survives the death of any process."""
        return Durability.PROCESS_CRASH

    @property
    def is_shared(self) -> bool:
        """Other processes use it."""
        return True

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply a group, if it gets there; its reply may get lost."""
        await self._send("commit")
        weather = self._server.weather
        if weather.lost_replies and self._chance.random() < weather.lost_replies:
            applied = batches[: self._chance.randint(0, len(batches))]
            self._server.note_trouble()
            self._server.story.fault("lost reply", self._who, len(applied), len(batches))
            await self._call(lambda: self._server.serve_commit(self._who, applied))
            raise CommitOutcomeUnknownError(store=self._server.name, reason="the reply was lost")
        reply = await self._call(lambda: self._server.serve_commit(self._who, batches))
        if self.is_cut or self._server.weather.is_away:
            self._server.note_trouble()
            self._server.story.fault("lost reply", self._who, len(batches), len(batches))
            raise CommitOutcomeUnknownError(store=self._server.name, reason="the connection broke")
        if self.on_io("committed"):
            await never()
        return reply

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Read, if the call gets there and its reply comes back."""
        await self._send("read")
        reply = await self._call(lambda: self._server.serve_read(reads))
        self._check("read")
        return reply

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Scan, if the call gets there and its reply comes back."""
        await self._send("scan")
        reply = await self._call(lambda: self._server.serve_scan(index_range))
        self._check("scan")
        return reply

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List records, if the call gets there and its reply comes back."""
        await self._send("records")
        reply = await self._call(lambda: self._server.serve_records(slot, partition, after, limit))
        self._check("records")
        return reply

    async def aclose(self) -> None:
        """Nothing to release."""

    async def _send(self, what: str) -> None:
        if self.on_io(what):
            await never()
        self._check(what)
        weather = self._server.weather
        if weather.refused and self._chance.random() < weather.refused:
            self._server.story.fault("store refused", self._who)
            self._server.note_trouble()
            raise StoreUnavailableError(store=self._server.name, reason="refused")

    def _check(self, what: str) -> None:
        if self.is_cut or self._server.weather.is_away:
            self._server.story.fault("store out of reach", self._who, what)
            self._server.note_trouble()
            raise StoreUnavailableError(store=self._server.name, reason="out of reach")

    async def _call(self, serve: Callable[[], T]) -> T:
        reply: asyncio.Future[T] = self._loop.create_future()
        weather = self._server.weather
        seconds = self._chance.random() * weather.latency
        if weather.slow and self._chance.random() < weather.slow:
            self._server.story.fault("slow store", self._who)
            seconds += weather.slow_seconds
        back = self._chance.random() * weather.latency

        incarnation = self._server.incarnation

        def arrive() -> None:
            if incarnation != self._server.incarnation:
                return
            try:
                result = serve()
            except StoreError as error:
                self._loop.call_later(back, _refuse, reply, error, context=self._context)
            else:
                self._loop.call_later(back, _answer, reply, result, context=self._context)

        self._loop.call_later(seconds, arrive, context=self._context)
        return await reply


def _answer(reply: asyncio.Future[T], result: T) -> None:
    if not reply.done():
        reply.set_result(result)


def _refuse(reply: asyncio.Future[Any], error: StoreError) -> None:
    if not reply.done():
        reply.set_exception(error)


def _lives(_what: str) -> bool:
    """The default of `StoreLink.on_io`."""
    return False
