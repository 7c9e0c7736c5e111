"""Whether a worker lives and whether it is ready, each with what says so, in words.

Alive means that restarting the process would help nobody: its event loop runs and none of its parts has ended. A store
or a broker that is away, or a drain, is no reason to kill it. Ready means that it can work right now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from floxide_amqp.ports.health import ConnectionHealth
from floxide_amqp.runtime.health import WorkerHealth
from floxide_amqp.runtime.settings import Timeouts

NOT_NEEDED = frozenset({"dead letters"})
"""Connections without which a worker works all the same."""

LEAST_STORE_SECONDS = 10.0
"""A store that answered so lately counts as there, however often it is asked."""

LOOP_LAG_SECONDS = 5.0
"""An event loop that is later than this serves nobody well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at.

    Attributes:
        detail: What was found, a sentence.
    """

    name: str
    ok: bool
    detail: str


def liveness(parts_ended: Sequence[str]) -> list[Check]:
    """Return what says whether a worker lives.

    Args:
        parts_ended: Those of its parts that ended by themselves, which none should.
    """
    detail = f"Ended by themselves: {', '.join(parts_ended)}." if parts_ended else "All of them are at work."
    return [
        Check(name="event loop", ok=True, detail="It answers."),
        Check(name="parts", ok=not parts_ended, detail=detail),
    ]


def readiness(health: WorkerHealth, connections: Sequence[ConnectionHealth], timeouts: Timeouts) -> list[Check]:
    """Return what says whether a worker can work right now."""
    return [
        Check(name="worker", ok=health.status == "running", detail=f"It is {health.status}."),
        _store(health.store_age_seconds, timeouts),
        _heartbeat(health.heartbeat_age_seconds, timeouts),
        _event_loop(health.loop_lag_seconds),
        *(_connection(each) for each in connections if each.role not in NOT_NEEDED),
    ]


def _store(age: float | None, timeouts: Timeouts) -> Check:
    limit = max(LEAST_STORE_SECONDS, 3 * timeouts.maintenance)
    if age is None:
        return Check(name="store", ok=False, detail="It has not answered yet.")
    return Check(name="store", ok=age <= limit, detail=f"It last answered {age:.1f} s ago (limit {limit:g} s).")


def _heartbeat(age: float | None, timeouts: Timeouts) -> Check:
    limit = max(3 * timeouts.heartbeat, timeouts.dead_after / 2)
    if age is None:
        return Check(name="heartbeat", ok=False, detail="None has reached the store yet.")
    detail = (
        f"The last one reached the store {age:.1f} s ago (limit {limit:g} s); others take this worker for dead after "
        f"{timeouts.dead_after:g} s."
    )
    return Check(name="heartbeat", ok=age <= limit, detail=detail)


def _event_loop(lag: float) -> Check:
    detail = f"It is {lag:.1f} s late (limit {LOOP_LAG_SECONDS:g} s)."
    return Check(name="event loop", ok=lag <= LOOP_LAG_SECONDS, detail=detail)


def _connection(connection: ConnectionHealth) -> Check:
    name = f"broker: {connection.role}"
    if not connection.is_ready:
        return Check(name=name, ok=False, detail=connection.problem or f"The connection is {connection.state.value}.")
    age = connection.round_trip_age_seconds
    detail = "The broker has answered." if age is None else f"The broker last answered {age:.1f} s ago."
    return Check(name=name, ok=True, detail=detail)
