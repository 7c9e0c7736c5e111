"""The states of a run and of a work item, and which may follow which.

The tables are the documentation's source (`docs/state-machine.md`) and are checked on every transition the engine
makes in tests. WAITING is derived when read, never stored, and so is CANCELLED of most items: see each member.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class RunStatus(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    """Accepted and stored; no step has committed yet."""
    RUNNING = "running"
    """Steps are being worked on."""
    WAITING = "waiting"
    """Derived: every live item waits for a retry, a timer, a worker that has its node, or somebody's decision."""
    PAUSED = "paused"
    """No new step begins; what was in flight was committed."""
    COMPENSATING = "compensating"
    """It has failed or was cancelled: what its steps did is undone, one by one, before it ends so."""
    COMPLETED = "completed"
    """Ended with its output."""
    FAILED = "failed"
    """An item failed for good; `resume` continues from there, unless what was done has been undone."""
    CANCELLED = "cancelled"
    """Stopped on request; late commits are refused."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing happens any more unless somebody asks."""
        return self in _ENDED


class WorkItemStatus(StrEnum):
    """Where a work item is."""

    PENDING = "pending"
    """Waits for a worker; a first delivery runs it without a claim."""
    IN_PROGRESS = "in progress"
    """Claimed: a worker owns it."""
    WAITING_RETRY = "waiting retry"
    """Failed and runs again when its backoff is over."""
    HELD = "held"
    """Its node returned `Hold`."""
    PARKED = "parked"
    """No worker has taken it that has its workflow, version, node and key; or the broker drops its messages."""
    COMPLETED = "completed"
    """Done; its successors are stored."""
    FAILED = "failed"
    """Failed for good; where it has successors, its fallback took over."""
    CANCELLED = "cancelled"
    """Its fan-out was closed before it had ended; else derived: it was live when its run was cancelled."""

    @property
    def is_final(self) -> bool:
        """Whether the item never runs again unless its run is resumed."""
        return self in _FINAL


_R, _I = RunStatus, WorkItemStatus

_ENDED = frozenset({_R.COMPLETED, _R.FAILED, _R.CANCELLED})
_FINAL = frozenset({_I.COMPLETED, _I.FAILED, _I.CANCELLED})

RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = MappingProxyType(
    {
        _R.PENDING: frozenset(
            {_R.RUNNING, _R.WAITING, _R.PAUSED, _R.COMPENSATING, _R.COMPLETED, _R.FAILED, _R.CANCELLED}
        ),
        _R.RUNNING: frozenset({_R.WAITING, _R.PAUSED, _R.COMPENSATING, _R.COMPLETED, _R.FAILED, _R.CANCELLED}),
        _R.WAITING: frozenset(
            {_R.PENDING, _R.RUNNING, _R.PAUSED, _R.COMPENSATING, _R.COMPLETED, _R.FAILED, _R.CANCELLED}
        ),
        _R.PAUSED: frozenset({_R.RUNNING, _R.COMPENSATING, _R.COMPLETED, _R.FAILED, _R.CANCELLED}),
        _R.COMPENSATING: frozenset({_R.FAILED, _R.CANCELLED}),
        _R.COMPLETED: frozenset(),
        _R.FAILED: frozenset({_R.RUNNING, _R.COMPENSATING, _R.COMPLETED}),
        _R.CANCELLED: frozenset(),
    }
)
"""What may follow a run's status."""

ITEM_TRANSITIONS: Mapping[WorkItemStatus, frozenset[WorkItemStatus]] = MappingProxyType(
    {
        _I.PENDING: frozenset(
            {_I.IN_PROGRESS, _I.WAITING_RETRY, _I.HELD, _I.PARKED, _I.COMPLETED, _I.FAILED, _I.CANCELLED}
        ),
        _I.IN_PROGRESS: frozenset(
            {_I.PENDING, _I.IN_PROGRESS, _I.WAITING_RETRY, _I.HELD, _I.PARKED, _I.COMPLETED, _I.FAILED, _I.CANCELLED}
        ),
        _I.WAITING_RETRY: frozenset({_I.PENDING, _I.CANCELLED}),
        _I.HELD: frozenset({_I.PENDING, _I.CANCELLED}),
        _I.PARKED: frozenset({_I.PENDING, _I.FAILED, _I.CANCELLED}),
        _I.COMPLETED: frozenset(),
        _I.FAILED: frozenset({_I.PENDING}),
        _I.CANCELLED: frozenset(),
    }
)
"""What may follow a work item's status."""
