"""How a worker is: plain facts, for a program that asks it and for the heartbeat that tells others."""

from __future__ import annotations

from dataclasses import dataclass

from floxide_amqp.core.records import StuckBody


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """How a worker is.

    Attributes:
        status: ``starting``, ``running``, ``draining`` or ``stopped``.
        current_items: ``run/item`` of the steps at work, up to `SHOWN_ITEMS`.
        in_flight: How many steps are at work.
        items_done: Deliveries worked off since the start.
        error_count: Deliveries that met an error of the engine, the store or the broker.
        store_age_seconds: Since the store last answered; None before it did for the first time. Idle workers ask it
            with every round of maintenance, so it stays small.
        heartbeat_age_seconds: Since the last heartbeat got through; None before the first.
        loop_lag_seconds: How late the event loop was at its last tick, or is for the next one.
        stuck: Bodies that did not end in time: of steps still in hand, and left behind by steps that are over.
        threads_lost: Threads that bodies of sync nodes hold though nobody waits for them any more; each has been
            replaced.
        late_commits: Results that came after others had been given their items; they were refused.
    """

    status: str
    current_items: tuple[str, ...]
    in_flight: int
    items_done: int
    error_count: int
    store_age_seconds: float | None = None
    heartbeat_age_seconds: float | None = None
    loop_lag_seconds: float = 0.0
    stuck: tuple[StuckBody, ...] = ()
    threads_lost: int = 0
    late_commits: int = 0
