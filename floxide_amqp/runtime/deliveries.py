"""Deliveries: each is told apart, worked off as a chain or handed to whoever knows what to do with it, and settled."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.message_records import Envelope, Probe
from floxide_amqp.exceptions import CodecError, FloxideError, MissingKeyError, UndecodableError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.admission import Admissions
from floxide_amqp.runtime.chain import Chain
from floxide_amqp.runtime.intake import Intake, Slot
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.unreadable import Unreadable
from floxide_amqp.stores.record_codec import decode_message

_log = get_logger("floxide_amqp.worker")

PAUSE_AFTER_ERROR_SECONDS = 1.0
"""Pause before a delivery that met an engine or store error is given back, so that it does not spin."""

LAST_GRACE_SECONDS = 5.0
"""Time chains that were broken off get to settle, beyond what their nodes get to clean up."""


class Deliveries:
    """The deliveries in one worker's hands.

    Args:
        services: The process's parts.
        intake: Where they come from, and their slots go back to.
        admissions: Tells what a message leads to.
        probe_returned: Told of each probe and of the task queue it came from.
        queues: Task queues of which a chain may keep its successors.
        is_known_beside: Whether the server that has a run knows that this worker lives.

    Attributes:
        done: Deliveries that were worked off.
        errors: Deliveries that failed by the engine or the store, and messages of other stores.
    """

    def __init__(
        self,
        services: Services,
        intake: Intake,
        admissions: Admissions,
        probe_returned: Callable[[Probe, str], None],
        queues: Sequence[str],
        is_known_beside: Callable[[RunId], bool],
    ) -> None:
        self._services = services
        self._intake = intake
        self._admissions = admissions
        self._probe_returned = probe_returned
        self._keep = frozenset(queues)
        self._is_known_beside = is_known_beside
        self._unreadable = Unreadable(services)
        self._chains: dict[asyncio.Task[None], Chain | None] = {}
        self.done = 0
        self.errors = 0

    def begin(self, slot: Slot) -> None:
        """Work a delivery off beside the others."""
        task = asyncio.create_task(self.handle(slot), name="floxide.worker.chain")
        self._chains[task] = None
        task.add_done_callback(self._chain_ended)

    def keep_nothing(self) -> None:
        """Let chains that begin from now on keep no successors."""
        self._keep = frozenset[str]()

    async def drain(self, grace_seconds: float) -> None:
        """Let chains end, keeping nothing more, then give up on those that take too long."""
        for chain in self._chains.values():
            if chain is not None:
                chain.stop_keeping()
        if not self._chains:
            return
        _, late = await asyncio.wait(set(self._chains), timeout=grace_seconds)
        for task in [each for each in self._chains if each in late]:
            task.cancel()
        if late:
            _log.warning("worker.drain_timed_out", worker_id=self._services.name, chains=len(late))
            await asyncio.wait(late, timeout=self._services.timeouts.cancel_grace + LAST_GRACE_SECONDS)

    def _chain_ended(self, task: asyncio.Task[None]) -> None:
        self._chains.pop(task, None)

    async def handle(self, slot: Slot) -> None:
        """Work one delivery off. This is the supervisor of a chain: nothing it raises ends the worker."""
        delivery = slot.delivery
        try:
            await self._dispatch(slot)
            self.done += 1
        except (Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:  # the supervisor
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                await delivery.release()
                raise
            self.errors += 1
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
        self._services.figures.deliveries += 1
        self._services.figures.redeliveries += delivery.redelivered
        try:
            message = decode_message(delivery.body)
        except CodecError as error:
            await self._unreadable.refuse(delivery, error)
            return
        if isinstance(message, Probe):
            self._probe_returned(message, delivery.queue)
            await delivery.acknowledge()
            return
        if message.store and self._services.store_id and message.store != self._services.store_id:
            await self._return_to_others(delivery, message)
        elif self._services.is_out_of_reach(message.run_id) or not self._is_known_beside(message.run_id):
            await self._leave_to_probes(delivery, message)
        else:
            await self._work(slot, message)

    async def _return_to_others(self, delivery: Delivery, envelope: Envelope) -> None:
        """A message about another store: two applications share a broker and a namespace, but not their store."""
        self.errors += 1
        _log.error(
            "store.mismatch", run_id=envelope.run_id, queue=delivery.queue, store=self._services.store_id,
            message_store=envelope.store, cure="give all workers the same store, or each application a namespace",
        )  # fmt: skip
        await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)
        await delivery.release()

    async def _leave_to_probes(self, delivery: Delivery, envelope: Envelope) -> None:
        """A message about a run whose server is down, while the store's others are up: it must not be in their way.

        Or its server is back, and this worker's heartbeat is not on it yet: what it began would count as a dead one's.

        The message is a hint. What it leads to has its entry on that server, and is found lost once a probe goes
        through again.
        """
        shard = self._services.session.beside(envelope.run_id).shard
        self._services.figures.left_to_probes[shard] += 1
        _log.debug("message.left_to_probes", run_id=envelope.run_id, queue=delivery.queue, shard=shard)
        await delivery.acknowledge()

    async def _work(self, slot: Slot, envelope: Envelope) -> None:
        on_long = functools.partial(self._intake.note_long, slot)
        chain = Chain(self._services, self._admissions, slot.delivery, envelope, self._keep, on_long)
        task = asyncio.current_task()
        if task in self._chains:
            self._chains[task] = chain
        async with self._services.solitude.at_work():
            try:
                await chain.run()
            except MissingKeyError as error:
                await self._unreadable.wait_for_key(slot.delivery, envelope, error)
            except UnreadableRecordError as error:
                await self._unreadable.stop_at(slot.delivery, envelope, error)
            except UndecodableError as error:
                await self._unreadable.set_aside(slot.delivery, envelope, error)


def _is_cancelled() -> bool:
    """Whether somebody cancelled this task, rather than user code raising what says so."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_probe(body: bytes) -> bool:
    """Whether a message is the engine's own and no work."""
    try:
        return isinstance(decode_message(body), Probe)
    except CodecError:
        return False
