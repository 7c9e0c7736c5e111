"""How long, how many, how often: the engine's limits and times, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a worker takes on.

    Attributes:
        concurrency: Steps in flight at a time; also the broker's prefetch. At least 1.
        threads: Threads for sync nodes. At least 1.
        chain_steps: Steps that one message carries at most before its successor is published; bounds how much work
            one redelivery repeats the walk of.
        cached_runs: Runs whose header and context a worker remembers.
        deaths: Owners that may die on an item before it counts as poison; the last of them with nothing else at work,
            so that nobody is condemned for a neighbour. At least 1.
    """

    concurrency: int = 100
    threads: int = 8
    chain_steps: int = 1_000
    cached_runs: int = 1_000
    deaths: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The engine's times, in seconds.

    Attributes:
        early_acknowledge: A step that runs longer is noted in the store and its message acknowledged; far below the
            30 minutes after which RabbitMQ takes an unacknowledged message back.
        chain: Time one message carries steps for before its successor is published.
        cancel_grace: Time a cancelled node gets to clean up before it is left alone.
        heartbeat: Between two heartbeats.
        company: A suspected item runs alone for so long at most; then other work begins beside it.
        dead_after: Silence after which a worker counts as dead: several heartbeats, so that one slow commit of the
            store is not taken for a death.
        maintenance: Between two rounds of maintenance.
        probe: Between two probes of a task queue.
        publish_retry: Before a message that no queue took is published again.
        result_backstop: Between two looks at the store while waiting for an event.
        drain: Time steps in flight get to end when a worker stops.
    """

    early_acknowledge: float = 5.0
    chain: float = 30.0
    cancel_grace: float = 5.0
    company: float = 60.0
    heartbeat: float = 2.0
    dead_after: float = 15.0
    maintenance: float = 1.0
    probe: float = 10.0
    publish_retry: float = 5.0
    result_backstop: float = 2.0
    drain: float = 30.0
