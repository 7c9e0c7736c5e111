"""What the store remembers of a run: its header and state, its items and its scopes.

Every record is an immutable value. An item's *turn* and a run's *epoch* are the versions of their cells: each
transition or change of owner raises the turn, each control action raises the epoch, and every commit checks both.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.fast_dataclasses import dataclass, maker
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


make_header = maker(RunHeader)


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
        if self.status is RunStatus.RUNNING:  # as of nearly every step
            return True
        return self.status is not RunStatus.PAUSED and not self.is_over_for(item)


make_state = maker(RunState)


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


OF_THE_ENGINE: Final = (InputKind.PAGE, InputKind.JOINS, InputKind.SWEEP)
"""Kinds of input of items that run no node: the engine does something of its own in their place. Each step asks, and a
tuple compares identities, where a set calls the slow hash of enumerations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemInput:
    """An item's input, or where it is."""

    kind: InputKind = InputKind.PAYLOAD
    payload: bytes = b""
    opener: str = ""
    number: int = 0
    pages: int = 0


make_input = maker(ItemInput)


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


@dataclass(frozen=True, slots=True)  # by position where it is read: above 15 keywords a call packs a dict, threefold
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
        mail: The value of the signal that woke it, its own until its next commit that is no failure; one that its body
            has not received when it begins to wait for something else goes back to the mailbox.
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


make_item = maker(WorkItem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The life of one fan-out that ends in a join: when its live items reach zero, `then` is put.

    The version of its cell is the scope's epoch: 1 while it is open.
    """

    scope_id: ScopeId
    parent: ScopePath
    then: WorkItem


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


make_routed = maker(Routed)


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
