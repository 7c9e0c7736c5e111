"""The supervised connection of a role: publish, consume or control.

A `Link` connects, lets others use the `Session`, notices its loss, and connects again after a random pause, for as
long as it is open. One that cannot succeed by waiting (a refused login) is reported, and tried again all the same.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

import aio_pika
from yarl import URL

from floxide_amqp.drivers.amqp._errors import cure_for, describe, is_foreign, translate
from floxide_amqp.drivers.amqp.complaints import Complaints
from floxide_amqp.drivers.amqp.health import ConnectionState, RoleHealth
from floxide_amqp.drivers.amqp.session import Session, end_tasks
from floxide_amqp.drivers.amqp.settings import AmqpSettings, redacted
from floxide_amqp.drivers.amqp.transport import Addresses, CuttableTransport
from floxide_amqp.exceptions import BrokerAccessRefusedError, BrokerError, BrokerUnavailableError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

STABLE_SECONDS: Final = 5.0
"""A connection that lasted this long was a good one: the next pause starts small again."""


class Link:
    """The supervised connection of one role."""

    def __init__(
        self,
        role: str,
        url: URL,
        settings: AmqpSettings,
        *,
        name: str,
        prepare: Callable[[Session], Awaitable[None]] | None = None,
    ) -> None:
        """Describe the connection; nothing happens before `open`.

        Args:
            role: ``publish``, ``consume`` or ``control``.
            url: Where to, checked by `broker_url`.
            settings: Deadlines and security.
            name: What the broker's management pages call the connection.
            prepare: Run on each new connection before anybody else gets it.
        """
        self._role = role
        self._url = url
        self._settings = settings
        self._name = name
        self._prepare = prepare
        self._addresses = Addresses()
        self._state = ConnectionState.DEAD
        self._session: Session | None = None
        self._generation = 0
        self._answered_at: float | None = None
        self._failure: BrokerError | None = None
        self._complaints = Complaints()
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._farewell: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where to, fit to be printed."""
        return redacted(self._url)

    @property
    def is_open(self) -> bool:
        """Whether it is supervised: opened and not closed."""
        return self._supervisor is not None

    @property
    def current(self) -> Session | None:
        """The session that is ready now, if any."""
        return self._session if self._session is not None and self._session.is_usable else None

    def health(self) -> RoleHealth:
        """Return what is known about the connection, without asking the broker."""
        session = self.current
        answered_at = self._answered_at if session is None else session.answered_at
        age = None if answered_at is None else asyncio.get_running_loop().time() - answered_at
        problem = self._problem(session, age)
        return RoleHealth(
            role=self._role,
            state=self._state,
            is_ready=self._state is ConnectionState.READY and not problem,
            generation=self._generation,
            round_trip_age_seconds=age,
            blocked_seconds=None if session is None else session.blocked_seconds,
            problem=problem,
        )

    def open(self) -> None:
        """Start supervising; a second call does nothing."""
        if self._supervisor is None:
            _keep_quiet("aiormq", "aio_pika")
            self._supervisor = asyncio.create_task(self._supervise(), name=f"floxide-{self._role}-link")

    async def connect(self, *, within: float) -> None:
        """Start supervising and wait for the first connection; stop again if there is none in time.

        Raises:
            BrokerError: As `session` does.
        """
        self.open()
        try:
            await self.session(within=within)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connection and stop supervising; a second call does nothing."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        self._become(ConnectionState.DRAINING)
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
        if self._farewell is not None:
            await asyncio.wait({self._farewell})
        self._become(ConnectionState.DEAD)

    async def session(self, *, within: float | None = None) -> Session:
        """Wait for a connection that is ready.

        Args:
            within: Seconds to wait; None for ever.

        Raises:
            BrokerError: It is not retryable: waiting will not help.
            BrokerUnavailableError: The time is over, or this link is closed.
        """
        deadline = None if within is None else asyncio.get_running_loop().time() + within
        try:
            async with asyncio.timeout_at(deadline):
                while (session := self.current) is None:
                    if self._failure is not None and not self._failure.retryable:
                        raise self._failure
                    if self._supervisor is None:
                        raise self._unavailable("it is closed")
                    await self._changed.wait()
                return session
        except TimeoutError:
            cure = self._failure.cure if isinstance(self._failure, BrokerUnavailableError) else ""
            raise self._unavailable(self._reason() or f"not connected within {within:g} s", cure) from None

    async def _supervise(self) -> None:
        attempt = 0
        while True:
            self._become(ConnectionState.CONNECTING)
            began = asyncio.get_running_loop().time()
            try:
                await self._serve(await self._connect())
            except BrokerError as error:
                self._note(error)
            except Exception as error:  # noqa: BLE001 - a supervisor: a defect must not end the connection in silence
                self._note_defect(error)
            if asyncio.get_running_loop().time() - began >= STABLE_SECONDS and self._failure is None:
                attempt = 0
            await asyncio.sleep(full_jitter(attempt, self._settings))
            attempt += 1

    async def _connect(self) -> Session:
        transport = CuttableTransport(self._addresses, patience=self._settings.connect_deadline)
        connection = aio_pika.Connection(
            self._url,
            ssl_context=self._settings.ssl_context,
            client_properties={"connection_name": f"{self._name} {self._role}"},
        )
        connection.kwargs["transport_factory"] = transport
        attempt = asyncio.ensure_future(connection.connect())
        try:
            await asyncio.wait({attempt}, timeout=self._settings.connect_deadline)
            self._check_connected(attempt)
            self._generation += 1
            return Session(connection, transport, self._settings, role=self._role, generation=self._generation)
        except BaseException:
            transport.give_up()
            await end_tasks([attempt])
            await connection.close()
            raise

    def _check_connected(self, attempt: asyncio.Future[None]) -> None:
        if not attempt.done():
            raise self._unavailable(f"no answer within {self._settings.connect_deadline:g} s")
        if attempt.cancelled():
            raise self._unavailable("the connection was closed during login")
        error = attempt.exception()
        if error is None:
            return
        if not is_foreign(error):
            raise error
        translated = translate(error, url=redacted(self._url), operation="Connecting")
        if isinstance(translated, BrokerAccessRefusedError):
            raise translated from error
        raise self._unavailable(describe(error), cure_for(error)) from error

    async def _serve(self, session: Session) -> None:
        """Let others use a session until it is lost."""
        probing: asyncio.Task[None] | None = None
        try:
            session.watch_blocked(self._on_blocked_change)
            if self._prepare is not None:
                await self._prepare(session)
            self._failure = None
            self._complaints.settle()
            self._session = session
            self._become(ConnectionState.BLOCKED if session.is_blocked else ConnectionState.READY)
            _logger.info("broker.connected", role=self._role, url=session.url, generation=session.generation)
            probing = asyncio.create_task(self._probe(session))
            reason = await asyncio.shield(session.lost)
            _logger.warning("broker.connection_lost", role=self._role, generation=session.generation, reason=reason)
        finally:
            self._session = None
            self._answered_at = session.answered_at
            self._changed_now()
            if probing is not None:
                probing.cancel()
            self._farewell = asyncio.create_task(session.close())
            await asyncio.shield(self._farewell)

    async def _probe(self, session: Session) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval)
            if session.is_blocked or session.round_trip_age_seconds < self._settings.probe_interval / 2:
                continue
            try:
                await session.probe()
            except BrokerError as error:
                _logger.warning("broker.probe_failed", role=self._role, problem=str(error))

    def _note(self, error: BrokerError) -> None:
        self._failure = error
        is_due = self._complaints.are_due(str(error), asyncio.get_running_loop().time())
        facts: dict[str, object] = {"problem": str(error), "attempts": self._complaints.attempts}
        if is_due:
            _logger.warning("broker.connect_failed", role=self._role, url=redacted(self._url), **facts)
        else:
            _logger.debug("broker.connect_failed", role=self._role, url=redacted(self._url), **facts)
        self._changed_now()

    def _note_defect(self, error: Exception) -> None:
        self._failure = self._unavailable(repr(error))
        _logger.error("broker.supervisor_failed", role=self._role, problem=without_locals(error))
        self._changed_now()

    def _on_blocked_change(self) -> None:
        session = self.current
        if session is not None:
            self._become(ConnectionState.BLOCKED if session.is_blocked else ConnectionState.READY)

    def _become(self, state: ConnectionState) -> None:
        self._state = state
        self._changed_now()

    def _changed_now(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _problem(self, session: Session | None, age: float | None) -> str:
        if session is None:
            return self._reason() or f"not connected: {self._state.value}"
        if session.blocked_seconds is not None:
            return f"blocked by the broker for {session.blocked_seconds:.0f} s: a memory or disk alarm"
        if age is not None and age > self._settings.round_trip_limit:
            return f"the broker has not answered for {age:.0f} s"
        return ""

    def _reason(self) -> str:
        """Return why there is no connection, as far as known."""
        if isinstance(self._failure, BrokerUnavailableError):
            return self._failure.reason
        return "" if self._failure is None else str(self._failure)

    def _unavailable(self, reason: str, cure: str = "") -> BrokerUnavailableError:
        return BrokerUnavailableError(url=redacted(self._url), operation="Connecting", reason=reason, cure=cure)


def full_jitter(attempt: int, settings: AmqpSettings) -> float:
    """Return a random pause, 0 up to a bound that doubles with each attempt.

    Source:
        AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    return random.uniform(0, min(settings.backoff_max, settings.backoff_initial * 2 ** min(attempt, 16)))


def without_locals(error: Exception) -> str:
    """Return an error's traceback as text; a renderer that shows local variables would show the password."""
    return "".join(traceback.format_exception(error))


def _keep_quiet(*loggers: str) -> None:
    """Keep Python's last-resort handler from printing what is reported here in structured form."""
    for name in loggers:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
