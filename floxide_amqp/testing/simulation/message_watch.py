"""Checks every message against the store: what it says is committed, and nobody takes it for done before it is.

Three rules of the engine, looked at from outside, on the bytes that pass:

* A message is published after the commit that it speaks of, never before.
* A message is acknowledged once the store no longer counts on it: its entry is gone, or another copy is under way.
  What was on its way when the store crashed speaks of commits that the store may have lost with its tail.
* That no queue took a message, or nobody knows whether one did, is in the store at once: its entry is gone from where
  it was, to a timer that publishes it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.stores import keys
from floxide_amqp.stores.record_codec import decode_message
from floxide_amqp.testing.simulation.broker import BrokerServer
from floxide_amqp.testing.simulation.loop import context_of
from floxide_amqp.testing.simulation.mirror import MirroredRun
from floxide_amqp.testing.simulation.story import Story
from floxide_amqp.testing.simulation.watch import Watch

NOTED_SECONDS = 0.5
"""Time within which a process that nothing hinders has noted what became of a publish."""

ALIVE = (RunStatus.PENDING, RunStatus.RUNNING)

HINDERS_NOBODY = frozenset(
    {
        "broker wiped", "came back too often", "cancel", "conflicting start", "deduplicated start", "delayed",
        "disconnect", "dropped", "duplicated", "garbage", "given up", "letter kept", "lost confirm", "pause",
        "publisher waits", "purge", "refused", "reordered", "retry", "returned", "run pruned",
        "run pruned beside others", "signal", "terminate", "unroutable",
    }
)  # fmt: skip
"""Faults that keep no process from reaching the store: after any other, somebody may be late for good reason."""


class MessageWatch:
    """Looks at every message that a broker takes, gives or forgets.

    Args:
        broker: The broker.
        watch: What the store holds.
        story: Violations are noted there.
        is_working: Tells whether a process runs and is not asked to end.
        may_be_let_go: Tells whether a worker may leave the messages of a run to the probes, since the run's server is
            out of reach and another one of the store is not.
    """

    def __init__(
        self,
        broker: BrokerServer,
        watch: Watch,
        story: Story,
        *,
        is_working: Callable[[str], bool],
        may_be_let_go: Callable[[str], bool],
    ) -> None:
        self._broker = broker
        self._watch = watch
        self._story = story
        self._is_working = is_working
        self._may_be_let_go = may_be_let_go
        self._context = context_of(None)
        self._tail_lost_at = -math.inf
        watch.on_start_over = self._tail_lost
        broker.on_publish = self.published
        broker.on_acknowledged = self.acknowledged
        broker.on_outcomes = self.told

    def published(self, who: str, body: bytes, sent_at: float) -> None:
        """A message reaches the broker, which its publisher sent at some time before."""
        if sent_at <= self._tail_lost_at:  # what it was committed with may be lost, and its publisher died with it
            return
        envelope = _envelope(body)
        if envelope is None or envelope.run_id in self._watch.deleted:
            return
        run = self._watch.runs.get(envelope.run_id)
        if run is None or run.turns.get(envelope.item_id, 0) < envelope.turn:
            self._violated(f"P: {who} published {_named(envelope)} before it was committed")

    def acknowledged(self, who: str, body: bytes, sent_at: float) -> None:
        """A message is taken off its queue, as its consumer said at some time before."""
        if sent_at <= self._tail_lost_at:  # the store has gone back since, and its consumer died with what it knew
            return
        self._watch.sources.acknowledged_by(who, body, sent_at)
        envelope = _envelope(body)
        run = None if envelope is None else self._counting_on(envelope)
        if envelope is None or run is None or self._broker.late or self._broker.has_another(body):
            return
        if run.status in ALIVE and not self._may_be_let_go(run.run_id):
            self._violated(f"P: {who} acknowledged {_named(envelope)}, which the store still counts on")

    def told(self, who: str, messages: Sequence[Message], outcomes: Sequence[PublishOutcome]) -> None:
        """A process hears what became of the messages that it published."""
        doubtful = [
            envelope
            for message, outcome in zip(messages, outcomes, strict=True)
            if outcome is not PublishOutcome.CONFIRMED and (envelope := _envelope(message.body)) is not None
        ]
        if doubtful:
            self._broker.loop.call_later(NOTED_SECONDS, self._check_noted, who, doubtful, context=self._context)

    def _tail_lost(self) -> None:
        self._tail_lost_at = self._broker.loop.time()

    def _check_noted(self, who: str, doubtful: list[Envelope]) -> None:
        if not self._is_working(who) or self._story.faults.keys() - HINDERS_NOBODY:
            return
        for envelope in doubtful:
            run = self._counting_on(envelope)
            if run is not None and run.status in ALIVE and run.turns.get(envelope.item_id) == envelope.turn:
                self._violated(f"I10: {who} was told that no queue took {_named(envelope)}, and did not note it")

    def _counting_on(self, envelope: Envelope) -> MirroredRun | None:
        """Return a message's run, if the store has an entry of this very message."""
        run = self._watch.runs.get(envelope.run_id)
        if run is None or not envelope.entry:
            return None
        return run if (keys.messages(envelope.queue), envelope.entry) in run.messages else None

    def _violated(self, what: str) -> None:
        if len(self._story.violations) < MAX_SHOWN:
            self._story.violation(what)


MAX_SHOWN = 20
"""Violations noted of one simulation; more say nothing new."""


def _envelope(body: bytes) -> Envelope | None:
    try:
        message = decode_message(body)
    except CodecError:
        return None
    return message if isinstance(message, Envelope) else None


def _named(envelope: Envelope) -> str:
    return f"the message of item {envelope.item_id} ({envelope.node}), turn {envelope.turn}, of run {envelope.run_id}"
