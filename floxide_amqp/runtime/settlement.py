"""What becomes of a step whose body has ended: it is committed and followed, decided again, or discarded."""

from __future__ import annotations

from floxide_amqp.core.attribute_moves import with_set
from floxide_amqp.core.decide import decide
from floxide_amqp.core.decisions import Decision, MessageAnchor, Step, make_step
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.moment_moves import telling_of_hold
from floxide_amqp.core.outcomes import Failed, Held
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.timers import TimerKind
from floxide_amqp.exceptions import CodecError, InvalidBatchError
from floxide_amqp.ports.key_value import CheckLength, Committed
from floxide_amqp.runtime import step_notes
from floxide_amqp.runtime.admission import Admissions, Admitted, make_admitted
from floxide_amqp.runtime.anchorage import Anchorage
from floxide_amqp.runtime.collected import collected_failure
from floxide_amqp.runtime.effects import effects_of
from floxide_amqp.runtime.execution import Interrupted
from floxide_amqp.runtime.letting_go import let_go_of
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.steps import Performed, policy_of
from floxide_amqp.stores import keys
from floxide_amqp.stores.signal_writes import is_about_mail


class Again:
    """The context or the mailbox changed since the body saw it: run it again."""

    __slots__ = ("admitted",)

    def __init__(self, admitted: Admitted) -> None:
        self.admitted = admitted


