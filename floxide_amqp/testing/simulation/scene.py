"""What a scene is: a part played beside a simulation's runs, by actors that are processes of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from floxide_amqp import Orchestrator, Signal
from floxide_amqp.testing.simulation.exercised import ExerciseWatch

LOOK_SECONDS = 0.2
"""Between two looks at what a scene waits for."""

DELAY_SECONDS = 0.4
"""How late a run begins that begins later, and how long one may take that is to be over too late."""

UNREADABLE = "UnreadableRecordError"
"""What a run fails with while a record of it is damaged."""

NEVER = Signal("never", str)
"""What some runs wait for, in vain."""


@dataclass
class Outside:
    """What nodes did to the world outside: the keys of steps, in the order of time."""

    did: list[str] = field(default_factory=list[str])
    undid: list[str] = field(default_factory=list[str])


class Scene(Protocol):
    """Something that clients do.

    Attributes:
        workflows: What its runs are of.
    """

    workflows: Sequence[Any]

    @abstractmethod
    async def act(self, client: Orchestrator) -> None:
        """Do it, or do it again, and wait until the runs have ended."""
        ...

    @abstractmethod
    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """Return what does not hold when all have ended, and count what no commit tells."""
        ...
