"""What is to be done to the application, and when: a list that follows from seed and duration alone."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.application import GAPS
from tests.chaos.stores import POSTGRESQL, REDIS, SQLITE

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


_COMMON: Sequence[Kind] = (
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
)
_CLIENTS: Sequence[Kind] = (
    Kind("client-crash", "clients", 7),
    Kind("storm", "storms", 36),
)
_SERVER: Sequence[Kind] = (
    Kind("store-kill", "store", 6),
    Kind("store-restart", "store", 4),
    Kind("store-suspend", "store", 4),
    Kind("store-sessions", "store", 10),
    Kind("store-link-cut", "store-links", 8),
    Kind("store-link-reset", "store-links", 8),
    Kind("store-link-mid-frame", "store-links", 8),
    Kind("store-link-delay", "store-links", 5),
    Kind("store-link-half-open", "store-links", 5),
)
KINDS: Mapping[str, Sequence[Kind]] = {
    SQLITE: (*_COMMON, Kind("store-away", "store", 3), *_CLIENTS),
    POSTGRESQL: (*_COMMON, *_SERVER, Kind("store-lock", "store", 6), *_CLIENTS),
    REDIS: (*_COMMON, *_SERVER, Kind("script-flush", "store", 8), Kind("long-script", "store", 5), *_CLIENTS),
}
"""What there is to do, by the kind of store."""


@dataclass(frozen=True, order=True)
class Fault:
    """One fault: when it is due, of which kind, and the seed of whatever about it is left to chance."""

    at_seconds: float
    kind: str
    track: str
    seed: int


def make_plan(seed: int, duration: float, store: str = SQLITE, tracks: Collection[str] = ()) -> list[Fault]:
    """Return the faults, earliest first. The same arguments give the same plan.

    Args:
        seed: What chance follows from.
        duration: For how many seconds.
        store: The kind of store.
        tracks: Only the faults of these; of all where there are none.
    """
    chance = random.Random(f"plan:{seed}:{duration}")
    span = max(1.0, duration - FIRST_SECONDS - LAST_SECONDS)
    plan: list[Fault] = []
    for kind in KINDS[store]:
        count = max(3 if duration >= FULL_SECONDS else 1, round(kind.quota * duration / FULL_SECONDS))
        for number in range(count):  # one in each part of the time, so that none is left to the very end
            at = FIRST_SECONDS + span * (number + chance.random()) / count
            plan.append(Fault(round(at, 2), kind.name, kind.track, chance.randrange(2**32)))
    return sorted(fault for fault in plan if not tracks or fault.track in tracks)
