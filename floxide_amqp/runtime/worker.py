"""The worker: takes deliveries, works each off as a chain, and keeps up its sign of life and its maintenance.

It owns nothing but the tasks: what it takes in is `Intake`'s, what a step does `Chain`'s, what is due `Maintenance`'s.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from floxide_amqp.core.records import Envelope, Probe
from floxide_amqp.exceptions import CodecError, FloxideError, MissingKeyError, UnreadableRecordError, WorkerStuckError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.admission import Admissions
from floxide_amqp.runtime.chain import Chain
from floxide_amqp.runtime.deaths import DeathWatches
from floxide_amqp.runtime.health import WorkerHealth, health_of, vitals_of
from floxide_amqp.runtime.intake import Intake, Slot
from floxide_amqp.runtime.interrupts import Interrupts
from floxide_amqp.runtime.loop_watch import LoopPulse
from floxide_amqp.runtime.maintenance import Maintenance
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.store_watch import StoreWatch
from floxide_amqp.runtime.timers import TimerQueue
from floxide_amqp.runtime.unreadable import Unreadable
from floxide_amqp.runtime.vitals import Vitals
from floxide_amqp.stores.record_codec import decode_message

_log = get_logger("floxide_amqp.worker")

PAUSE_AFTER_ERROR_SECONDS = 1.0
"""Pause before a delivery that met an engine or store error is given back, so that it does not spin."""

LAST_GRACE_SECONDS = 5.0
"""Time chains that were broken off get to settle, beyond what their nodes get to clean up."""


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
        self._deaths = DeathWatches(services.session, services.timeouts.dead_after, heartbeat.succeeded)
        self._unreadable = Unreadable(services)
        self._admissions = Admissions(services, self._deaths)
        self.maintenance = Maintenance(services, self._deaths, queues)
        self._timers = TimerQueue(services)
        self._intake = Intake(services.queue, queues, services.limits.concurrency)
        self._chains: dict[asyncio.Task[None], Chain | None] = {}
        self._interrupts = Interrupts(services, self.stop)
        self._store_watch = StoreWatch(
            services.session, services.name, services.timeouts.dead_after, services.timeouts.heartbeat
        )
        self._stopping = asyncio.Event()
        self.parts_ended: list[str] = []
        self._failure: Exception | None = None
        self._is_name_lost = False
        self._status = "starting"
        self._done = 0
        self._errors = 0
        services.on_timer = self._timers.add
        services.threads.on_too_many = self._lost_threads
        heartbeat.on_lost = self._lost_name

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
                    while _is_probe(slot.delivery.body):
                        await self._handle(slot)
                        slot = await self._intake.take()
            except TimeoutError:
                return False
            await self._handle(slot)
            return True

    def stop(self) -> None:
        """Begin to drain: take nothing new, finish what is in hand. Calling it twice is fine."""
        self._stopping.set()

    def health(self) -> WorkerHealth:
        """Return how the worker is right now."""
        return health_of(
            self.services, self._heartbeat.pulse, self._heartbeat.beat_at, status=self._status, items_done=self._done,
            error_count=self._errors,
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
                if services.dead_letters is not None:
                    desk = self.maintenance.dead_letters
                    await stack.enter_async_context(self._in_background(desk.run(), "dead letters"))
                await stack.enter_async_context(self._in_background(self._interrupts.ask(), "interrupts"))
            _log.info("worker.started", worker_id=services.name, queues=self.queues)
            yield
        _log.info("worker.stopped", worker_id=services.name, items_done=self._done)

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
            slot = await self._intake.take()
            task = asyncio.create_task(self._handle(slot), name="floxide.worker.chain")
            self._chains[task] = None
            task.add_done_callback(self._chain_ended)

    def _chain_ended(self, task: asyncio.Task[None]) -> None:
        self._chains.pop(task, None)

    async def _drain(self) -> None:
        """Take nothing new, let chains end, then give up on those that take too long."""
        self._set_status("draining")
        await self._intake.stop()
        for chain in self._chains.values():
            if chain is not None:
                chain.stop_keeping()
        if self._chains:
            grace = 0.0 if self._is_name_lost else self.services.timeouts.drain
            _, late = await asyncio.wait(set(self._chains), timeout=grace)
            for task in [each for each in self._chains if each in late]:
                task.cancel()
            if late:
                _log.warning("worker.drain_timed_out", worker_id=self.services.name, chains=len(late))
                await asyncio.wait(late, timeout=self.services.timeouts.cancel_grace + LAST_GRACE_SECONDS)

    async def _hand_over(self) -> None:
        """Give back what is left; what cannot be is found by those who miss this worker's heartbeat."""
        if self._is_name_lost:
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
        self._is_name_lost = True
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

    # --- one delivery

    async def _handle(self, slot: Slot) -> None:
        """Work one delivery off. This is the supervisor of a chain: nothing it raises ends the worker."""
        delivery = slot.delivery
        try:
            await self._dispatch(slot)
            self._done += 1
        except (Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:  # the supervisor
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                await delivery.release()
                raise
            self._errors += 1
            _log.warning(
                "delivery.failed", queue=delivery.queue, error=f"{type(error).__name__}: {error}",
                exc_info=not isinstance(error, FloxideError),
            )  # fmt: skip
            await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)
            await delivery.release()
        finally:
            await self._intake.give_back(slot)

    async def _dispatch(self, slot: Slot) -> None:
        delivery = slot.delivery
        self.services.figures.deliveries += 1
        self.services.figures.redeliveries += delivery.redelivered
        try:
            message = decode_message(delivery.body)
        except CodecError as error:
            await self._unreadable.refuse(delivery, error)
            return
        if isinstance(message, Probe):
            self.maintenance.probe_returned(message, delivery.queue)
            await delivery.acknowledge()
            return
        if message.store and self.services.store_id and message.store != self.services.store_id:
            await self._return_to_others(delivery, message)
        elif self.services.is_out_of_reach(message.run_id):
            await self._leave_to_probes(delivery, message)
        else:
            await self._work(slot, message)

    async def _return_to_others(self, delivery: Delivery, envelope: Envelope) -> None:
        """A message about another store: two applications share a broker and a namespace, but not their store."""
        self._errors += 1
        _log.error(
            "store.mismatch", run_id=envelope.run_id, queue=delivery.queue, store=self.services.store_id,
            message_store=envelope.store, cure="give all workers the same store, or each application a namespace",
        )  # fmt: skip
        await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)
        await delivery.release()

    async def _leave_to_probes(self, delivery: Delivery, envelope: Envelope) -> None:
        """A message about a run whose server is down, while the store's others are up: it must not be in their way.

        The message is a hint. What it leads to has its entry on that server, and is found lost once a probe goes
        through again.
        """
        shard = self.services.session.beside(envelope.run_id).shard
        self.services.figures.left_to_probes[shard] += 1
        _log.debug("message.left_to_probes", run_id=envelope.run_id, queue=delivery.queue, shard=shard)
        await delivery.acknowledge()

    async def _work(self, slot: Slot, envelope: Envelope) -> None:
        keep: frozenset[str] = frozenset() if self._stopping.is_set() else frozenset(self.queues)
        on_long = functools.partial(self._intake.note_long, slot)
        chain = Chain(self.services, self._admissions, slot.delivery, envelope, keep, on_long)
        task = asyncio.current_task()
        if task in self._chains:
            self._chains[task] = chain
        async with self.services.solitude.at_work():
            try:
                await chain.run()
            except MissingKeyError as error:
                await self._unreadable.wait_for_key(slot.delivery, envelope, error)
            except UnreadableRecordError as error:
                await self._unreadable.stop_at(slot.delivery, envelope, error)


def _is_cancelled() -> bool:
    """Whether somebody cancelled this task, rather than user code raising what says so."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_probe(body: bytes) -> bool:
    """Whether a message is the engine's own and no work."""
    try:
        return isinstance(decode_message(body), Probe)
    except CodecError:
        return False
