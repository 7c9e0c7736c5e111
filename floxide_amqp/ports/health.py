"""What a driver says about its connections, without asking anybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol, TypeAlias


class ConnectionHealth(Protocol):
    """What is known about one connection of a driver."""

    @property
    def role(self) -> str:
        """What it is for, such as ``publish``."""
        ...

    @property
    def state(self) -> Enum:
        """Where it stands; its value is one of ``connecting``, ``ready``, ``blocked``, ``draining``, ``dead``."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it can do its work now: connected, not blocked, subscribed, and answered lately."""
        ...

    @property
    def generation(self) -> int:
        """How many connections this role has had; 0 before the first."""
        ...

    @property
    def round_trip_age_seconds(self) -> float | None:
        """Time since the other side last answered; None before its first answer."""
        ...

    @property
    def problem(self) -> str:
        """What keeps it from being ready, fit to be shown; empty when all is well."""
        ...


ConnectionsHealth: TypeAlias = Callable[[], Sequence[ConnectionHealth]]
"""Returns what is known about every connection of a process."""
