"""Rate limits in one process: bodies get the instants at which they start.

What several steps ask of one key goes into one commit: while one is under way, the next ones gather. An instant is
looked at once more right before the body: one that comes too late gets another, so that what the limit promises does
not hang on how busy a worker is.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from floxide_amqp.core.rates import AHEAD_US, Instant, Rate, Wish
from floxide_amqp.exceptions import StoreError
from floxide_amqp.logs import get_logger
from floxide_amqp.stores.rate_keys import RateStore, rate_place
from floxide_amqp.stores.session import Session

_log = get_logger("floxide_amqp.limits")

MOST_AT_ONCE: Final = 1_000
"""Bodies that get their instants in one commit."""

REMEMBERED_US: Final = 30_000_000
"""How long the fastest reply of a server counts at least."""

AGAIN_SECONDS: Final = 1.0
"""Longest pause before a body that was late for its instant asks for another one again."""

Asked: TypeAlias = "tuple[Wish, asyncio.Future[Instant]]"


@dataclass(slots=True, eq=False)
class _Asking:
    """Those who ask for one key."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: list[Asked] = field(default_factory=list[Asked])
    users: int = 0


class ServerTime:
    """A server's time, as well as this process can know it.

    What a reply says of it is late by the way of the reply, and by the time until somebody looked at it. So the replies
    that came fastest tell best: of the last minute, those by which the server's clock is furthest ahead.
    """

    def __init__(self) -> None:
        self._best_us: tuple[float, float] = (-math.inf, -math.inf)
        self._since_us = -math.inf

    def now_us(self, said_us: float, elapsed_us: float) -> int:
        """Return the server's time.

        Args:
            said_us: That time by the last reply alone.
            elapsed_us: The time by a clock of this process that never jumps.
        """
        if elapsed_us - self._since_us > REMEMBERED_US:
            self._best_us, self._since_us = (-math.inf, self._best_us[0]), elapsed_us
        ahead, before = max(self._best_us[0], said_us - elapsed_us), self._best_us[1]
        self._best_us = (ahead, before)
        return round(elapsed_us + max(ahead, before))


class Pace:
    """Reserves instants for the bodies of one process.

    Args:
        store: The keys.
        session: The store.
    """

    def __init__(self, store: RateStore, session: Session) -> None:
        self._store = store
        self._session = session
        self._times: dict[Session, ServerTime] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: dict[tuple[str, Rate], _Asking] = {}

    def now_us(self, rate_id: str) -> int:
        """The time by which the instants of a key are meant, microseconds; in threads too, once somebody has asked."""
        server = self._session.beside(rate_place(rate_id))
        loop = self._loop or asyncio.get_running_loop()
        known = self._times.setdefault(server, ServerTime())
        return known.now_us(1000.0 * server.now_ms(), 1_000_000 * loop.time())

    async def ask(self, rate_id: str, rate: Rate, wish: Wish, shown: bytes = b"") -> Instant:
        """Return when a body may start, or when it is to ask again.

        Args:
            rate_id: The key.
            rate: The rate that the code declares.
            wish: What is asked for.
            shown: The key's text, sealed, where it is called by a digest.

        Raises:
            StoreError: The key cannot be reached, or read.
        """
        self._loop = asyncio.get_running_loop()
        asking = self._asking.setdefault((rate_id, rate), _Asking())
        answer: asyncio.Future[Instant] = asyncio.get_running_loop().create_future()
        asking.asked.append((wish, answer))
        asking.users += 1
        try:
            async with asking.lock:
                if not answer.done():
                    await self._reserve(rate_id, rate, asking, shown)
            return answer.result()
        finally:
            if not answer.done():
                answer.cancel()
            asking.users -= 1
            if not asking.users:
                self._asking.pop((rate_id, rate), None)

    async def _reserve(self, rate_id: str, rate: Rate, asking: _Asking, shown: bytes) -> None:
        """Ask for all who have gathered; where that fails, the next one of them asks for them again."""
        asked = [each for each in asking.asked if not each[1].done()]
        now, asking.asked = asked[:MOST_AT_ONCE], asked[MOST_AT_ONCE:]
        try:
            wishes = [wish for wish, _ in now]
            instants = await self._store.reserve(rate_id, rate, wishes, lambda: self.now_us(rate_id), shown)
        except BaseException:
            asking.asked = [*now, *asking.asked]
            raise
        for (_, answer), instant in zip(now, instants, strict=True):
            if not answer.done():
                answer.set_result(instant)


class Start:
    """The instant at which a step's body starts.

    Args:
        pace: Reserves another one, where it was missed.
        rate_id: The key.
        rate: The rate that the code declares.
        at_us: The instant, store time in microseconds.
    """

    def __init__(self, pace: Pace, rate_id: str, rate: Rate, at_us: int) -> None:
        self._pace = pace
        self._rate_id = rate_id
        self._rate = rate
        self._at_us: int | None = at_us

    @property
    def is_late(self) -> bool:
        """Whether the instant is over, or a body has had it already."""
        at_us = self._at_us
        return at_us is None or self._pace.now_us(self._rate_id) > at_us + self._rate.reserve_us // 2

    def take(self) -> bool:
        """Take the instant for a body that starts now; return whether it was still there."""
        is_there = not self.is_late
        self._at_us = None
        return is_there

    async def wait(self) -> None:
        """Return when the body may start, at an instant that may be another one than at first."""
        while True:
            while self.is_late:
                await self._ask_again()
            wait_us = (self._at_us or 0) - self._pace.now_us(self._rate_id)
            if wait_us <= 0:
                return
            await asyncio.sleep(wait_us / 1_000_000)

    async def _ask_again(self) -> None:
        """Reserve another instant; this one does not go back to the store for it."""
        pause = AGAIN_SECONDS
        try:
            instant = await self._pace.ask(self._rate_id, self._rate, Wish(AHEAD_US, lines_up=False))
        except StoreError as error:
            _log.info("limit.out_of_reach", limit=self._rate_id, error=str(error))
        else:
            if instant.is_start:
                self._at_us = instant.at_us
                return
            pause = min(pause, (instant.at_us - AHEAD_US - self._pace.now_us(self._rate_id)) / 1_000_000)
        await asyncio.sleep(max(0.001, pause))
