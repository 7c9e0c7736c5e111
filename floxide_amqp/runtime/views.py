"""What the orchestrator shows of runs, items and workers: plain values for people and dashboards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from floxide_amqp.core.attributes import Attributes, AttributeValue
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.worker_records import StuckBody


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinWaitInfo:
    """What a join of edges has and lacks.

    Attributes:
        arrived: The first ten of the sources that have arrived, as the workflow names them.
        arrivals: How many have.
        missing: The first ten of those that have not.
        sources: How many there are in all.
        needed: How many of them let the join's node run.
    """

    arrived: tuple[str, ...]
    arrivals: int
    missing: tuple[str, ...]
    sources: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitInfo:
    """Something that live items of a run wait for.

    Attributes:
        status: How they wait: parked, waiting for a retry, held, or pending in a task queue that nobody serves.
        node: Whose items they are.
        what: What they wait for, in words, as the end of "waits for …".
        items: How many of the run's first 100 live items; 0 of a join of edges, which is no item before it runs.
        since: When the first of them was parked, or put into a task queue that nobody serves; None of the others.
        until: When the first of them goes on by itself; None where it does not.
        join: What has arrived at a join of edges that waits for more, and what has not; None of all else.
    """

    status: WorkItemStatus
    node: str
    what: str
    items: int
    since: datetime | None = None
    until: datetime | None = None
    join: JoinWaitInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoInfo:
    """How far a run is with undoing what its steps did.

    Attributes:
        left: Steps that have begun and are not undone; of a run that goes on, those that would be.
        done: Steps that were undone.
        failed: Steps whose compensation failed for good; the errors of the run say how.
    """

    left: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run as shown.

    Attributes:
        failure: Why it failed, in one line; empty otherwise.
        reason: What was said when it was paused or cancelled; may be empty.
        deadline_at: When it fails by its own timeout; None also of a run that is over.
        waits: What live items wait for; in a list of runs only where the run as a whole is waiting.
        attributes: What it may be found by, by name.
        undo: How far it is with undoing what its steps did, if any of them can be undone.
        forked_from: The run and the item of it that this one began with; empty of one that was not forked.
        parent: The run that started it; empty of one that no run did.
    """

    run_id: str
    workflow: str
    version: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    deadline_at: datetime | None
    failure: str
    reason: str
    waits: tuple[WaitInfo, ...] = ()
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    undo: UndoInfo = field(default_factory=UndoInfo)
    forked_from: tuple[str, str] | tuple[()] = ()
    parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRun:
    """A run whose record cannot be read, and why."""

    run_id: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A page of runs, newest first; `next_cursor` is empty on the last, and only there.

    Attributes:
        unreadable: Runs of the page of which nothing can be said, because their records are damaged or of a newer
            release.
    """

    runs: Sequence[RunInfo]
    next_cursor: str
    unreadable: Sequence[UnreadableRun] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetrics:
    """Counters of a run.

    Attributes:
        live_items: Items not ended.
        waiting_items: Live items that wait for a retry, a timer or a worker.
        completed_items: Items completed.
        failed_attempts: Attempts that failed.
        retries: Retries scheduled.
        busy_time: Time spent in node bodies, over all workers.
    """

    live_items: int
    waiting_items: int
    completed_items: int
    failed_attempts: int
    retries: int
    busy_time: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItemInfo:
    """A work item as shown.

    Attributes:
        attempts: Tries so far.
        due_at: When a waiting item goes on.
        note: Why it is where it is; may be empty.
        workers_lost: How many workers died while they ran it.
        ended_at, duration: Of an ended item.
    """

    item_id: str
    node: str
    status: WorkItemStatus
    attempts: int
    owner: str = ""
    queue: str = ""
    parent: str = ""
    due_at: datetime | None = None
    note: str = ""
    workers_lost: int = 0
    ended_at: datetime | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something that somebody did to a run.

    Attributes:
        action: What, as a word of `Orchestrator`: ``cancel``, ``edit_context``.
        by: Who, in their own words; the process where nobody said.
        reason: Why; may be empty.
        detail: To what: an item, fields of the context; may be empty.
    """

    at: datetime
    action: str
    by: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """A failed attempt as shown."""

    item_id: str
    node: str
    attempt: int
    at: datetime
    error_type: str
    message: str
    traceback: str
    worker: str
    will_retry: bool


class DeadLetterKind(Enum):
    """Why a message lies among the dead letters."""

    UNDELIVERED = "undelivered"
    """The broker gave up on it, and an item waits for it."""
    UNREADABLE = "unreadable"
    """Nobody can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterInfo:
    """A dead letter as shown.

    Attributes:
        letter_id: For `Orchestrator.requeue_dead_letter` and `Orchestrator.drop_dead_letter`.
        reason: Why the broker gave the message up the last time, or what is wrong with it.
        count: How often in a row the broker gave up on this item's messages; 1 of an unreadable one.
        run_id, item_id, node: Whose message it is; empty of an unreadable one.
        first_at, last_at: When the first and the last of them arrived.
        again_at: When the item is, or was, published again by itself; None where nothing happens before somebody
            decides.
        body: The message's bytes.
    """

    letter_id: str
    kind: DeadLetterKind
    queue: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    run_id: str = ""
    item_id: str = ""
    node: str = ""
    again_at: datetime | None = None
    body: bytes = b""


class Liveness(Enum):
    """How fresh a worker's heartbeat is."""

    ALIVE = "alive"
    STALE = "stale"
    """Late, but not long enough to be called dead."""
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker as shown.

    Attributes:
        stuck: Bodies that did not end in time; `StuckBody.is_given_up` where others go on with the item.
        loop_lag: How long its event loop has stood still.
        threads_lost: Threads held by bodies of sync nodes that nobody waits for any more.
        late_commits: Results that came too late and were refused.
        labels: What it can be asked for.
    """

    worker_id: str
    liveness: Liveness
    status: str
    host: str
    pid: int
    queues: tuple[str, ...]
    workflows: tuple[str, ...]
    concurrency: int
    started_at: datetime
    last_beat_at: datetime
    current_items: tuple[str, ...]
    items_done: int
    error_count: int
    stuck: tuple[StuckBody, ...] = ()
    loop_lag: timedelta = timedelta(0)
    threads_lost: int = 0
    late_commits: int = 0
    labels: tuple[str, ...] = ()
