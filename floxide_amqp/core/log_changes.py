"""Changes that append to a run's logs: its context, errors, history, moments, audit log, and what is to be undone."""

from __future__ import annotations

from typing import TypeAlias

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.log_records import AuditRecord, ErrorRecord, HistoryEntry
from floxide_amqp.core.moments import Moment
from floxide_amqp.core.records import Compensable


@dataclass(frozen=True, slots=True)
class AppendDelta:
    """Append what a node changed to the run's context."""

    item_id: WorkItemId
    delta: bytes


@dataclass(frozen=True, slots=True)
class AppendError:
    """Append a failed attempt to the run's errors."""

    record: ErrorRecord


@dataclass(frozen=True, slots=True)
class AppendHistory:
    """Append an ended item to the run's history."""

    entry: HistoryEntry


@dataclass(frozen=True, slots=True)
class AppendMoment:
    """Append something that happened to what the run notes of itself."""

    moment: Moment


@dataclass(frozen=True, slots=True)
class AppendAudit:
    """Append what somebody did to the run's audit log."""

    record: AuditRecord


@dataclass(frozen=True, slots=True)
class AppendCompensable:
    """Append a completed step to the run's log of those that are to be undone."""

    step: Compensable


LogChange: TypeAlias = AppendDelta | AppendError | AppendHistory | AppendMoment | AppendAudit | AppendCompensable
