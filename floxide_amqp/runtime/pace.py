"""Rate limits in one process: bodies get the instants at which they start.

What several steps ask of one key goes into one commit: while one is under way, the next ones gather. An instant is
looked at once more right before the body: one that comes too late gets another, so that what the limit promises does
not hang on how busy a worker is, or how slow the store. Instants lie ahead by what it took lately until one could be
used; one that was missed is given back. Who gets none that is near waits in the store, and not here.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from floxide_amqp.core.rate_lines import LONGEST_LEAD_US, Instant, Wish
from floxide_amqp.core.rates import AHEAD_US, Rate
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
"""Pause before a body that was late for its instant asks again, where its key was out of reach."""

FADING: Final = 7 / 8
"""What is left of the lead, with each commit that was faster."""

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
        self._leads_us: dict[Session, float] = {}
        store.on_damaged = _tell_damaged

    def now_us(self, rate_id: str) -> int:
        """The time by which the instants of a key are meant, microseconds; in threads too, once somebody has asked."""
        server = self._session.beside(rate_place(rate_id))
        loop = self._loop or asyncio.get_running_loop()
        known = self._times.setdefault(server, ServerTime())
        return known.now_us(1000.0 * server.now_ms(), 1_000_000 * loop.time())

    def was_late(self, rate_id: str, by_us: int) -> None:
        """Note by how much a body was late for its instant: the next ones lie ahead by as much more."""
        server = self._session.beside(rate_place(rate_id))
        self._leads_us[server] = min(AHEAD_US, self._leads_us.get(server, 0.0) + by_us)

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
        server, reserved_us = self._session.beside(rate_place(rate_id)), 0
        lead_us = round(self._leads_us.get(server, 0.0))

        def now_us() -> int:
            nonlocal reserved_us
            reserved_us = self.now_us(rate_id)
            return reserved_us

        try:
            wishes = [wish._replace(lead_us=max(wish.lead_us, lead_us)) for wish, _ in now]
            instants = await self._store.reserve(rate_id, rate, wishes, now_us, shown)
        except BaseException:
            asking.asked = [*now, *asking.asked]
            raise
        took_us = self.now_us(rate_id) - reserved_us
        self._leads_us[server] = min(AHEAD_US, max(took_us, lead_us * FADING))
        for (_, answer), instant in zip(now, instants, strict=True):
            if not answer.done():
                answer.set_result(instant)


def _tell_damaged(rate_id: str, error: Exception) -> None:
    _log.warning("limit.begun_anew", limit=rate_id, error=str(error))


class NotYet(NamedTuple):
    """The body of a step may start only later than a worker waits for.

    Attributes:
        rate_id: The key.
        ask_at_us: When it asks again, by the clock of the key's server.
        takes_back: Whether the step has noted that its body may begin, which it has not.
    """

    rate_id: str
    ask_at_us: int
    takes_back: bool


class Start:
    """The instant at which a step's body starts.

    Args:
        pace: Reserves another one, where it was missed.
        rate_id: The key.
        rate: The rate that the code declares.
        instant: The instant.
        shown: The key's text, sealed, where it is called by a digest.

    Attributes:
        notes_begin: Whether the step notes just for this start that its body may begin.
        not_yet: Set once the body may start only later than a worker waits for.
    """

    def __init__(self, pace: Pace, rate_id: str, rate: Rate, instant: Instant, shown: bytes = b"") -> None:
        self._pace = pace
        self._rate_id = rate_id
        self._rate = rate
        self._shown = shown
        self._instant: Instant | None = instant
        self._has_run = False
        self._has_missed = False
        self._lead_us = 0
        self._waited = 0.0
        self.notes_begin = False
        self.not_yet: NotYet | None = None

    @property
    def is_late(self) -> bool:
        """Whether the instant is over, or a body has had it already."""
        return self._instant is None or self._late_us(self._instant) > 0

    def take(self) -> bool:
        """Take the instant for a body that starts now; return whether it was still there. Another thread may ask."""
        if self.is_late:
            return False
        self._instant, self._has_run = None, True
        return True

    async def wait(self) -> NotYet | None:
        """Return when the body may start, at an instant that may be another one than at first; or why it may not."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self.not_yet is None:
            if self._instant is None or self.is_late:
                await self._ask_again()
                continue
            wait_us = self._instant.at_us - self._pace.now_us(self._rate_id)
            if wait_us <= 0:
                break
            await asyncio.sleep(wait_us / 1_000_000)
        self._waited += loop.time() - began
        return self.not_yet

    def waited_us(self) -> int:
        """Return how long bodies have waited for instants since it was last asked."""
        waited, self._waited = self._waited, 0.0
        return round(waited * 1_000_000)

    def _late_us(self, instant: Instant) -> int:
        """By how much it is too late for an instant; half of the reserve is for the clocks of two workers."""
        return self._pace.now_us(self._rate_id) - instant.at_us - instant.reserve_us // 2

    async def _ask_again(self) -> None:
        """Reserve another instant; from the second on with as much more time as was lacking, then with twice as much.

        Before the first one the step may have waited for a thread or a process, which says nothing of what follows.
        """
        missed_us = 0
        if self._instant is not None:
            late_us, missed_us = self._late_us(self._instant), self._instant.after_us
            if self._has_missed and not self._lead_us:
                self._pace.was_late(self._rate_id, late_us)
            if self._has_missed:
                self._lead_us = min(LONGEST_LEAD_US, max(2 * self._lead_us, late_us))
            self._has_missed = True
        wish = Wish(AHEAD_US, self._lead_us, missed_us)
        try:
            instant = await self._pace.ask(self._rate_id, self._rate, wish, self._shown)
        except StoreError as error:
            _log.info("limit.out_of_reach", limit=self._rate_id, error=str(error))
            await asyncio.sleep(AGAIN_SECONDS)
            return
        if instant.is_start:
            self._instant = instant
        else:
            self.not_yet = NotYet(self._rate_id, instant.at_us, self.notes_begin and not self._has_run)
