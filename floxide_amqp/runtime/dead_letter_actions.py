"""What somebody does about dead letters: look at them, put their items on their way again, or give the items up.

Messages that nobody could read are shown among them: to whoever looks after a deployment they are the same thing,
messages that lie there until somebody decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core import dead_letter_moves
from floxide_amqp.core.decide import decide
from floxide_amqp.core.decisions import Decision, MessageAnchor, Step
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.message_records import DeadLetter, Quarantined
from floxide_amqp.core.outcomes import Failed
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import (
    BrokerUnavailableError,
    DeadLetterError,
    DeadLetterIncompleteError,
    DeadLetterNotFoundError,
    InvalidRunStateError,
    UnknownWorkflowError,
    UnreadableRecordError,
)
from floxide_amqp.ports.key_value import Committed
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.runtime.dead_letters import explain
from floxide_amqp.runtime.effects import effects_of
from floxide_amqp.runtime.kept_letters import is_open
from floxide_amqp.runtime.publishing import REASONS, publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.showing import undelivered_letter, unreadable_letter
from floxide_amqp.runtime.sources import opened, start_kept
from floxide_amqp.runtime.steps import policy_of
from floxide_amqp.runtime.views import DeadLetterInfo
from floxide_amqp.stores.dead_letters import DAMAGED, LetterPlace
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun


async def list_letters(services: Services, *, after: str, limit: int) -> Sequence[DeadLetterInfo]:
    """Return dead letters and unreadable messages, oldest first; letters whose item has gone on are left out."""
    found: list[DeadLetterInfo] = []
    while len(found) < limit:
        page = await _page(services, after, limit)
        for letter in page:
            if isinstance(letter, Quarantined):
                found.append(unreadable_letter(opened(services, letter)))
            elif await _is_shown(services, letter):
                found.append(undelivered_letter(letter, explain(letter.reason)))
        if len(page) < limit:
            break
        after = _id_of(page[-1])
    return found[:limit]


async def show_letter(services: Services, letter_id: str) -> DeadLetterInfo:
    """Return one letter.

    Raises:
        DeadLetterNotFoundError: There is none of this id.
    """
    unreadable = await services.quarantine.find(letter_id)
    if unreadable is not None:
        return unreadable_letter(opened(services, unreadable))
    letter, _, _ = await _open_letter(services, letter_id)
    return undelivered_letter(letter, explain(letter.reason))


async def requeue_letter(services: Services, letter_id: str) -> None:
    """Put the item of a letter on its way again, or an unreadable message into its queue as it is.

    Of a message of a source a run is started here.

    Raises:
        ConfigurationError: It is a message of a source that this application does not declare.
        CodecError: No run can be made of a source's message still.
        DeadLetterNotFoundError: There is none of this id, or its item has gone on.
        InvalidRunStateError: Its run is over; resuming the run takes its items along.
        DeadLetterIncompleteError: Only the beginning of an unreadable message was kept.
        BrokerUnavailableError: An unreadable message could not be published; it stays where it is.
    """
    unreadable = await services.quarantine.find(letter_id)
    if unreadable is not None:
        await (start_kept if unreadable.source else _publish_as_it_is)(services, unreadable)
        return
    while True:
        letter, run, found = await _open_letter(services, letter_id)
        _check_not_over(run, "requeue a dead letter of")
        now = services.now_ms(letter.run_id)
        decision = dead_letter_moves.requeue(found.item, letter, run.state, run.epoch, now, services.name)
        if isinstance(await services.commit(run.writer, decision), Committed):
            await publish(services, run.header, decision.effects.publish)
            return


async def drop_letter(services: Services, letter_id: str) -> None:
    """Give the item of a letter up: it fails with `DeadLetterError`. An unreadable message is deleted.

    The failure takes the item's fallback edge, or fails the run, as any error that is not retried.

    Raises:
        DeadLetterNotFoundError: There is none of this id, or its item has gone on.
        InvalidRunStateError: Its run is over.
        UnknownWorkflowError: This application lacks the run's workflow, which says what follows from a failure.
    """
    if await services.quarantine.find(letter_id) is not None:
        await services.quarantine.remove(letter_id)
        return
    while True:
        letter, run, found = await _open_letter(services, letter_id)
        if run.state.status is RunStatus.FAILED:  # nothing waits for it, and a resumed run starts its items anew
            place = LetterPlace(letter.letter_id, letter.run_id, letter.item_id)
            await services.dead_letter_store.remove(place, letter)
            return
        decision = dead_letter_moves.give_up(await _failure(services, letter, run, found), letter)
        outcome = await services.commit(run.writer, decision)
        if not isinstance(outcome, Committed):
            continue
        effects = effects_of(run.header.run_id, decision, outcome)
        await publish(services, run.header, effects.publish)
        if effects.timer is not None:
            services.on_timer(effects.timer)
        if effects.finished is not None:
            await services.announce_end(run.header, effects.finished)
        return


async def _failure(services: Services, letter: DeadLetter, run: StoredRun, found: StoredItem) -> Decision:
    """Decide what follows if the item fails for good, as for a step that has just failed."""
    header, item = run.header, found.item
    graph = services.registry.find(header.workflow, header.version)
    if graph is None or item.node not in graph.nodes:
        raise UnknownWorkflowError(workflow=f"{header.workflow}@{header.version}", known=services.registry.names())
    error = DeadLetterError(node=item.node, item_id=item.item_id, reason=explain(letter.reason), count=letter.count)
    step = Step(
        graph=graph, header=header, run=run.state, epoch=run.epoch, item=item, turn=found.turn,
        scope=None if not item.scope else await services.items.scope(header.run_id, item.scope[-1]),
        anchor=MessageAnchor(item.queue, ""), worker=services.name, now_ms=services.now_ms(header.run_id),
        retry=policy_of(services, graph.nodes[item.node]),
    )  # fmt: skip
    return decide(step, Failed(describe_error(error), is_final=True))


async def _publish_as_it_is(services: Services, unreadable: Quarantined) -> None:
    if unreadable.cut_from:
        raise DeadLetterIncompleteError(
            letter_id=unreadable.quarantine_id, kept_bytes=len(unreadable.body), size_bytes=unreadable.cut_from
        )
    message = Message(queue=unreadable.queue or "default", body=unreadable.body)
    (outcome,) = await services.queue.publish([message])
    if outcome is not PublishOutcome.CONFIRMED:
        raise BrokerUnavailableError(
            url="the application's URL", operation=f"Publishing message {unreadable.quarantine_id!r} again",
            reason=REASONS.get(outcome, "it was not confirmed"),
        )  # fmt: skip
    await services.quarantine.remove(unreadable.quarantine_id)


async def _open_letter(services: Services, letter_id: str) -> tuple[DeadLetter, StoredRun, StoredItem]:
    letter = await services.dead_letter_store.get(letter_id)
    if letter is None:
        raise DeadLetterNotFoundError(letter_id=letter_id)
    run, found = await services.runs.find_with_item(letter.run_id, letter.item_id)
    if run is None or found is None or not is_open(letter, run, found):
        raise DeadLetterNotFoundError(letter_id=letter_id)
    return letter, run, found


async def _is_shown(services: Services, letter: DeadLetter) -> bool:
    """Whether a letter is listed: its item waits, or something about it cannot be read, which its reason says."""
    if letter.turn == DAMAGED:
        return True
    try:
        return is_open(letter, *await services.runs.find_with_item(letter.run_id, letter.item_id))
    except UnreadableRecordError:
        return True


def _check_not_over(run: StoredRun, action: str) -> None:
    if run.state.status.is_terminal:
        raise InvalidRunStateError(run_id=run.header.run_id, action=action, status=run.status.value)


async def _page(services: Services, after: str, limit: int) -> list[DeadLetter | Quarantined]:
    """Return up to `limit` letters of both kinds in the order of their ids, which is that of time."""
    letters = await services.dead_letter_store.page(after=after, limit=limit)
    unreadable = await services.quarantine.list(after=after, limit=limit)
    both: list[DeadLetter | Quarantined] = [*letters, *unreadable]
    return sorted(both, key=_id_of)[:limit]


def _id_of(letter: DeadLetter | Quarantined) -> str:
    return letter.letter_id if isinstance(letter, DeadLetter) else letter.quarantine_id
