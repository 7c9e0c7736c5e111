"""One message on its way to the broker, and the channel it goes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from floxide_amqp.drivers.amqp.channel_wire import Answer, ChannelWire
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.ports.work_queue import Message, PublishOutcome


@dataclass(frozen=True, slots=True)
class PublishLane:
    """The confirming channel of one session."""

    session: Session
    wire: ChannelWire

    @property
    def is_open(self) -> bool:
        """Whether it takes messages now."""
        return self.wire.is_open and self.session.is_usable and not self.session.is_blocked


@dataclass(slots=True, eq=False)
class Publication:
    """One message on its way, over as many attempts as it takes; `lane` and `sent_at` are those of the present one."""

    message: Message
    deadline: float
    outcome: asyncio.Future[PublishOutcome]
    link: Link
    on_answer: Callable[[Publication, PublishLane, Answer, BaseException | None], None]
    lane: PublishLane | None = None
    sent_at: float | None = None
    was_returned: bool = False

    def answered(self, answer: Answer, error: BaseException | None) -> None:
        """Learn what became of the present attempt."""
        lane, self.lane, self.sent_at = self.lane, None, None
        if lane is not None:
            self.on_answer(self, lane, answer, error)

    def settle(self, outcome: PublishOutcome) -> None:
        """Say what became of it; only the first word counts."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)
