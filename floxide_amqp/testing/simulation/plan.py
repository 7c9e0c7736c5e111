"""The plan of one simulation: how many processes, which times, what befalls them when. Drawn from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.testing.simulation.cluster import ALONE, QUICK, Settings
from floxide_amqp.testing.simulation.faults import KINDS, WEIGHTS
from floxide_amqp.testing.simulation.servers import names_drawn

LONG = frozenset({"freeze", "hang", "namesake", "cut from store"})
"""Faults that are something else once they have lasted longer than a worker may be silent."""

LONG_SILENCE = 25.0
"""Seconds after which they have, and what follows from it has happened."""


PRUNED_SHARE = 0.15
"""Share of the plans in which runs are deleted soon after they have ended."""


NO_POISON = 1_000_000
"""Workers that may die on an item where no run may fail of that: more than a simulation kills."""

SPREAD_SHARE = 0.15
"""Share of the plans in which the store has several servers: their rounds and heartbeats cost time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come."""

    at: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen.

    Attributes:
        is_shuffled: Whether what is ready at the same time runs in an order drawn from the seed.
        workers: Workers of all queues that are kept running.
        clients: Orchestrator processes that start the runs, each all of them.
        client_deaths: How many of the first orchestrators die on the way.
        steering: Pauses, resumes and cancels, all in all.
        is_stormy: Whether runs are terminated and retried as well.
        skews_ms: How far wall clocks are ahead; drawn from in turn.
        faults: What befalls the world, in order.
        seconds: How long until everything is calm.
        is_labelled: Whether not every worker has the label that some nodes ask for.
        rolling: By which policy the workflow gets a second version in the middle of the story; None if it does not.
        servers: The names of the store's servers; with more than one, one of them is away for a while once all is calm.
    """

    settings: Settings
    is_shuffled: bool
    workers: int
    clients: int = 1
    client_deaths: int = 0
    runs: int = 2
    steering: int = 0
    may_cancel: bool = False
    is_stormy: bool = False
    skews_ms: Sequence[int] = (0,)
    faults: Sequence[Planned] = ()
    seconds: float = 5.0
    servers: Sequence[str] = ALONE
    is_labelled: bool = False
    rolling: VersionPolicy | None = None


def draw_plan(chance: random.Random, *, kinds: Sequence[str] | None = None) -> Plan:
    """Draw a plan.

    Args:
        chance: Draws it.
        kinds: The kinds of faults it may have; all by default.
    """
    allowed = tuple(KINDS) if kinds is None else tuple(kinds)
    is_calm = chance.random() < 0.03 or not allowed
    window = chance.choice([0.5, 2.0, 6.0, 6.0, 15.0])
    count = 0 if is_calm else chance.choice([1, 1, 2, 2, 3, 4, 6])
    faults = draw_faults(chance, allowed, count, window)
    is_skewed = chance.random() < 0.15
    plan = Plan(
        settings=_draw_settings(chance),
        is_shuffled=chance.random() < 0.7,
        workers=chance.choice([1, 2, 2, 3]),
        clients=chance.choice([1, 1, 1, 2]),
        client_deaths=0 if is_calm else chance.choice([0, 0, 1, 2]),
        runs=chance.choice([1, 2, 2, 3]),
        steering=chance.choice([0, 0, 0, 2, 6]),
        may_cancel=chance.random() < 0.4,
        skews_ms=tuple(chance.choice([-3_600_000, 0, 90_000, 3_600_000]) for _ in range(4)) if is_skewed else (0,),
        faults=faults,
        seconds=window
        + (chance.choice([0.0, LONG_SILENCE]) if LONG.intersection(fault.kind for fault in faults) else 0.0),
    )
    if chance.random() < PRUNED_SHARE:
        seconds = chance.choice([0.0, 0.5, 3.0])
        plan = replace(plan, settings=replace(plan.settings, retention=Retention(completed=seconds, cancelled=seconds)))
    return plan


def draw_servers(chance: random.Random) -> Sequence[str]:
    """Draw the servers of a store."""
    return names_drawn(chance.randrange, chance.choice([2, 2, 3])) if chance.random() < SPREAD_SHARE else ALONE


def draw_faults(chance: random.Random, kinds: Sequence[str], count: int, seconds: float) -> tuple[Planned, ...]:
    """Draw so many faults of these kinds, in the order of their times, all within some seconds."""
    if not count:
        return ()
    drawn = chance.choices(kinds, [WEIGHTS.get(kind, 1) for kind in kinds], k=count)
    moments = sorted(chance.choice([0.0, chance.uniform(0, 0.3), chance.uniform(0, seconds)]) for _ in drawn)
    return tuple(Planned(at, kind) for at, kind in zip(moments, drawn, strict=True))


SNAPSHOTS = {1: 2, 2: 1_000, 8: 5}
"""Deltas between snapshots of a context, by concurrency: rare ones, and so many that logs are trimmed all the time."""


LETTERS = {1: 1, 2: 5, 8: 2}
"""Letters of an item before the next one is kept, by concurrency too."""


def _draw_settings(chance: random.Random) -> Settings:
    limits = Limits(
        concurrency=chance.choice([1, 2, 8]),
        chain_steps=chance.choice([1, 2, 1_000]),
        cached_runs=chance.choice([1, 1_000, 1_000]),
    )
    limits = replace(limits, dead_letters=LETTERS[limits.concurrency])
    limits = replace(limits, context_snapshot=SNAPSHOTS[limits.concurrency])  # follows, so that nothing else is redrawn
    if chance.random() < 0.1:
        return Settings(limits=limits, timeouts=Timeouts())
    timeouts = replace(
        QUICK, early_acknowledge=chance.choice([0.01, 0.5, 1.0, 5.0]), chain=chance.choice([0.01, 30.0, 30.0])
    )
    return Settings(limits=limits, timeouts=timeouts)
