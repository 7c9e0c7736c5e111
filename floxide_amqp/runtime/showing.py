"""How records are shown: each function makes one of the values of `floxide_amqp.runtime.views`."""

from __future__ import annotations

from datetime import timedelta

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.instants import at
from floxide_amqp.core.log_records import AuditRecord, ErrorRecord, HistoryEntry
from floxide_amqp.core.message_records import DeadLetter, Quarantined
from floxide_amqp.core.records import InputKind, RunState, WorkItem
from floxide_amqp.core.run_counts import RunCounts
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.runtime.views import (
    AttemptError,
    AuditEntry,
    DeadLetterInfo,
    DeadLetterKind,
    Liveness,
    RunInfo,
    RunMetrics,
    UndoInfo,
    WaitInfo,
    WorkerInfo,
    WorkItemInfo,
)
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import STATUS_LETTERS


def failure_in_words(state: RunState) -> str:
    """Return why a run failed, in one line; empty where it did not."""
    if state.failure is None:
        return ""
    where = f"{state.failure.node}: " if state.failure.node else ""
    return f"{where}{state.failure.error.error_type}: {state.failure.error.message}"


def run_info(run: StoredRun, waits: tuple[WaitInfo, ...] = (), attributes: Attributes | None = None) -> RunInfo:
    """Return a stored run as shown."""
    header, state = run.header, run.state
    return RunInfo(
        run_id=header.run_id, workflow=header.workflow, version=header.version, status=run.status,
        created_at=at(header.created_at_ms), updated_at=at(state.updated_at_ms),
        finished_at=None if state.finished_at_ms is None else at(state.finished_at_ms),
        deadline_at=None if state.deadline_ms is None else at(state.deadline_ms),
        failure=failure_in_words(state), reason=state.reason, waits=waits, attributes=attributes or {},
        undo=UndoInfo(left=run.counts.to_undo, done=run.counts.undone, failed=run.counts.undo_failed),
        forked_from=() if header.forked_from is None else (header.forked_from.run_id, header.forked_from.item_id),
        parent="" if header.parent is None else header.parent.run_id,
    )  # fmt: skip


def metrics(counts: RunCounts) -> RunMetrics:
    """Return a run's counters as shown."""
    return RunMetrics(
        live_items=counts.live, waiting_items=counts.waiting, completed_items=counts.completed,
        failed_attempts=counts.failed, retries=counts.retried, busy_time=timedelta(microseconds=counts.busy_us),
    )  # fmt: skip


def live_item(item: WorkItem, run_status: RunStatus) -> WorkItemInfo:
    """Return an item that has not ended as shown; in a cancelled run it is cancelled."""
    return WorkItemInfo(
        item_id=item.item_id, node=item.node, attempts=item.attempt, owner=item.owner, queue=item.queue,
        status=WorkItemStatus.CANCELLED if _is_given_up(item, run_status) else item.status,
        parent=item.parent, due_at=at(item.due_ms) if item.due_ms else None, note=item.note,
        workers_lost=item.lost,
    )  # fmt: skip


def _is_given_up(item: WorkItem, run_status: RunStatus) -> bool:
    """Whether an item that has not ended never will: its run was cancelled, is undone, or was completed by hand."""
    if run_status is RunStatus.COMPLETED:
        return item.status is not WorkItemStatus.HELD
    if run_status is RunStatus.COMPENSATING:
        return item.input.kind is not InputKind.UNDO and item.status is not WorkItemStatus.FAILED
    return run_status is RunStatus.CANCELLED


def unreadable_item(item_id: str, status_letters: bytes, problem: str) -> WorkItemInfo:
    """Return an item that has not ended and whose record cannot be read, as shown; the list of items has its status."""
    known = {letters: status for status, letters in STATUS_LETTERS.items()}
    status = known.get(status_letters, WorkItemStatus.PENDING)
    return WorkItemInfo(item_id=item_id, node="", status=status, attempts=0, note=problem)


def ended_item(entry: HistoryEntry) -> WorkItemInfo:
    """Return a line of history as shown."""
    return WorkItemInfo(
        item_id=entry.item_id, node=entry.node, status=entry.status, attempts=entry.attempts, owner=entry.worker,
        parent=entry.parent, ended_at=at(entry.ended_at_ms), duration=timedelta(microseconds=entry.duration_us),
    )  # fmt: skip


def audit_entry(record: AuditRecord) -> AuditEntry:
    """Return a record of an audit log as shown."""
    return AuditEntry(
        at=at(record.at_ms), action=record.action, by=record.by, reason=record.reason, detail=record.detail
    )  # fmt: skip


def attempt_error(record: ErrorRecord) -> AttemptError:
    """Return a failed attempt as shown."""
    return AttemptError(
        item_id=record.item_id, node=record.node, attempt=record.attempt, at=at(record.at_ms),
        error_type=record.error.error_type, message=record.error.message, traceback=record.error.traceback,
        worker=record.worker, will_retry=record.will_retry,
    )  # fmt: skip


def worker_info(record: WorkerRecord, liveness: Liveness) -> WorkerInfo:
    """Return a worker as shown."""
    return WorkerInfo(
        worker_id=record.worker_id, liveness=liveness, status=record.status, host=record.host, pid=record.pid,
        queues=record.queues, workflows=record.workflows, concurrency=record.concurrency,
        started_at=at(record.started_at_ms), last_beat_at=at(record.at_ms), current_items=record.current_items,
        items_done=record.items_done, error_count=record.errors, stuck=record.stuck,
        loop_lag=timedelta(milliseconds=record.loop_lag_ms), threads_lost=record.threads_lost,
        late_commits=record.late_commits, labels=record.labels,
    )  # fmt: skip


def undelivered_letter(letter: DeadLetter, reason: str) -> DeadLetterInfo:
    """Return a stored dead letter as shown, with its reason in words."""
    return DeadLetterInfo(
        letter_id=letter.letter_id, kind=DeadLetterKind.UNDELIVERED, queue=letter.queue, reason=reason,
        count=letter.count, first_at=at(letter.first_at_ms), last_at=at(letter.last_at_ms), run_id=letter.run_id,
        item_id=letter.item_id, node=letter.node, body=letter.body,
        again_at=None if letter.is_kept else at(letter.due_ms or letter.last_at_ms),
    )  # fmt: skip


def unreadable_letter(message: Quarantined) -> DeadLetterInfo:
    """Return a quarantined message as shown among the dead letters."""
    return DeadLetterInfo(
        letter_id=message.quarantine_id, kind=DeadLetterKind.UNREADABLE, queue=message.queue, reason=message.reason,
        count=1, first_at=at(message.at_ms), last_at=at(message.at_ms), body=message.body,
    )  # fmt: skip
