"""What a decision changes, in the words of the domain; `floxide_amqp.stores` turns it into one atomic batch."""

from __future__ import annotations

from typing import TypeAlias

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.joins import JoinInstance
from floxide_amqp.core.kin_changes import KinChange
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.limit_changes import LimitChanged
from floxide_amqp.core.log_changes import LogChange
from floxide_amqp.core.message_records import DeadLetter
from floxide_amqp.core.place_changes import PlaceChange
from floxide_amqp.core.records import Order, Routed, RunHeader, RunState, Scope, ScopePath, WorkItem
from floxide_amqp.core.signal_changes import SignalChange
from floxide_amqp.core.statuses import RunStatus


@dataclass(frozen=True, slots=True)
class PutItem:
    """Write an item; it stays in the run's list of live items while `is_listed`.

    Attributes:
        dropped: The input that it had until now, where it may keep it no longer; empty where it does.
    """

    item: WorkItem
    is_listed: bool
    dropped: bytes = b""


@dataclass(frozen=True, slots=True)
class PutHeader:
    """Write a run's header and list the run."""

    header: RunHeader


@dataclass(frozen=True, slots=True)
class RelistRun:
    """Say of a run in the list of those of its status that it has another version of its workflow."""

    status: RunStatus
    version: str


@dataclass(frozen=True, slots=True)
class MoveContext:
    """Give the run's context another form, as of a length of its log; what led to it is forgotten.

    Attributes:
        position: The length.
        snapshot: The context, packed and sealed as a snapshot is; empty where the log is, and the header says it.
        segments: How many segments the snapshots before had.
    """

    position: int
    snapshot: bytes
    segments: int


@dataclass(frozen=True, slots=True)
class PutAttributes:
    """Give a run other attributes in place of those it had."""

    before: Attributes
    after: Attributes


@dataclass(frozen=True, slots=True)
class PutRun:
    """Write a run's state and move it from the list of its former status, if it had one."""

    state: RunState
    was: RunStatus | None


@dataclass(frozen=True, slots=True)
class OpenScope:
    """Create a scope."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class CloseScope:
    """Close a scope: no step of an item in it can commit any more."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class CountScope:
    """Add to the number of a scope's live items; the empty path is the run itself."""

    scope: ScopePath
    amount: int


@dataclass(frozen=True, slots=True)
class Count:
    """Add to one of the run's counters (see `RunCounts`)."""

    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class Arrive:
    """Record a value that reached a join, or with `opener` empty an output of the run."""

    opener: str
    order: Order
    item_id: WorkItemId
    payload: bytes


@dataclass(frozen=True, slots=True)
class PutPage:
    """Keep one page of a fan-out's outputs until its items are created."""

    opener: WorkItemId
    number: int
    routes: tuple[Routed, ...]


@dataclass(frozen=True, slots=True)
class DropPage:
    """Forget a page whose items have been created."""

    opener: WorkItemId
    number: int


@dataclass(frozen=True, slots=True)
class PutDeadLetter:
    """Write and list the dead letter of an item, in place of an earlier one."""

    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class DropDeadLetter:
    """Forget the dead letter of an item."""

    letter_id: str
    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class PostLetter:
    """Write a letter, in the batch that causes it; the run is its sender."""

    letter: Letter


@dataclass(frozen=True, slots=True)
class MarkReceived:
    """Note that a letter was applied to this run, where nothing else tells it; kept as long as the run is."""

    letter_id: str


@dataclass(frozen=True, slots=True)
class ArriveAt:
    """Record a value that reached a join of edges."""

    join_id: WorkItemId
    position: int
    item_id: WorkItemId
    payload: bytes


@dataclass(frozen=True, slots=True)
class AwaitJoin:
    """Note, of the first of several values that a join of edges needs, that the join waits for more."""

    scope: ScopePath
    join: JoinInstance


@dataclass(frozen=True, slots=True)
class CountJoins:
    """Add to one of the counters of joins of edges (see `floxide_amqp.core.joins`)."""

    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class WhenJoins:
    """After the batch's own counts: if a counter of joins of edges equals this, change more."""

    name: str
    equals: int
    then: tuple[Change, ...]
    otherwise: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class WhenScope:
    """After the batch's own counts: if the scope has this many live items, change more."""

    scope: ScopePath
    equals: int
    then: tuple[Change, ...]
    otherwise: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class WhenCount:
    """After the batch's own counts: if a counter of the run equals this, change more."""

    name: str
    equals: int
    then: tuple[Change, ...]
    otherwise: tuple[Change, ...] = ()


Change: TypeAlias = (
    PutItem
    | PutHeader
    | PutAttributes
    | RelistRun
    | MoveContext
    | PutRun
    | OpenScope
    | CloseScope
    | CountScope
    | Count
    | Arrive
    | PutPage
    | DropPage
    | PutDeadLetter
    | DropDeadLetter
    | PostLetter
    | MarkReceived
    | KinChange
    | SignalChange
    | LimitChanged
    | ArriveAt
    | AwaitJoin
    | CountJoins
    | WhenJoins
    | WhenScope
    | WhenCount
    | PlaceChange
    | LogChange
)
