"""Keeping a subscription alive over lost connections, closed channels and cancels sent by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from floxide_amqp.drivers.amqp.complaints import Complaints
from floxide_amqp.drivers.amqp.connection import STABLE_SECONDS, Link, full_jitter, without_locals
from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.exceptions import BrokerError, BrokerUnavailableError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

SILENT_PROBES: Final = 2
"""So many probes of a lane may find messages that are not delivered to a consumer with room; it is replaced at the
next."""


class Lane(Protocol):
    """A subscribed channel; its generation ends with it."""

    @property
    def session(self) -> Session:
        """The connection it is on."""
        ...

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done once the channel is closed, by whomever."""
        ...

    @property
    def disturbed(self) -> asyncio.Event:
        """Set when the broker has cancelled a consumer."""
        ...

    async def mend(self) -> None:
        """Subscribe again to what the broker cancelled."""
        ...

    async def probe(self) -> None:
        """See whether the broker still knows the consumers; set `disturbed` if not."""
        ...

    async def close(self) -> None:
        """Close the channel."""
        ...


LaneT = TypeVar("LaneT", bound=Lane)


class Keeper(Generic[LaneT]):
    """Attaches a lane to each session of a link, and tends it until it is gone."""

    def __init__(
        self,
        link: Link,
        settings: AmqpSettings,
        *,
        what: str,
        attach: Callable[[Session], Awaitable[LaneT]],
        on_attached: Callable[[LaneT], None],
        on_failure: Callable[[BrokerError], None],
        is_outlived: Callable[[LaneT], bool] = lambda _: False,
    ) -> None:
        """Describe the subscription; nothing happens before `open`.

        Args:
            link: Whose sessions to use.
            settings: Intervals and deadlines.
            what: The subscription's name in logs.
            attach: Subscribe on a new session.
            on_attached: Told about each new lane; the one before is gone.
            on_failure: Told why there is no lane, when waiting will not help.
            is_outlived: Whether another lane on the same connection should take a lane's place.
        """
        self._link = link
        self._settings = settings
        self._what = what
        self._attach = attach
        self._on_attached = on_attached
        self._on_failure = on_failure
        self._is_outlived = is_outlived
        self._problem = f"{what}: not subscribed yet"
        self._complaints = Complaints()
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None

    @property
    def problem(self) -> str:
        """Why the subscription does not stand now; empty when it does."""
        return self._problem

    async def open(self) -> None:
        """Start, and return once subscribed for the first time.

        Raises:
            BrokerError: Subscribing was refused, or did not succeed within `AmqpSettings.open_deadline`.
        """
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"floxide-{self._what}")
        try:
            async with asyncio.timeout(self._settings.open_deadline):
                await self._first
        except TimeoutError:
            await self.aclose()
            health = self._link.health()
            reason = health.problem or f"not subscribed within {self._settings.open_deadline:g} s"
            raise BrokerUnavailableError(url=self._link.url, operation=f"Opening {self._what}", reason=reason) from None
        except BaseException:
            await self.aclose()
            raise

    def begin(self) -> None:
        """Start, without waiting for anything; `problem` tells how it goes."""
        self._task = asyncio.create_task(self._run(), name=f"floxide-{self._what}")

    async def aclose(self) -> None:
        """Stop tending and close the channel; a second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        attempt = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._keep_one(await self._link.session())
            except BrokerError as error:
                self._report(error)
            except Exception as error:  # noqa: BLE001 - a supervisor: a defect must not end the subscription in silence
                self._report_defect(error)
            if asyncio.get_running_loop().time() - began >= STABLE_SECONDS:
                attempt = 0
            await asyncio.sleep(full_jitter(attempt, self._settings))
            attempt += 1

    async def _keep_one(self, session: Session) -> None:
        lane = await self._attach(session)
        while True:
            try:
                self._announce(lane)
                await self._tend(lane)
                if not self._is_outlived(lane):
                    self._problem = self._problem or f"{self._what}: its channel is gone"
                    return
                successor = await self._attach(session)
            finally:
                await lane.close()
            lane = successor

    def _announce(self, lane: LaneT) -> None:
        self._problem = ""
        self._complaints.settle()
        self._on_attached(lane)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    async def _tend(self, lane: LaneT) -> None:
        """Look after a lane until it is gone, or should be replaced."""
        while True:
            disturbance = asyncio.ensure_future(lane.disturbed.wait())
            try:
                watched: set[asyncio.Future[Any]] = {lane.closed, lane.session.lost, disturbance}
                await asyncio.wait(
                    watched,
                    timeout=self._settings.probe_interval,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                disturbance.cancel()
            if lane.closed.done() or lane.session.lost.done():
                return
            if not lane.disturbed.is_set():
                await lane.probe()
            if self._is_outlived(lane):
                return
            if lane.disturbed.is_set():
                lane.disturbed.clear()
                await lane.mend()

    def _report_defect(self, error: Exception) -> None:
        self._problem = f"{self._what}: {error!r}"
        _logger.error("broker.supervisor_failed", subscription=self._what, problem=without_locals(error))
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)

    def _report(self, error: BrokerError) -> None:
        self._problem = f"{self._what}: {error}"
        is_due = self._complaints.are_due(str(error), asyncio.get_running_loop().time())
        facts: dict[str, object] = {"problem": str(error), "attempts": self._complaints.attempts}
        if is_due:
            _logger.warning("broker.subscription_failed", subscription=self._what, **facts)
        else:
            _logger.debug("broker.subscription_failed", subscription=self._what, **facts)
        if error.retryable:
            return
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        self._on_failure(error)
