"""What the store remembers of a run: its header and state, its items, its scopes, and the envelope of a message.

Every record is an immutable value. An item's *turn* and a run's *epoch* are the versions of their cells: each
transition or change of owner raises the turn, each control action raises the epoch, and every commit checks both.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.kin import ParentLink
from floxide_amqp.core.priorities import Priority, leveled
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus

ScopePath: TypeAlias = tuple[ScopeId, ...]
"""The scopes around an item, outermost first; empty for the run itself."""

BY_HAND: Final = "hand"
"""What outputs arrive at that somebody gives a run, in place of a join."""

Order: TypeAlias = tuple[int, ...]
"""Where an item stands among those of its fan-outs; tuples compare in fan-out order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What never changes of a run.

    Attributes:
        input: The encoded payload the run was started with.
        input_digest: Tells whether another start with the same id has the same input and context.
        context: The initial context, encoded.
        deadline_ms: When the run fails by timeout if it is never resumed, store time; None for never.
        reply_to: Routing key of the client that waits for its end.
        start_item: The first item's id.
        parent: The run that started it, if one did.
        starts_at_ms: When it begins if that was put off, store time; 0 of one that begins at once.
        forked_from: The run and the item of it that this one began with, if it was forked.
        priority: The number of its level of priority, for nodes without their own; 0 for the normal one.
    """

    run_id: RunId
    workflow: str
    version: str
    input: bytes
    input_digest: str
    context: bytes
    created_at_ms: int
    deadline_ms: int | None
    reply_to: str
    start_item: WorkItemId
    parent: ParentLink | None = None
    starts_at_ms: int = 0
    forked_from: ParentLink | None = None
    priority: int = 0

    def queue_for(self, task_queue: str) -> str:
        """Return the task queue for an item of the run, of that of its node."""
        return leveled(task_queue, Priority.numbered(self.priority)) if self.priority else task_queue

    @property
    def begins_at_ms(self) -> int:
        """When it begins, store time: its timeout counts from then on."""
        return self.starts_at_ms or self.created_at_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """Why a run failed: the item, its node, its last error and how often it was tried."""

    node: str
    item_id: WorkItemId
    error: ErrorInfo
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What changes of a run; the version of its cell is the run's epoch.

    Attributes:
        deadline_ms: When the run fails by timeout, store time: the header's, or a new one after it failed and was
            resumed; None for never, and of a run that is over.
        ends_as: Of a run whose steps are being undone, how it ends then.
        was_undone: Whether what its steps did has been undone since, all or some of it.
        is_by_hand: Whether somebody gave it its outputs.
        version: The version of its workflow that it was raised to, which its header has, too: whoever remembers the
            header can tell that it is not what it was. Empty of a run that has the version it was started with.
    """

    status: RunStatus
    updated_at_ms: int
    finished_at_ms: int | None = None
    failure: RunFailure | None = None
    reason: str = ""
    deadline_ms: int | None = None
    ends_as: RunStatus | None = None
    was_undone: bool = False
    is_by_hand: bool = False
    version: str = ""

    def is_over_for(self, item: WorkItem) -> bool:
        """Whether nothing of an item counts any more: the run is over, or undoes what others of its items did."""
        return self.status.is_terminal or (
            self.status is RunStatus.COMPENSATING and item.input.kind is not InputKind.UNDO
        )

    def is_at_work_on(self, item: WorkItem) -> bool:
        """Whether a pending item is to be published: the run is neither paused nor over for it."""
        return self.status is not RunStatus.PAUSED and not self.is_over_for(item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of a run that was deleted, so that its id is not taken for a new one too soon.

    Attributes:
        input_digest: Tells whether another start with the same id has the same input and context.
        status: How the run ended.
        is_cleared: Whether everything else of the run is gone; until then its records are being removed.
        openers: Of a forked run, what opened fan-outs that it began in: items of the run that it was forked from.
    """

    run_id: RunId
    workflow: str
    version: str
    input_digest: str
    status: RunStatus
    ended_at_ms: int
    deleted_at_ms: int
    is_cleared: bool = False
    openers: tuple[str, ...] = ()


class InputKind(Enum):
    """Where an item's input is."""

    PAYLOAD = 0
    """In the item."""
    ARRIVALS = 1
    """The arrivals of the fan-out that `opener` opened, in fan-out order."""
    PAGE = 2
    """Not for a node: the page `number` of `pages` of the outputs of `opener`, to be turned into items."""
    JOIN = 3
    """What arrived at the join of edges `opener`, the item itself; `number` says how many of the arrivals count."""
    JOINS = 4
    """Not for a node: the joins of the scope around it that wait for what cannot come any more are resolved."""
    SWEEP = 5
    """Not for a node: what is left in the scope `opener`, which was closed, is cancelled; `number` counts the pages."""
    FOLD = 6
    """Not all at once: the arrivals of the fan-out that `opener` opened, behind `number` of them; `payload` is what the
    first ones came to."""
    UNDO = 10
    """What the item `opener` took, and its output in `payload` if `pages` is 1; `number` is its place in the log."""


OF_THE_ENGINE = frozenset({InputKind.PAGE, InputKind.JOINS, InputKind.SWEEP})
"""Kinds of input of items that run no node: the engine does something of its own in their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemInput:
    """An item's input, or where it is."""

    kind: InputKind = InputKind.PAYLOAD
    payload: bytes = b""
    opener: str = ""
    number: int = 0
    pages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A value that a signal brought to a run.

    Attributes:
        signal_id: Tells it from all others of the run.
        name: The signal's.
        payload: The value, encoded.
        sent_at_ms: When it was sent, store time.
        number: Tells those apart that one sender sent in the same millisecond, in their order.
    """

    signal_id: str
    name: str
    payload: bytes
    sent_at_ms: int
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One execution of one node.

    Attributes:
        attempt: Failures so far; the next try is number ``attempt + 1``.
        owner: The worker that claimed it; empty exactly when the status is not IN_PROGRESS.
        anchored: Whether an owner entry leads to it (its message was acknowledged early).
        deaths: How many claiming owners died on it; of an at-most-once node, 1 from its claim to its end.
        spared: Whether the death of this owner is not held against it: others are at work beside a suspect.
        lost: How many owners it lost, spared or not.
        loops: Iterations so far of each repeat edge it came by.
        failure: Why a fallback branch runs; inherited along the branch.
        due_ms: When a waiting item becomes pending, store time.
        successors: The items its completion created.
        kept: The successor that the same worker went on with.
        token: The commit that last wrote it.
        note: Why it is where it is, for people: a returned publish, a missing node.
        parked_ms: Since when a parked item is, or one waits that is held for a signal, store time.
        waits_for: What wakes a held item besides its timer, as ``kind:name``: ``child:<run>``,
            ``signal:<name>,<name>``; empty where nothing does.
        begun: Of a node with a compensation, whether its body may have run.
        given: An output that somebody gave by hand, encoded, in place of what the body would return.
        mail: The value of the signal that woke it, its own until its next commit that is no failure.
        timed_out: Whether it was held and its time was over, before what else it may have waited for came.
        ticket: What it holds a concurrency key by, or waits for one; empty where it does neither.
    """

    item_id: WorkItemId
    node: str
    queue: str
    status: WorkItemStatus
    input: ItemInput
    scope: ScopePath = ()
    order: Order = ()
    parent: str = ""
    attempt: int = 0
    owner: WorkerId = WorkerId("")
    anchored: bool = False
    deaths: int = 0
    spared: bool = False
    lost: int = 0
    loops: tuple[tuple[str, int], ...] = ()
    failure: FailureInfo | None = None
    due_ms: int = 0
    successors: tuple[WorkItemId, ...] = ()
    kept: WorkItemId | None = None
    token: bytes = b""
    note: str = ""
    parked_ms: int = 0
    waits_for: str = ""
    begun: bool = False
    given: bytes | None = None
    mail: Mail | None = None
    timed_out: bool = False
    ticket: str = ""

    @property
    def has_wake(self) -> bool:
        """Whether something wakes it if it is held: then it is live, and it waits. One without is held for good."""
        return self.due_ms > 0 or bool(self.waits_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The life of one fan-out that ends in a join: when its live items reach zero, `then` is put.

    The version of its cell is the scope's epoch: 1 while it is open.
    """

    scope_id: ScopeId
    parent: ScopePath
    then: WorkItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a work item message says: where to look, never what is true.

    Attributes:
        turn: The turn of the item when the message was written.
        position: Length of the context log after the commit that caused the message; None forces a read.
        entry: The message's own entry in the index of messages, deleted when its chain ends.
        store: Id of the store that knows the item; empty where nobody said.
        recovered: Whether it replaces a message that was lost, so that somebody may have died running the item.
        trace: Trace context of the causing step (W3C ``traceparent``), may be empty.
    """

    run_id: RunId
    item_id: WorkItemId
    node: str
    workflow: str
    version: str
    queue: str
    turn: int
    scope: ScopePath = ()
    position: int | None = None
    entry: str = ""
    recovered: bool = False
    store: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A numbered message that shows that a queue delivers what was put before it.

    Attributes:
        queue: The task queue it goes through.
        number: Tells a sender's probes apart, for people.
        before: The store's time when it was sent, in milliseconds, as 14 digits: as message entries begin.
        store: The store whose messages it is about.
        shard: The one of its servers whose messages it is about; empty where there is one.
    """

    queue: str
    number: int
    before: str
    store: str = ""
    shard: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One value on its way along one edge.

    Attributes:
        edge: The edge's id; empty where the branch ends and the value is an output.
        suffix: What the successor's order adds to its parent's.
        payload: The encoded value.
    """

    edge: str
    payload: bytes
    suffix: Order = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensable:
    """A step that is to be undone if its run fails or is cancelled.

    Attributes:
        item_id: The item.
        node: The graph's node that undoes it.
        queue: That node's task queue.
        output: What the step returned, encoded; None where nobody knows whether and how it ended.
    """

    item_id: WorkItemId
    node: str
    queue: str
    output: bytes | None = None


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


class StuckBody(NamedTuple):
    """A node's body that did not end in time.

    Attributes:
        since_ms: Store time at which the body began.
        attempt, lost: Of the item then, so that a later try of it is not taken for this one.
        is_given_up: Whether its step is still in the worker's hands: the worker does not vouch for the item any more,
            so others take it. Otherwise the step is over and only the body was left behind.
    """

    run_id: RunId
    item_id: WorkItemId
    node: str
    since_ms: int
    attempt: int
    lost: int
    is_given_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """What a worker says of itself at each heartbeat.

    Attributes:
        beat: Rises by one each time; a watcher compares it with its own monotonic clock.
        at_ms: Store time of the beat, for people.
        host, boot, pid, process_started: Let a watcher on the same machine see at once that the process is gone.
        current_items: Up to 20 of the items in its hands, as ``run/item``.
        life: Tells this process's worker from others of its name.
        stuck: Bodies that did not end in time.
        loop_lag_ms: How late its event loop is.
        threads_lost: Threads held by bodies of sync nodes that nobody waits for any more.
        late_commits: Results that came too late and were refused.
        labels: What it can be asked for.
    """

    worker_id: WorkerId
    beat: int
    at_ms: int
    started_at_ms: int
    host: str
    boot: str
    pid: int
    process_started: str
    status: str
    queues: tuple[str, ...]
    workflows: tuple[str, ...]
    concurrency: int
    current_items: tuple[str, ...] = ()
    items_done: int = 0
    errors: int = 0
    life: str = ""
    stuck: tuple[StuckBody, ...] = ()
    loop_lag_ms: int = 0
    threads_lost: int = 0
    late_commits: int = 0
    labels: tuple[str, ...] = ()


class TimerKind(Enum):
    """What a due timer does."""

    RETRY = "retry"
    HOLD = "hold"
    REPUBLISH = "republish"
    RUN_TIMEOUT = "run timeout"
    RESUME = "resume"
    UNDO = "undo"
    SCHEDULE = "schedule"
    PLACE = "place"

    @property
    def is_of_run(self) -> bool:
        """Whether it is about a run as a whole, or about what is no run, not about one of a run's items."""
        return self not in (TimerKind.RETRY, TimerKind.HOLD, TimerKind.REPUBLISH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A durable wake: fires when store time reaches `due_ms`, if the item still has the turn.

    Attributes:
        turn: The item's; of a resume or an undoing the epoch in which the run goes on; of a schedule the number of its
            state.
        after: Of a resume that has begun: the items up to this one are on their way. Of an undoing: from which entry
            of the log on, as a number, everything is undone.
    """

    due_ms: int
    run_id: RunId
    item_id: WorkItemId = WorkItemId("")
    kind: TimerKind = TimerKind.RETRY
    turn: int = 0
    after: WorkItemId = WorkItemId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A message nobody could read: its bytes and why.

    Attributes:
        cut_from: How many bytes the message had, where `body` is only its beginning; 0 where it is all of it.
        source: The source whose queue it came from, where it is a message of somebody else's: `body` is then what
            `floxide_amqp.stores.source_messages` made of it.
    """

    quarantine_id: str
    queue: str
    reason: str
    body: bytes
    at_ms: int
    cut_from: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that the broker gave up on, of an item that still waits for it.

    Attributes:
        letter_id: Sorts by the time of the first.
        queue: The task queue that gave it up.
        reason: Why the last time, in the broker's word; empty where it did not say.
        count: How often in a row the broker gave up on this item's messages.
        turn: The item's turn that this is about; with another turn, the item has gone on.
        first_at_ms, last_at_ms: When the first and the last of them arrived, store time.
        due_ms: When the item is published again by a timer, store time; 0 if that has been done, or will not be.
        is_kept: Whether nothing happens to the item before somebody requeues or drops the letter.
        body: The last message's bytes.
    """

    letter_id: str
    run_id: RunId
    item_id: WorkItemId
    node: str
    queue: str
    reason: str
    count: int
    turn: int
    first_at_ms: int
    last_at_ms: int
    due_ms: int = 0
    is_kept: bool = False
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """Counters of a run.

    Attributes:
        live: Items that are not final and not held without a wake.
        waiting: Live items that wait for a retry, a timer or a worker.
        held: Items held without a wake condition.
        outputs: Outputs that have arrived.
        completed, failed, retried: Items completed, attempts failed, retries made.
        busy_us: Time spent in node bodies, microseconds.
        to_undo: Steps that are to be undone if the run fails or is cancelled, and are not yet.
        undone, undo_failed: Steps that were undone, and those that could not be.
        hooks: 1 if a node is to run first when the run is cancelled, and has not yet.
    """

    live: int = 0
    waiting: int = 0
    held: int = 0
    outputs: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    busy_us: int = 0
    to_undo: int = 0
    undone: int = 0
    undo_failed: int = 0
    hooks: int = 0


COUNT_NAMES = tuple(RunCounts.__dataclass_fields__)
"""The counters of a run, by name."""
