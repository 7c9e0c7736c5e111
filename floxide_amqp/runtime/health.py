"""How a worker is: plain facts, for a program that asks it and for the heartbeat that tells others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from floxide_amqp.core.worker_records import StuckBody
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.loop_watch import LoopPulse
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.vitals import Vitals, WatchedStep

SHOWN_ITEMS = 20
"""Items in hand that a heartbeat names."""


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


def health_of(
    services: Services, pulse: LoopPulse, beat_at: float | None, *, status: str, items_done: int, error_count: int
) -> WorkerHealth:
    """Return how a worker is right now.

    Args:
        services: Its parts.
        pulse: The ticks of its event loop.
        beat_at: When its last heartbeat got through, by the event loop's clock.
        status: Its status.
        items_done: Deliveries it has worked off.
        error_count: Deliveries that met an error.
    """
    inflight, now = services.inflight, asyncio.get_running_loop().time()
    shown = tuple(f"{step.run_id}/{step.item_id}" for step, _ in zip(inflight, range(SHOWN_ITEMS), strict=False))
    overdue = tuple(step.body for step in _watched(services) if step.due <= now)
    return WorkerHealth(
        status=status, current_items=shown, in_flight=len(inflight), items_done=items_done, error_count=error_count,
        store_age_seconds=services.session.silent_seconds(),
        heartbeat_age_seconds=None if beat_at is None else max(0.0, now - beat_at),
        loop_lag_seconds=pulse.late_seconds, stuck=(*overdue, *_left_behind(services)),
        threads_lost=len(services.threads.lost), late_commits=services.figures.late_commits,
    )  # fmt: skip


def vitals_of(services: Services, health: WorkerHealth) -> Vitals:
    """Return what a worker's heartbeat is to say of it."""
    return Vitals(
        status=health.status, current_items=health.current_items, items_done=health.items_done,
        errors=health.error_count, watched=_watched(services), left_behind=_left_behind(services),
        threads_lost=health.threads_lost, late_commits=health.late_commits,
    )  # fmt: skip


def _watched(services: Services) -> tuple[WatchedStep, ...]:
    """The steps in hand whose bodies should end by some time, and when they are not vouched for any more.

    After its timeout a body has a grace to clean up in, and after that the worker itself settles the step; only where
    it has not within the time that a death takes do others step in.
    """
    grace = services.timeouts.cancel_grace + services.timeouts.dead_after
    return tuple(
        WatchedStep(body=_stuck(services, step, is_given_up=True), due=step.body_due + grace)
        for step in services.inflight
        if step.body_due is not None
    )


def _left_behind(services: Services) -> tuple[StuckBody, ...]:
    """The bodies of steps that are over, which did not heed their cancellation or cannot: threads."""
    steps = dict.fromkeys((*services.inflight.left_behind, *services.threads.lost))
    return tuple(_stuck(services, step, is_given_up=False) for step in steps)


def _stuck(services: Services, step: StepHandle, *, is_given_up: bool) -> StuckBody:
    age_ms = round(1000 * (asyncio.get_running_loop().time() - step.since))
    return StuckBody(
        run_id=step.run_id, item_id=step.item_id, node=step.node, since_ms=services.now_ms() - age_ms,
        attempt=step.attempt, lost=step.lost, is_given_up=is_given_up,
    )  # fmt: skip
