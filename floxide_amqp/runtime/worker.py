"""The worker: takes deliveries, works each off as a chain, and keeps up its sign of life and its maintenance.

It owns nothing but the tasks: what it takes in is `Intake`'s, what becomes of it `Deliveries`', what is due
`Maintenance`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from floxide_amqp.exceptions import FloxideError, WorkerStuckError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.admission import Admissions
from floxide_amqp.runtime.deaths import DeathWatches
from floxide_amqp.runtime.deliveries import Deliveries, is_probe
from floxide_amqp.runtime.health import WorkerHealth, health_of, vitals_of
from floxide_amqp.runtime.intake import Intake
from floxide_amqp.runtime.interrupts import Interrupts
from floxide_amqp.runtime.letter_kinds import KINDS
from floxide_amqp.runtime.letters import LetterQueue
from floxide_amqp.runtime.limits import limit_of
from floxide_amqp.runtime.loop_watch import LoopPulse
from floxide_amqp.runtime.maintenance import Maintenance
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.source_feeds import SourceFeeds
from floxide_amqp.runtime.store_watch import StoreWatch
from floxide_amqp.runtime.timers import TimerQueue
from floxide_amqp.runtime.vitals import Vitals

_log = get_logger("floxide_amqp.worker")


class Beating(Protocol):
    """A sign of life: a thread on a shared store, a task where no other process can look.

    Attributes:
        vitals: What it says of the worker.
        pulse: Ticks of the event loop, which the worker keeps up.
        beat_at: When the last beat got through, by the event loop's clock.
        on_lost: Called when another worker has taken the name.
    """

    vitals: Vitals
    pulse: LoopPulse
    beat_at: float | None
    on_lost: Callable[[Exception], object]

    def succeeded(self, part: int) -> int:
        """Return how many beats got through on a server of the store, by its number."""
        ...

    async def start(self) -> None:
        """Return once the first beat is in the store."""
        ...

    async def stop(self) -> None:
        """Say goodbye."""
        ...


class Worker:
    """A long-running consumer of task queues.

    Args:
        services: The process's parts.
        heartbeat: Its sign of life.
        queues: Task queues to serve.

    Attributes:
        parts_ended: Parts that run beside the work and ended by themselves, which none should.
    """

    def __init__(self, services: Services, heartbeat: Beating, queues: tuple[str, ...]) -> None:
        self.services = services
        self.queues = queues
        self._heartbeat = heartbeat
        self._timers = TimerQueue(services)
        services.on_timer = self._timers.add
        self._letters = LetterQueue(services, KINDS)
        services.on_letters = self._letters.add
        deaths = DeathWatches(services.session, services.timeouts.dead_after, heartbeat.succeeded)
        self.maintenance = Maintenance(services, deaths, queues)
        self._intake = Intake(services.queue, queues, services.limits.concurrency)
        admissions = Admissions(services, deaths, limit_of, queues)
        self._deliveries = Deliveries(
            services, self._intake, admissions, self.maintenance.probe_returned, queues, deaths.knows_this_process
        )
        self._interrupts = Interrupts(services, self.stop)
        self._feeds = SourceFeeds(services)
        self._store_watch = StoreWatch(
            services.session, services.name, services.timeouts.dead_after, services.timeouts.heartbeat
        )
        self._stopping = asyncio.Event()
        self.parts_ended: list[str] = []
        self._failure: Exception | None = None
        self._is_disowned = False
        self._status = "starting"
        services.threads.on_too_many = self._lost_threads
        heartbeat.on_lost = self._lost_name
        services.session.on_data_lost = self._lost_data

    # --- what users call

    async def run_forever(self) -> None:
        """Work until `stop` is called, then drain.

        Raises:
            BrokerError: The broker says that it cannot heal.
            WorkerNameTakenError: Another worker of this name is alive.
            WorkerNameLostError: Another worker has taken this one's name over.
            WorkerStuckError: Too many threads are held by nodes that do not end; only where `owns_process`.
        """
        async with self._running(background=True):
            watched = self._store_watch.keep_up(self._consume, self._intake.stop)
            loop = asyncio.create_task(watched, name="floxide.worker.consume")
            stop = asyncio.create_task(self._stopping.wait(), name="floxide.worker.stop")
            try:
                await asyncio.wait({loop, stop}, return_when=asyncio.FIRST_COMPLETED)
                if loop.done():
                    loop.result()
            finally:
                stop.cancel()
                loop.cancel()
                await asyncio.gather(loop, stop, return_exceptions=True)
                await self._drain()
                await self._hand_over()
        if self._failure is not None:
            raise self._failure

    async def run_once(self, *, timeout: float = 1.0) -> bool:
        """Work one delivery off, with the chain that follows from it; return whether there was one.

        For tests and debugging: nothing runs in the background, but due timers and one round of maintenance are done
        first.

        Args:
            timeout: Seconds to wait for a delivery; 0 or more.
        """
        async with self._running(background=False):
            await self.maintenance.round()
            try:
                async with asyncio.timeout(timeout):
                    slot = await self._intake.take()
                    while is_probe(slot.delivery.body):
                        await self._deliveries.handle(slot)
                        slot = await self._intake.take()
            except TimeoutError:
                return False
            await self._deliveries.handle(slot)
            return True

    def stop(self) -> None:
        """Begin to drain: take nothing new, finish what is in hand. Calling it twice is fine."""
        self._stopping.set()
        self._deliveries.keep_nothing()

    def health(self) -> WorkerHealth:
        """Return how the worker is right now."""
        return health_of(
            self.services, self._heartbeat.pulse, self._heartbeat.beat_at, status=self._status,
            items_done=self._deliveries.done, error_count=self._deliveries.errors,
        )  # fmt: skip

    # --- life

    @asynccontextmanager
    async def _running(self, *, background: bool) -> AsyncGenerator[None]:
        services = self.services
        async with AsyncExitStack() as stack:
            services.resources.check(services.registry.required_resources())
            await stack.enter_async_context(self._in_background(self._heartbeat.pulse.run(self._show), "pulse"))
            await self._heartbeat.start()
            stack.push_async_callback(self._heartbeat.stop)
            stack.callback(self._set_status, "stopped")
            stack.push_async_callback(self._intake.close)
            await self._intake.open()
            self._set_status("running")  # not before its queues exist: whoever waits for this may start runs
            if background:
                messages = await stack.enter_async_context(services.bus.listen(services.name))
                await stack.enter_async_context(self._in_background(self._interrupts.listen(messages), "control"))
                await stack.enter_async_context(self._in_background(self.maintenance.run(), "maintenance"))
                await stack.enter_async_context(self._in_background(self._timers.run(), "timers"))
                await stack.enter_async_context(self._in_background(self._letters.run(), "letters"))
                if services.dead_letters is not None:
                    desk = self.maintenance.dead_letters
                    await stack.enter_async_context(self._in_background(desk.run(), "dead letters"))
                await stack.enter_async_context(self._in_background(self._interrupts.ask(), "interrupts"))
                await stack.enter_async_context(self._in_background(services.followers.tell(services.bus), "followers"))
                await stack.enter_async_context(self._in_background(self._feeds.run(), "sources"))
            _log.info("worker.started", worker_id=services.name, queues=self.queues)
            yield
        _log.info("worker.stopped", worker_id=services.name, items_done=self._deliveries.done)

    @asynccontextmanager
    async def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> AsyncGenerator[None]:
        """Run something beside the block, and end it with the block."""
        task = asyncio.create_task(work, name=f"floxide.worker.{name}")
        task.add_done_callback(self._part_ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        """A part that runs beside the work should never end by itself: say so loudly if it does."""
        if not task.cancelled():
            self.parts_ended.append(task.get_name().rpartition(".")[2])
            _log.error("worker.part_failed", part=task.get_name(), exc_info=task.exception() or False)

    async def _consume(self) -> None:
        while True:
            self._deliveries.begin(await self._intake.take())

    async def _drain(self) -> None:
        """Take nothing new, let chains end, then give up on those that take too long."""
        self._set_status("draining")
        self._feeds.stop()
        await self._intake.stop()
        within = 0.0 if self._is_disowned else self.services.timeouts.drain
        await asyncio.gather(self._feeds.drain(within), self._deliveries.drain(within))

    async def _hand_over(self) -> None:
        """Give back what is left; what cannot be is found by those who miss this worker's heartbeat."""
        if self._is_disowned:
            return
        try:
            await self.maintenance.hand_over()
        except FloxideError as error:
            _log.warning("worker.hand_over_failed", worker_id=self.services.name, error=str(error))

    def _show(self) -> None:
        """Keep what the heartbeat says of this worker up to date."""
        self._heartbeat.vitals = vitals_of(self.services, self.health())

    def _lost_name(self, error: Exception) -> None:
        """Another worker has the name: what this one holds in the store is that one's now."""
        self._is_disowned = True
        self._give_up(error)

    def _lost_data(self, error: Exception) -> None:
        """The store is not what it was: what this worker remembers of it may never have been."""
        self._is_disowned = True
        self._give_up(error)

    def _lost_threads(self) -> None:
        """Too many bodies do not end: whoever starts this process again gives it fresh threads."""
        lost = self.services.threads.lost
        error = WorkerStuckError(
            worker_id=self.services.name, threads=len(lost), nodes=tuple(sorted({handle.node for handle in lost}))
        )
        if self.services.owns_process:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
            _log.error("worker.gave_up", worker_id=self.services.name, error=str(error))
            self.stop()

    def _set_status(self, status: str) -> None:
        self._status = status
