"""What is to be done to the application, and when: a list that follows from seed and duration alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.application import GAPS

FULL_SECONDS = 600.0
"""The duration that the quotas below are for."""

FIRST_SECONDS, LAST_SECONDS = 5.0, 20.0
"""No fault so soon after the beginning and so close to the end."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault: faults of one track follow each other, tracks run side by side."""

    name: str
    track: str
    quota: int


KINDS: Sequence[Kind] = (
    Kind("worker-kill", "workers", 22),
    Kind("worker-suspend", "suspensions", 6),
    Kind("worker-drain", "workers", 8),
    *(Kind(f"crash-{gap}", "workers", 5) for gap in GAPS),
    Kind("broker-restart", "broker", 3),
    Kind("broker-kill", "broker", 3),
    Kind("broker-wipe", "broker", 3),
    Kind("memory-alarm", "broker", 4),
    Kind("connections-closed", "broker", 6),
    Kind("link-cut", "links", 9),
    Kind("link-reset", "links", 9),
    Kind("link-mid-frame", "links", 9),
    Kind("link-delay", "links", 6),
    Kind("link-half-open", "links", 6),
    Kind("queue-purge", "messages", 9),
    Kind("queue-delete", "messages", 4),
    Kind("duplicates", "messages", 22),
    Kind("garbage", "messages", 22),
    Kind("disk-full", "store", 4),
    Kind("store-away", "store", 3),
    Kind("client-crash", "clients", 7),
    Kind("storm", "storms", 36),
)


@dataclass(frozen=True, order=True)
class Fault:
    """One fault: when it is due, of which kind, and the seed of whatever about it is left to chance."""

    at_seconds: float
    kind: str
    track: str
    seed: int


def make_plan(seed: int, duration: float) -> list[Fault]:
    """Return the faults, earliest first. The same arguments give the same plan."""
    chance = random.Random(f"plan:{seed}:{duration}")
    span = max(1.0, duration - FIRST_SECONDS - LAST_SECONDS)
    plan: list[Fault] = []
    for kind in KINDS:
        count = max(3 if duration >= FULL_SECONDS else 1, round(kind.quota * duration / FULL_SECONDS))
        for number in range(count):  # one in each part of the time, so that none is left to the very end
            at = FIRST_SECONDS + span * (number + chance.random()) / count
            plan.append(Fault(round(at, 2), kind.name, kind.track, chance.randrange(2**32)))
    return sorted(plan)
