"""The worker: takes deliveries, works each off as a chain, and keeps up its sign of life and its maintenance.

It owns nothing but the tasks: what it takes in is `Intake`'s, what a step does `Chain`'s, what is due `Maintenance`'s.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import Envelope, Probe, Quarantined
from floxide_amqp.exceptions import CodecError, FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.admission import Admissions
from floxide_amqp.runtime.chain import Chain
from floxide_amqp.runtime.deaths import DeathWatch
from floxide_amqp.runtime.heartbeat import Vitals
from floxide_amqp.runtime.intake import Intake, Slot
from floxide_amqp.runtime.maintenance import Maintenance
from floxide_amqp.runtime.messages import ControlKind, decode_control
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.timers import TimerQueue
from floxide_amqp.stores.record_codec import decode_message

_log = get_logger("floxide_amqp.worker")

SHOWN_ITEMS = 20
"""Items in hand that a heartbeat names."""

PAUSE_AFTER_ERROR_SECONDS = 1.0
"""Pause before a delivery that met an engine or store error is given back, so that it does not spin."""

INTERRUPTING = (ControlKind.CANCEL, ControlKind.STOP)


class Beating(Protocol):
    """A sign of life: a thread on a shared store, a task where no other process can look."""

    vitals: Vitals
    succeeded: int

    async def start(self) -> None:
        """Return once the first beat is in the store."""
        ...

    async def stop(self) -> None:
        """Say goodbye."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """How a worker is.

    Attributes:
        status: ``starting``, ``running``, ``draining`` or ``stopped``.
        current_items: ``run/item`` of the steps at work, up to `SHOWN_ITEMS`.
        in_flight: How many steps are at work.
        items_done: Deliveries worked off since the start.
        error_count: Deliveries that met an error of the engine, the store or the broker.
    """

    status: str
    current_items: tuple[str, ...]
    in_flight: int
    items_done: int
    error_count: int


class Worker:
    """A long-running consumer of task queues.

    Args:
        services: The process's parts.
        heartbeat: Its sign of life.
        queues: Task queues to serve.
    """

    def __init__(self, services: Services, heartbeat: Beating, queues: tuple[str, ...]) -> None:
        self.services = services
        self.queues = queues
        self._heartbeat = heartbeat
        self._deaths = DeathWatch(services.session, services.timeouts.dead_after, lambda: heartbeat.succeeded)
        self._admissions = Admissions(services, self._deaths)
        self.maintenance = Maintenance(services, self._deaths, queues)
        self._timers = TimerQueue(services)
        self._intake = Intake(services.queue, queues, services.limits.concurrency)
        self._chains: dict[asyncio.Task[None], Chain | None] = {}
        self._stopping = asyncio.Event()
        self._status = "starting"
        self._done = 0
        self._errors = 0
        services.on_timer = self._timers.add

    # --- what users call

    async def run_forever(self) -> None:
        """Work until `stop` is called, then drain; raises what the broker says cannot heal."""
        async with self._running(background=True):
            loop = asyncio.create_task(self._consume(), name="floxide.worker.consume")
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
        inflight = self.services.inflight
        shown = tuple(f"{step.run_id}/{step.item_id}" for step, _ in zip(inflight, range(SHOWN_ITEMS), strict=False))
        return WorkerHealth(
            status=self._status, current_items=shown, in_flight=len(inflight), items_done=self._done,
            error_count=self._errors,
        )  # fmt: skip

    # --- life

    @asynccontextmanager
    async def _running(self, *, background: bool) -> AsyncGenerator[None]:
        services = self.services
        async with AsyncExitStack() as stack:
            services.resources.check(services.registry.required_resources())
            await self._heartbeat.start()
            stack.push_async_callback(self._heartbeat.stop)
            stack.callback(self._set_status, "stopped")
            stack.push_async_callback(self._intake.close)
            await self._intake.open()
            self._set_status("running")  # not before its queues exist: whoever waits for this may start runs
            if background:
                messages = await stack.enter_async_context(services.bus.listen(services.name))
                await stack.enter_async_context(_in_background(self._listen(messages), "control"))
                await stack.enter_async_context(_in_background(self.maintenance.run(), "maintenance"))
                await stack.enter_async_context(_in_background(self._timers.run(), "timers"))
                await stack.enter_async_context(_in_background(self._show(), "vitals"))
            _log.info("worker.started", worker_id=services.name, queues=self.queues)
            yield
        _log.info("worker.stopped", worker_id=services.name, items_done=self._done)

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
            _, late = await asyncio.wait(set(self._chains), timeout=self.services.timeouts.drain)
            for task in late:
                task.cancel()
            if late:
                _log.warning("worker.drain_timed_out", worker_id=self.services.name, chains=len(late))
                await asyncio.wait(late)

    async def _hand_over(self) -> None:
        """Give back what is left; what cannot be is found by those who miss this worker's heartbeat."""
        try:
            await self.maintenance.hand_over()
        except FloxideError as error:
            _log.warning("worker.hand_over_failed", worker_id=self.services.name, error=str(error))

    async def _show(self) -> None:
        """Keep what the heartbeat says of this worker up to date."""
        while True:
            health = self.health()
            self._heartbeat.vitals = Vitals(
                status=health.status, current_items=health.current_items, items_done=health.items_done,
                errors=health.error_count,
            )  # fmt: skip
            await asyncio.sleep(self.services.timeouts.heartbeat / 2)
            await self._check_long_steps()

    def _set_status(self, status: str) -> None:
        self._status = status

    # --- one delivery

    async def _handle(self, slot: Slot) -> None:
        """Work one delivery off. This is the supervisor of a chain: nothing it raises ends the worker."""
        delivery = slot.delivery
        try:
            await self._dispatch(slot)
            self._done += 1
        except asyncio.CancelledError:
            await delivery.release()
            raise
        except Exception as error:  # noqa: BLE001 - the supervisor: log, give the message back, go on
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
        try:
            message = decode_message(delivery.body)
        except CodecError as error:
            await self._quarantine(delivery, str(error))
            return
        if isinstance(message, Probe):
            self.maintenance.probe_returned(message)
            await delivery.acknowledge()
            return
        if message.store and self.services.store_id and message.store != self.services.store_id:
            await self._return_to_others(delivery, message)
            return
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

    async def _work(self, slot: Slot, envelope: Envelope) -> None:
        keep: frozenset[str] = frozenset() if self._stopping.is_set() else frozenset(self.queues)
        on_long = functools.partial(self._intake.note_long, slot)
        chain = Chain(self.services, self._admissions, slot.delivery, envelope, keep, on_long)
        task = asyncio.current_task()
        if task in self._chains:
            self._chains[task] = chain
        async with self.services.solitude.at_work():
            await chain.run()

    async def _quarantine(self, delivery: Delivery, reason: str) -> None:
        """Keep an unreadable message with its reason, and only then take it off the queue."""
        now = self.services.now_ms()
        digest = hashlib.blake2b(delivery.body, digest_size=8).hexdigest()
        quarantined = Quarantined(
            quarantine_id=f"{now:014d}-{digest}", queue=delivery.queue, reason=reason, body=delivery.body, at_ms=now
        )
        await self.services.quarantine.add(quarantined)
        _log.error("message.quarantined", quarantine_id=quarantined.quarantine_id, queue=delivery.queue, reason=reason)
        await delivery.acknowledge()

    # --- control

    async def _listen(self, messages: AsyncIterator[bytes]) -> None:
        async for body in messages:
            if body == b"":
                await self._check_runs_in_flight()
                continue
            try:
                message = decode_control(body)
            except CodecError as error:
                _log.warning("control.unreadable", error=str(error))
                continue
            if message.kind in INTERRUPTING:
                await self._check_runs_in_flight(message.runs)
            elif message.kind is ControlKind.DRAIN:
                self.stop()

    async def _check_runs_in_flight(self, run_ids: Sequence[RunId] | None = None) -> None:
        """Interrupt the steps of those runs (by default all at work here) that are over: the store is asked.

        A control message is a hint that may come late, when its run was resumed long since.
        """
        at_work = self.services.inflight.runs()
        try:
            await self._interrupt_if_over(at_work if run_ids is None else set(at_work).intersection(run_ids))
        except FloxideError as error:  # the store is out of reach: long steps are asked about at each beat
            _log.warning("worker.check_failed", error=str(error))

    async def _check_long_steps(self) -> None:
        """A lost cancel is learnt at the latest here: ask the store about runs whose steps take long."""
        before = asyncio.get_running_loop().time() - self.services.timeouts.heartbeat
        try:
            await self._interrupt_if_over({step.run_id for step in self.services.inflight if step.since < before})
        except FloxideError as error:  # the store is out of reach: asked again at the next beat
            _log.warning("worker.check_failed", error=str(error))

    async def _interrupt_if_over(self, run_ids: Iterable[RunId]) -> None:
        for run_id in run_ids:
            run = await self.services.runs.find(run_id)
            if run is not None and run.state.status.is_terminal:
                self.services.inflight.interrupt(run_id)


def _is_probe(body: bytes) -> bool:
    """Whether a message is the engine's own and no work."""
    try:
        return isinstance(decode_message(body), Probe)
    except CodecError:
        return False


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None], name: str) -> AsyncGenerator[None]:
    """Run something beside the block, and end it with the block."""
    task = asyncio.create_task(work, name=f"floxide.worker.{name}")
    task.add_done_callback(_report_end)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _report_end(task: asyncio.Task[None]) -> None:
    """A part that runs beside the work should never end by itself: say so loudly if it does."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("worker.part_failed", part=task.get_name(), exc_info=task.exception())
