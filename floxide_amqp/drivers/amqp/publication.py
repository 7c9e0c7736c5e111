"""One message on its way to the broker, and the channel it goes over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import aiormq

from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.ports.work_queue import Message, PublishOutcome

STRANDED_SECONDS: Final = 0.5
"""How long the publishes of a lost connection may take to fail by themselves."""


@dataclass(frozen=True, slots=True)
class PublishLane:
    """The confirming channel of one session."""

    session: Session
    channel: aiormq.Channel

    @property
    def is_open(self) -> bool:
        """Whether it takes messages now."""
        return self.session.is_usable and not self.session.is_blocked and not self.channel.is_closed


@dataclass(slots=True, eq=False)
class Publication:
    """One message on its way, over as many attempts as it takes; `lane` and `task` are those of the present one."""

    message: Message
    deadline: float
    outcome: asyncio.Future[PublishOutcome]
    sent_at: float | None = None
    was_returned: bool = False
    lane: PublishLane | None = None
    task: asyncio.Task[Any] | None = None
    stranded_at: float | None = None
    is_abandoned: bool = False

    def settle(self, outcome: PublishOutcome) -> None:
        """Say what became of it; only the first word counts."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def free_if_stranded(self, now: float) -> None:
        """Have a publish tried again that was not told of the loss of its connection.

        aiormq leaves some waiting for ever. On a connection that is gone, cancelling one does no harm.
        """
        lane, task = self.lane, self.task
        if lane is None or task is None or lane.session.is_usable or self.is_abandoned:
            return
        if self.stranded_at is None:
            self.stranded_at = now
        elif now - self.stranded_at >= STRANDED_SECONDS:
            self.is_abandoned = True
            task.cancel()
