"""One delivery, from message to acknowledgement, along as many steps as the worker goes on with.

A chain runs a step, commits it, publishes what the step put pending, and goes on with the successor it kept, under
the same unacknowledged message. What holds the chain is its *anchor*: the message, or, once a step has run for long,
an owner entry in the store, after which the message is acknowledged early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from floxide_amqp.core import moves
from floxide_amqp.core.changes import Change, LeaveMessage, LeaveOwner
from floxide_amqp.core.decide import decide
from floxide_amqp.core.decisions import RUN_ITSELF, Anchor, Decision, Effects, Failed, MessageAnchor, OwnerAnchor, Step
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import Envelope
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import CodecError, InvalidBatchError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Check, CheckLength, Committed, Conflict
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.admission import Admissions, Admitted, Dismissed
from floxide_amqp.runtime.execution import Interrupted
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.steps import Performance, Performed, perform, policy_of
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import WAITED_FOR
from floxide_amqp.stores.writes import BatchWriter

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
        self._on_long = on_long
        self._anchor: Anchor = MessageAnchor(envelope.queue, envelope.entry)
        self._steps = 0
        self._until = asyncio.get_running_loop().time() + services.timeouts.chain
        self._is_acknowledged = False
        self._must_release = False

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
        while current is not None:
            current = await self._step(current)
        if self._must_release and not self._is_acknowledged:
            await self._delivery.release()
        else:
            await self._acknowledge()

    async def _dismiss(self, dismissed: Dismissed) -> None:
        envelope = self._envelope
        _log.debug("delivery.dismissed", run_id=envelope.run_id, item_id=envelope.item_id, reason=dismissed.reason)
        self._services.figures.dismissed += 1
        if dismissed.reason == "contended":
            await asyncio.sleep(PAUSE_WHEN_CONTENDED_SECONDS)
            await self._delivery.release()
            return
        if dismissed.forget and envelope.entry:
            await self._forget((LeaveMessage(envelope.queue, envelope.entry),))
        await self._acknowledge()

    async def _forget(self, changes: tuple[Change, ...]) -> None:
        writer = BatchWriter(self._envelope.run_id, 0)
        await self._services.session.commit(writer.batch((), changes))

    async def _acknowledge(self) -> None:
        if not self._is_acknowledged:
            self._is_acknowledged = True
            await self._delivery.acknowledge()

    # --- one step

    async def _step(self, admitted: Admitted) -> Admitted | None:
        """Run and commit one step; return the next item of the chain, if there is one."""
        run, item = admitted.run, admitted.item
        self._anchor = admitted.anchor or self._anchor
        self._steps += 1
        handle = StepHandle(run.header.run_id, item.item_id, item.node, attempt=item.attempt, lost=item.lost)
        inflight = self._services.inflight
        inflight.add(handle)
        try:
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
                    admitted, performed = await self._perform(admitted, handle)
                    settled = await self._settle(admitted, performed)
            else:
                admitted, performed = await self._perform(admitted, handle)
                settled = await self._settle(admitted, performed)
            if not isinstance(settled, _Again):
                return settled
            conflicts += 1
            await self._step_back(conflicts)
            admitted = settled.admitted
            await admitted.run.refresh(self._services.contexts)

    async def _step_back(self, conflicts: int) -> None:
        """Other workers change the context all the time: wait longer and longer, so that one of them gets through."""
        if conflicts > SERIAL_AFTER:
            longest = min(LONGEST_STEP_BACK_SECONDS, 0.01 * 2 ** (conflicts - SERIAL_AFTER))
            await asyncio.sleep(self._services.random.uniform(0, longest))

    async def _perform(self, admitted: Admitted, handle: StepHandle) -> tuple[Admitted, Performance]:
        """Run the body; if it takes long, anchor the chain in the store meanwhile and acknowledge early."""
        keeps_others_waiting = admitted.is_suspect and not admitted.item.spared
        if isinstance(self._anchor, OwnerAnchor) and not keeps_others_waiting:
            return admitted, await perform(self._services, admitted, handle)
        body = asyncio.ensure_future(perform(self._services, admitted, handle))
        try:
            done, _ = await asyncio.wait({body}, timeout=self._services.timeouts.early_acknowledge)
            if not done:
                admitted = await self._move_to_store(admitted)
                if admitted.is_suspect:
                    admitted = await self._have_company(admitted, body)
            return admitted, await body
        except BaseException:
            body.cancel()
            await asyncio.wait({body})
            raise

    async def _have_company(self, admitted: Admitted, body: asyncio.Future[Performance]) -> Admitted:
        """A suspected item has run alone for long: let others begin, once its owner's death is not counted any more."""
        while not admitted.item.spared:
            done, _ = await asyncio.wait({body}, timeout=self._services.timeouts.company)
            if done:
                return admitted
            try:
                admitted = await self._ask_for_company(admitted)
            except WAITED_FOR as error:  # it stays alone for now
                _log.warning("step.stays_alone", run_id=admitted.run.header.run_id, error=str(error))
        return admitted

    async def _ask_for_company(self, admitted: Admitted) -> Admitted:
        decision = moves.have_company(admitted.item, admitted.turn)
        outcome = await self._services.commit(admitted.run.writer, decision)
        if isinstance(outcome, Committed):
            self._services.solitude.have_company()
            return replace(admitted, item=decision.effects.keep or admitted.item, turn=admitted.turn + 1)
        again = await self._look_again(admitted, outcome.check) if isinstance(outcome.check, Check) else None
        if again is not None:
            return again
        self._services.solitude.have_company()  # others have the item by now: what becomes of this body is void
        return replace(admitted, item=replace(admitted.item, spared=True))

    async def _move_to_store(self, admitted: Admitted) -> Admitted:
        message = self._anchor
        if not isinstance(message, MessageAnchor):
            return admitted
        decision = moves.anchor(admitted.item, admitted.turn, self._services.name, message)
        try:
            outcome = await self._services.commit(admitted.run.writer, decision)
        except WAITED_FOR as error:  # the message goes on holding the chain, as long as the broker lets it
            _log.warning("step.not_anchored", run_id=admitted.run.header.run_id, error=str(error))
            return admitted
        if isinstance(outcome, Conflict):
            again = await self._look_again(admitted, outcome.check) if isinstance(outcome.check, Check) else None
            if again is None or not again.item.anchored:
                return admitted  # whoever touched the item is met at the commit
            owned, turn = again.item, again.turn  # another copy of the message has done it
        else:
            self._anchor = OwnerAnchor()
            owned, turn = decision.effects.keep or admitted.item, admitted.turn + 1
        await self._acknowledge()
        await self._on_long()
        return replace(admitted, item=owned, turn=turn)

    async def _settle(self, admitted: Admitted, performed: Performance) -> Admitted | _Again | None:
        """Commit what a step came to; after a conflict look again, decide again, or drop it."""
        if isinstance(performed, Interrupted):
            await self._discard(admitted)
            return None
        while True:
            decision = decide(self._step_of(admitted, performed), performed.outcome)
            kept = decision.effects.keep or decision.closing_effects.keep
            kept_id = None if kept is None else kept.item_id
            with self._services.inflight.reserved(admitted.run.header.run_id, kept_id):
                try:
                    outcome = await self._services.commit(admitted.run.writer, decision)
                except (CodecError, InvalidBatchError) as error:  # no store can take it, now or later
                    if isinstance(performed.outcome, Failed):
                        raise
                    performed = replace(performed, outcome=Failed(describe_error(error), is_final=True))
                    continue
                if isinstance(outcome, Committed) and (decision.closing is None or outcome.counters):
                    return await self._follow(admitted, performed, decision, outcome)
            if isinstance(outcome, Committed):
                return await self._find_frontier(admitted)
            if isinstance(outcome.check, CheckLength):
                return _Again(admitted)
            again = await self._look_again(admitted, outcome.check)
            if again is None:
                self._note_late(admitted, outcome.check)
                await self._discard(admitted)
                return None
            admitted = again

    def _note_late(self, admitted: Admitted, check: Check) -> None:
        """A result came after others had been given the item: say whose it was."""
        item, run_id = admitted.item, admitted.run.header.run_id
        if check.key != keys.item(run_id, item.item_id):
            return
        self._services.figures.late_commits += 1
        _log.warning(
            "step.came_late", run_id=run_id, item_id=item.item_id, node=item.node, worker_id=self._services.name
        )

    def _step_of(self, admitted: Admitted, performed: Performed) -> Step:
        services, run = self._services, admitted.run
        node = run.graph.nodes[admitted.item.node]
        may_keep = self._steps < services.limits.chain_steps and asyncio.get_running_loop().time() < self._until
        return Step(
            graph=run.graph, header=run.header, run=admitted.state, epoch=admitted.epoch, item=admitted.item,
            turn=admitted.turn, scope=admitted.scope, anchor=self._anchor, worker=services.name,
            now_ms=services.now_ms(), retry=policy_of(services, node), context_length=performed.position,
            is_isolated=node.options.isolated and run.has_context, keep=self._keep if may_keep else NO_QUEUES,
            jitter=services.random.random(), duration_us=performed.duration_us,
        )  # fmt: skip

    async def _look_again(self, admitted: Admitted, check: Check) -> Admitted | None:
        """After a conflict: what the step stands on now, or None where its result is void."""
        services, run_id, item_id = self._services, admitted.run.header.run_id, admitted.item.item_id
        if check.key == keys.state(run_id):
            stored = await services.runs.find(run_id)
            if stored is None or stored.state.status.is_terminal:
                return None
            return replace(admitted, state=stored.state, epoch=stored.epoch)
        if check.key != keys.item(run_id, item_id):
            return None  # a scope around it was closed
        found = (await services.items.find(run_id, (item_id,)))[0]
        if found is None or found.turn == admitted.turn:
            return None
        if found.item.owner != services.name or found.item.status is not WorkItemStatus.IN_PROGRESS:
            return None
        if found.item.anchored:
            await self._let_message_go()
        return replace(admitted, item=found.item, turn=found.turn)

    async def _let_message_go(self) -> None:
        """Another copy of the message has put an owner entry in its place, which holds the chain from here on."""
        message, self._anchor = self._anchor, OwnerAnchor()
        if isinstance(message, MessageAnchor) and message.entry:
            await self._forget((LeaveMessage(message.queue, message.entry),))

    async def _discard(self, admitted: Admitted) -> None:
        """The step's result is void.

        Where the run is over, what led to the item is forgotten. Else somebody else changed the item, or the step was
        interrupted in vain: the message goes back, and its next delivery finds out what is left to do.
        """
        item, run = admitted.item, admitted.run
        _log.info("step.discarded", run_id=run.header.run_id, item_id=item.item_id, node=item.node)
        self._services.figures.node(run.header.workflow, item.node).discarded += 1
        stored = await self._services.runs.find(run.header.run_id)
        if stored is None or not stored.state.status.is_terminal:
            self._must_release = True
            return
        self._services.cache.forget(run.header.run_id)
        if isinstance(self._anchor, OwnerAnchor):
            await self._forget((LeaveOwner(self._services.name, item.item_id),))
        elif self._anchor.entry:
            await self._forget((LeaveMessage(self._anchor.queue, self._anchor.entry),))

    # --- after the commit

    async def _follow(
        self, admitted: Admitted, performed: Performed, decision: Decision, committed: Committed
    ) -> Admitted | None:
        run = admitted.run
        effects = effects_of(admitted.run.header.run_id, decision, committed)
        self._log_step(admitted, performed, effects)
        if performed.delta is not None:
            run.advance(committed.positions.get(keys.context_log(run.header.run_id)), performed.delta)
        if effects.timer is not None:
            self._services.on_timer(effects.timer)
        await publish(self._services, run.header, effects.publish, position=run.position if run.has_context else 0)
        if effects.finished is not None:
            self._services.cache.forget(run.header.run_id)
            await self._services.announce_end(run.header, effects.finished)
        if effects.keep is None:
            return None
        if performed.delta is not None or effects is not decision.effects:  # a join sees what all its causes wrote
            await run.refresh(self._services.contexts)
        state = admitted.state
        if decision.epoch_after != admitted.epoch:
            state = replace(state, status=RunStatus.RUNNING)
        return replace(
            admitted, state=state, epoch=decision.epoch_after, item=effects.keep, turn=1, verdict=None, anchor=None,
            is_suspect=False, scope=await self._admissions.scope_of(run, effects.keep),
        )  # fmt: skip

    async def _find_frontier(self, admitted: Admitted) -> Admitted | None:
        """After a commit whose reply was lost: whether it closed its scope is found by walking from the item."""
        item, header = admitted.item, admitted.run.header
        message = self._anchor if isinstance(self._anchor, MessageAnchor) else MessageAnchor(item.queue, "")
        envelope = Envelope(
            run_id=header.run_id, item_id=item.item_id, node=item.node, workflow=header.workflow,
            version=header.version, queue=message.queue, turn=admitted.turn, scope=item.scope, entry=message.entry,
        )  # fmt: skip
        admission = await self._admissions.admit(envelope, redelivered=True)
        if isinstance(admission, Admitted):
            return admission
        if admission.forget and message.entry:
            await self._forget((LeaveMessage(message.queue, message.entry),))
        return None

    def _log_step(self, admitted: Admitted, performed: Performed, effects: Effects) -> None:
        item = admitted.item
        facts = {"run_id": admitted.run.header.run_id, "item_id": item.item_id, "node": item.node}
        figures = self._services.figures.node(admitted.run.header.workflow, item.node)
        figures.durations.add(performed.duration_us / 1e6)
        if isinstance(performed.outcome, Failed):
            figures.failed += 1
            figures.retried += effects.timer is not None
            error = performed.outcome.error
            log = _log.warning if effects.finished is RunStatus.FAILED else _log.info
            log(
                "work_item.attempt_failed", attempt=item.attempt + 1, error_type=error.error_type,
                message=error.message, will_retry=effects.timer is not None, **facts,
            )  # fmt: skip
        else:
            figures.committed += 1
            _log.debug("work_item.committed", duration_us=performed.duration_us, **facts)
        if effects.finished is not None:
            _log.info("run.finished", run_id=facts["run_id"], status=effects.finished.value)


class _Again:
    """The context changed since the body saw it: run it again."""

    __slots__ = ("admitted",)

    def __init__(self, admitted: Admitted) -> None:
        self.admitted = admitted


def effects_of(run_id: RunId, decision: Decision, committed: Committed) -> Effects:
    """Return the effects of a commit: those of the closed scope, if this very commit brought it to zero."""
    if decision.closing is None:
        return decision.effects
    if committed.counters.get(keys.scope_count(run_id, decision.closing)) != 0:
        return decision.effects
    if decision.closing != RUN_ITSELF:
        return decision.closing_effects
    outputs = committed.counters.get(keys.count(run_id, "outputs"), 0)
    held = committed.counters.get(keys.count(run_id, "held"), 0)
    stalled = outputs == 0 and held > 0
    return replace(decision.closing_effects, finished=RunStatus.FAILED if stalled else RunStatus.COMPLETED)
