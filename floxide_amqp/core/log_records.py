"""The lines of a run's logs: items that ended, attempts that failed, what somebody did."""

from __future__ import annotations

from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.fast_dataclasses import dataclass, maker
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.statuses import WorkItemStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """Something that somebody did to a run.

    Attributes:
        at_ms: When, store time.
        action: What, as one word of `Orchestrator`: ``cancel``, ``edit_context``.
        by: Who, in the caller's words; the process where nobody said.
        reason: Why; may be empty.
        detail: To what: items, names of fields; may be empty.
    """

    at_ms: int
    action: str
    by: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of a run's history: an item that ended.

    Attributes:
        context_length: What of the context's log its body had seen; -1 where an older release did not say.
    """

    item_id: WorkItemId
    node: str
    status: WorkItemStatus
    attempts: int
    ended_at_ms: int
    duration_us: int
    worker: str
    parent: str
    context_length: int = -1


make_entry = maker(HistoryEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One failed attempt of one item."""

    item_id: WorkItemId
    node: str
    attempt: int
    at_ms: int
    error: ErrorInfo
    worker: str
    will_retry: bool
