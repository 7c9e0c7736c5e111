"""One delivery, from message to acknowledgement, along as many steps as the worker goes on with.

A chain runs a step, commits it, publishes what the step put pending, and goes on with the successor it kept, under
the same unacknowledged message. What holds the chain is its *anchor*: the message, or, once a step has run for long,
an owner entry in the store, after which the message is acknowledged early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.limit_moves import runs_limited
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.admission import Admissions, Admitted, Dismissed
from floxide_amqp.runtime.anchorage import Anchorage
from floxide_amqp.runtime.execution import Interrupted
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.limits import Keys
from floxide_amqp.runtime.long_steps import LongSteps
from floxide_amqp.runtime.pace import NotYet
from floxide_amqp.runtime.pacing import Pacing
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settlement import Again, Settlement

_log = get_logger("floxide_amqp.chain")

NO_QUEUES: frozenset[str] = frozenset()
"""Of a worker that goes on with nothing."""

PAUSE_WHEN_CONTENDED_SECONDS = 0.5
"""Pause before a message goes back because somebody else is at its item all the time, so that it does not spin."""

SERIAL_AFTER = 3
"""Conflicts over the context after which a run's isolated steps go one at a time in this worker."""

LONGEST_STEP_BACK_SECONDS = 2.0
"""Longest pause before an isolated step runs again because workers elsewhere changed the context meanwhile."""


class Chain:
    """Works one delivery off.

    Args:
        services: The process's parts.
        admissions: Admits the message.
        delivery: The message, unacknowledged.
        envelope: What it says.
        keep: Task queues whose items this worker may go on with; asked again after each step.
        on_long: Told when the message was acknowledged early, so that the slot stays taken without it.
    """

    def __init__(
        self,
        services: Services,
        admissions: Admissions,
        delivery: Delivery,
        envelope: Envelope,
        keep: frozenset[str],
        on_long: Callable[[], Awaitable[None]],
    ) -> None:
        self._services = services
        self._admissions = admissions
        self._delivery = delivery
        self._envelope = envelope
        self._keep = keep
        self._anchorage = Anchorage(services, delivery, envelope, on_long)
        self._long_steps = LongSteps(services, self._anchorage)
        self._keys = Keys(services)
        self._pacing = Pacing(services)
        self._settlement = Settlement(services, admissions, self._anchorage)
        self._steps = 0
        self._until = asyncio.get_running_loop().time() + services.timeouts.chain

    def stop_keeping(self) -> None:
        """Publish the next successor instead of going on with it: the worker drains."""
        self._keep = NO_QUEUES

    async def run(self) -> None:
        """Work the delivery off, then acknowledge it; on an error of the store or the engine it is given back."""
        admission = await self._admissions.admit(self._envelope, redelivered=self._delivery.redelivered)
        if isinstance(admission, Dismissed):
            await self._dismiss(admission)
            return
        current: Admitted | None = admission
        try:
            while current is not None:
                current = await self._step(current)
        finally:
            self._long_steps.end()
        await self._anchorage.end()

    async def _dismiss(self, dismissed: Dismissed) -> None:
        envelope = self._envelope
        _log.debug("delivery.dismissed", run_id=envelope.run_id, item_id=envelope.item_id, reason=dismissed.reason)
        self._services.figures.dismissed += 1
        if dismissed.reason == "contended":
            await asyncio.sleep(PAUSE_WHEN_CONTENDED_SECONDS)
            await self._delivery.release()
            return
        if dismissed.forget:
            await self._anchorage.forget_message(MessageAnchor(envelope.queue, envelope.entry))
        await self._anchorage.acknowledge()

    # --- one step

    async def _step(self, admitted: Admitted) -> Admitted | None:
        """Run and commit one step; return the next item of the chain, if there is one."""
        run, item = admitted.run, admitted.item
        self._anchorage.anchor = admitted.anchor or self._anchorage.anchor
        self._steps += 1
        handle = StepHandle(run.header.run_id, item.item_id, item.node, attempt=item.attempt, lost=item.lost)
        inflight = self._services.inflight
        inflight.add(handle)
        try:
            if item.ticket and admitted.verdict is None:
                taken = await self._keys.take(admitted, self._anchorage)
                if taken is None:
                    return None
                admitted = taken
            if run.graph.has_rates and admitted.verdict is None and runs_limited(item):
                paced = await self._pacing.enter(admitted, self._anchorage, handle)
                if paced is None:
                    return None
                admitted = paced
            return await self._until_committed(admitted, handle)
        finally:
            inflight.remove(handle)
            if admitted.is_suspect:
                self._services.solitude.let_go(run.header.run_id, item.item_id)

    async def _until_committed(self, admitted: Admitted, handle: StepHandle) -> Admitted | None:
        conflicts = 0
        while True:
            if conflicts >= SERIAL_AFTER:
                async with admitted.run.serial:
                    await admitted.run.refresh(self._services.contexts)
                    settled = await self._perform_and_settle(admitted, handle)
            else:
                settled = await self._perform_and_settle(admitted, handle)
            if not isinstance(settled, Again):
                return settled
            conflicts += 1
            await self._step_back(conflicts)
            admitted = settled.admitted
            await admitted.run.refresh(self._services.contexts)

    async def _perform_and_settle(self, admitted: Admitted, handle: StepHandle) -> Admitted | Again | None:
        admitted, performed = await self._long_steps.perform(admitted, handle)
        if isinstance(performed, NotYet):
            if await self._pacing.put_off(admitted, self._anchorage, performed):
                return None
            performed = Interrupted()
        return await self._settlement.settle(admitted, performed, self._queues_to_keep())

    async def _step_back(self, conflicts: int) -> None:
        """Other workers change the context all the time: wait longer and longer, so that one of them gets through."""
        if conflicts > SERIAL_AFTER:
            longest = min(LONGEST_STEP_BACK_SECONDS, 0.01 * 2 ** (conflicts - SERIAL_AFTER))
            await asyncio.sleep(self._services.random.uniform(0, longest))

    def _queues_to_keep(self) -> frozenset[str]:
        may_keep = self._steps < self._services.limits.chain_steps
        return self._keep if may_keep and asyncio.get_running_loop().time() < self._until else NO_QUEUES