class Settlement:
    """Settles the steps of one chain.

    Args:
        services: The process's parts.
        admissions: Finds the frontier after a lost reply.
        anchorage: What holds the chain.
    """

    def __init__(self, services: Services, admissions: Admissions, anchorage: Anchorage) -> None:
        self._services = services
        self._admissions = admissions
        self._anchorage = anchorage

    async def settle(
        self, admitted: Admitted, performed: Performed | Interrupted, keep: frozenset[str]
    ) -> Admitted | Again | None:
        """Commit what a step came to; after a conflict look again, decide again, or drop it.

        Args:
            admitted: The step.
            performed: What it came to.
            keep: The task queues whose items the chain may go on with now.

        Returns:
            The item the chain goes on with, if there is one; `Again` where the body must see the context as it is now.
        """
        if isinstance(performed, Interrupted):
            await self._discard(admitted)
            return None
        while True:
            step = self._step_of(admitted, performed, keep)
            decision = decide(step, performed.outcome)
            if isinstance(performed.outcome, Held):
                decision = telling_of_hold(decision, step, performed.outcome)
            kept = decision.may_keep
            kept_id = None if kept is None else kept.item_id
            with self._services.inflight.reserved(admitted.run.header.run_id, kept_id):
                try:
                    if performed.attributes and not isinstance(performed.outcome, Failed):
                        decision = await self._with_attributes(admitted, performed, decision)
                    outcome = await self._services.commit(admitted.run.writer, decision)
                except (CodecError, InvalidBatchError) as error:  # no store can take it, now or later
                    if isinstance(performed.outcome, Failed):
                        raise
                    performed = replace(performed, outcome=_refused(admitted, error))
                    continue
                if isinstance(outcome, Committed) and (outcome.counters or not decision.is_open):
                    return await self._follow(admitted, performed, decision, outcome)
            if isinstance(outcome, Committed):
                return await self._find_frontier(admitted)
            if isinstance(outcome.check, CheckLength) or is_about_mail(outcome.check):
                return Again(replace(admitted, unread=None))
            if outcome.check.key == keys.attributes(admitted.run.header.run_id):
                continue  # another step set some meanwhile: what this one set is added to those
            again = await self._anchorage.look_again(admitted, outcome.check)
            if again is None:
                step_notes.note_late(self._services, admitted, outcome.check)
                await self._discard(admitted, is_closed=outcome.check.key.name.startswith(keys.SCOPE_PREFIX))
                return None
            admitted = again

    async def _with_attributes(self, admitted: Admitted, performed: Performed, decision: Decision) -> Decision:
        """Add what the body set of the run's attributes, on top of what they are now."""
        now = await self._services.runs.attributes(admitted.run.header.run_id)
        return with_set(decision, now.values, now.version, performed.attributes)

    def _step_of(self, admitted: Admitted, performed: Performed, keep: frozenset[str]) -> Step:
        services, run = self._services, admitted.run
        node = run.graph.nodes[admitted.item.node]
        return make_step(
            run.graph, run.header, admitted.state, admitted.epoch, admitted.item,
            turn=admitted.turn, scope=admitted.scope, anchor=self._anchorage.anchor, worker=services.name,
            now_ms=services.now_ms(run.header.run_id), retry=policy_of(services, node),
            context_length=performed.position, is_isolated=node.options.isolated and run.has_context, keep=keep,
            jitter=services.random.random(), duration_us=performed.duration_us,
            keep_input=services.retention.keep_inputs,
            mailbox=0 if performed.mail is None else performed.mail.version,
            taken=() if performed.mail is None else tuple(performed.mail.taken),
            letters=() if performed.mail is None else tuple(performed.mail.sent),
        )  # fmt: skip

    async def _discard(self, admitted: Admitted, *, is_closed: bool = False) -> None:
        """The step's result is void.

        With `is_closed`, because a scope around it was closed: the item that stands for what is left there cancels it.

        Where the run is over, what led to the item is forgotten. Else somebody else changed the item, or the step was
        interrupted in vain: the message goes back, and its next delivery finds out what is left to do.
        """
        step_notes.note_discarded(self._services, admitted)
        run_id, item = admitted.run.header.run_id, admitted.item
        if item.begun:
            is_closed = await let_go_of(self._services, run_id, item.item_id)
        if is_closed:
            await self._anchorage.forget(item.item_id)
            return
        stored = await self._services.runs.find(run_id)
        if stored is None or not stored.state.is_over_for(item):
            self._anchorage.must_release = True
            return
        self._services.cache.forget(run_id)
        await self._anchorage.forget(item.item_id)

    # --- after the commit

    async def _follow(
        self, admitted: Admitted, performed: Performed, decision: Decision, committed: Committed
    ) -> Admitted | None:
        run, delta = admitted.run, performed.delta
        effects = effects_of(run.header.run_id, decision, committed)
        step_notes.note_committed(self._services, admitted, performed, effects)
        if delta is not None:
            run.advance(committed.positions.get(keys.context_log(run.header.run_id)), delta)
        if effects.timer is not None:
            self._services.on_timer(effects.timer)
            if effects.timer.kind is TimerKind.UNDO and decision.epoch_after != admitted.epoch:
                await self._services.broadcast(ControlKind.STOP, run.header.run_id)
        if effects.cancelled:
            await self._services.stop_items(run.header.run_id, effects.cancelled)
        if effects.publish:
            await publish(self._services, run.header, effects.publish, position=run.position if run.has_context else 0)
        if effects.finished is not None:
            self._services.cache.forget(run.header.run_id)
            await self._services.announce_end(run.header, effects.finished)
        elif delta is not None:
            await run.save(self._services.contexts)
        if effects.keep is None:
            return None
        if delta is not None or effects is not decision.effects:  # a join sees what all its causes wrote
            await run.refresh(self._services.contexts)
        state = admitted.state
        if decision.epoch_after != admitted.epoch:
            state = replace(state, status=RunStatus.RUNNING)
        scope = await self._admissions.scope_of(run, effects.keep) if effects.keep.scope else None
        return make_admitted(run=run, state=state, epoch=decision.epoch_after, item=effects.keep, turn=1, scope=scope)

    async def _find_frontier(self, admitted: Admitted) -> Admitted | None:
        """After a commit whose reply was lost: whether it closed its scope is found by walking from the item."""
        item, header, anchor = admitted.item, admitted.run.header, self._anchorage.anchor
        message = anchor if isinstance(anchor, MessageAnchor) else MessageAnchor(item.queue, "")
        envelope = Envelope(
            run_id=header.run_id, item_id=item.item_id, node=item.node, workflow=header.workflow,
            version=header.version, queue=message.queue, turn=admitted.turn, scope=item.scope, entry=message.entry,
        )  # fmt: skip
        admission = await self._admissions.admit(envelope, redelivered=True)
        if isinstance(admission, Admitted):
            return admission
        if admission.forget:
            await self._anchorage.forget_message(message)
        return None


def _refused(admitted: Admitted, error: Exception) -> Failed:
    """What no store can take has failed for good."""
    described = describe_error(error)
    node = admitted.run.graph.nodes[admitted.item.node]
    return Failed(described, is_final=True, collected=collected_failure(admitted, node, described))
