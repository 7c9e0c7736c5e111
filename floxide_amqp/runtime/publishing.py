"""Publishing work item messages, and what happens to those no queue takes."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core import publish_moves
from floxide_amqp.core.decisions import Outgoing
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.records import RunHeader
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.runtime.interceptors import chain_publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.stores.record_codec import encode_envelope
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.publishing")

REASONS = {
    PublishOutcome.RETURNED: "no queue is bound for its task queue",
    PublishOutcome.REFUSED: "the broker refused its message",
}
"""What is noted on an item whose message no queue took."""

MAX_REASON_LENGTH = 300
"""Characters kept of what an interceptor raised."""


def message_of(services: Services, header: RunHeader, out: Outgoing, position: int | None) -> Message:
    """Return the message for an item."""
    item = out.item
    envelope = Envelope(
        run_id=header.run_id, item_id=item.item_id, node=item.node, workflow=header.workflow, version=header.version,
        queue=item.queue, turn=out.turn, scope=item.scope, position=position, entry=out.entry, recovered=out.recovered,
        store=services.store_id,
    )  # fmt: skip
    return Message(queue=item.queue, body=encode_envelope(envelope), correlation_id=item.item_id)


async def publish(
    services: Services, header: RunHeader, outgoing: Sequence[Outgoing], *, position: int | None = None
) -> None:
    """Publish messages of one run; what is not confirmed stays pending in the store and is published again later.

    Args:
        services: The process's parts.
        header: The run.
        outgoing: Items, already pending in the store.
        position: How far into the run's context log this process has read; None where it has not.
    """
    if not outgoing:
        return
    await _publish(services, [(header, out) for out in outgoing], position)


async def publish_many(
    services: Services, outgoing: Sequence[tuple[RunHeader, Outgoing]], *, position: int | None = 0
) -> None:
    """Publish messages of many runs in one go; by default their first ones, before which no context was changed."""
    await _publish(services, outgoing, position)


async def _publish(services: Services, outgoing: Sequence[tuple[RunHeader, Outgoing]], position: int | None) -> None:
    messages = [message_of(services, header, out, position) for header, out in outgoing]
    outcomes, problem = await _send(services, messages)
    for outcome in outcomes:
        services.figures.publishes[outcome.value] += 1
    if all(outcome is PublishOutcome.CONFIRMED for outcome in outcomes):
        return
    unconfirmed = [
        (header, out, outcome, problem or REASONS.get(outcome, ""))
        for (header, out), outcome in zip(outgoing, outcomes, strict=True)
        if outcome is not PublishOutcome.CONFIRMED
    ]
    await side_by_side(lambda each: _defer(services, *each), unconfirmed)


async def _send(services: Services, messages: Sequence[Message]) -> tuple[Sequence[PublishOutcome], str]:
    """Publish through the interceptors; return the outcomes, and what an interceptor did wrong that kept one back.

    The commit that put the items pending stands, so an interceptor that fails must not bring back what led to it: what
    the queue said counts, and where it was never asked, the messages are refused.
    """
    said: Sequence[PublishOutcome] | None = None

    async def proceed() -> Sequence[PublishOutcome]:
        nonlocal said
        said = [PublishOutcome.UNKNOWN] * len(messages)
        said = await services.queue.publish(messages)
        return said

    try:
        outcomes = await chain_publish(services.interceptors, messages, proceed)()
        if len(outcomes) == len(messages):
            return outcomes, ""
        problem = f"an interceptor returned {len(outcomes)} outcomes of {len(messages)} messages"
    except USER_ERRORS as error:  # user code, whose exits must not end the worker
        described = describe_error(error)
        message = services.sealing.logged(described.message[:MAX_REASON_LENGTH])  # a note on the item, too
        problem = f"an interceptor raised {described.error_type}: {message}"
        _log.error(
            "publish.interceptor_failed", messages=len(messages), error=problem, exc_info=not services.sealing.hides
        )
    else:
        _log.error("publish.interceptor_failed", messages=len(messages), error=problem)
    return (said, "") if said is not None else ([PublishOutcome.REFUSED] * len(messages), problem)


async def _defer(services: Services, header: RunHeader, out: Outgoing, outcome: PublishOutcome, reason: str) -> None:
    """Note why the item is not on its way, and set a timer that publishes it again."""
    now_ms = services.now_ms(header.run_id)
    due_ms = publish_moves.next_try_ms(out.item, now_ms, round(1000 * services.timeouts.publish_retry))
    if outcome is PublishOutcome.UNKNOWN:
        decision = publish_moves.repeat_publish(out, due_ms, header, services.name)
    else:
        decision = publish_moves.defer_publish(out.item, out.turn, due_ms, header, reason, out)
        decision = publish_moves.noted_until(decision, out, services.name)
    result = await services.commit(BatchWriter(header.run_id, header.created_at_ms, header.workflow), decision)
    _log.warning(
        "publish.deferred", run_id=header.run_id, item_id=out.item.item_id, queue=out.item.queue,
        outcome=outcome.value, retry_in_seconds=round((due_ms - now_ms) / 1000, 1),
    )  # fmt: skip
    if not isinstance(result, Conflict) and decision.effects.timer is not None:
        services.on_timer(decision.effects.timer)
