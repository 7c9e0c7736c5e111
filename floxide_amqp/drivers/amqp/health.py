"""What is known about a role's connection without asking the broker, told alike by both drivers.

A connection that is open proves little: a half-open link stays so for a minute, and a consumer that the broker forgot
leaves its connection in the best of health. So a role is ready if the broker has answered lately and all its
subscriptions stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol


class ConnectionState(Enum):
    """Where a role's connection stands."""

    CONNECTING = "connecting"
    READY = "ready"
    BLOCKED = "blocked"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleHealth:
    """What is known about one role's connection.

    Attributes:
        role: ``publish``, ``consume`` or ``control``.
        state: Where it stands.
        is_ready: Whether it can do its work now: connected, not blocked, subscribed to all it should be, and answered
            within `AmqpSettings.round_trip_limit`.
        generation: How many connections this role has had; 0 before the first.
        round_trip_age_seconds: Time since the broker last answered, on this connection or one before; None before the
            first answer.
        blocked_seconds: Time since the broker blocks this connection; None while it does not.
        problem: What keeps it from being ready; empty when all is well.
    """

    role: str
    state: ConnectionState
    is_ready: bool
    generation: int
    round_trip_age_seconds: float | None
    blocked_seconds: float | None
    problem: str


class Reporting(Protocol):
    """A link, as health sees it."""

    def health(self) -> RoleHealth:
        """Return what is known about the connection alone."""
        ...


class Subscription(Protocol):
    """Something that must stand on a connection for its role to be ready."""

    @property
    def problem(self) -> str:
        """Why it does not stand now; empty when it does."""
        ...


def health_of(link: Reporting, subscriptions: Iterable[Subscription] = ()) -> RoleHealth:
    """Return the health of a role: its connection, and what should be subscribed on it."""
    health = link.health()
    problems = [problem for subscription in subscriptions if (problem := subscription.problem)]
    if not health.is_ready or not problems:
        return health
    return replace(health, is_ready=False, problem="; ".join(sorted(problems)))
