"""The words of a decision: what is known of a step, what its node did, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from floxide_amqp.core.changes import (
    Change,
    Condition,
)
from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import WorkerId, WorkItemId
from floxide_amqp.core.records import (
    Routed,
    RunHeader,
    RunState,
    Scope,
    ScopePath,
    Timer,
    WorkItem,
)
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import RunStatus

PAGE_SIZE = 1_000
"""Items that one commit creates at most; a larger fan-out is stored first and then turned into items page by page."""

RUN_ITSELF: ScopePath = ()
"""The scope path of items outside every joined fan-out."""


@dataclass(frozen=True, slots=True)
class MessageAnchor:
    """The chain is held by an unacknowledged message with this entry; an empty entry for a message without one."""

    queue: str
    entry: str


@dataclass(frozen=True, slots=True)
class OwnerAnchor:
    """The chain is held by an owner entry in the store; its message was acknowledged."""


Anchor: TypeAlias = MessageAnchor | OwnerAnchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was known when the node ran, and what the worker may do.

    Attributes:
        epoch: Version of the run's state.
        turn: Version of the item.
        scope: The innermost scope around the item; None where there is none.
        context_length: Length of the context log the node saw.
        is_isolated: Whether the commit stands only if nobody else changed the context meanwhile.
        keep: Task queues whose items this worker may go on with; empty to publish every successor.
        jitter: A random number in [0, 1) for the backoff.
        duration_us: Time the node's body took, microseconds.
        keep_input: Whether the item keeps its input when it is completed.
    """

    graph: Graph
    header: RunHeader
    run: RunState
    epoch: int
    item: WorkItem
    turn: int
    scope: Scope | None
    anchor: Anchor
    worker: WorkerId
    now_ms: int
    retry: RetryPolicy
    context_length: int = 0
    is_isolated: bool = False
    keep: frozenset[str] = frozenset()
    jitter: float = 0.0
    duration_us: int = 0
    keep_input: bool = True


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The node returned `Next` or `NextAll`; `routes` has one entry per value and edge taken."""

    routes: tuple[Routed, ...]
    delta: bytes | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The node returned `Hold`; without `for_ms` nothing but a change of the context lets it run again."""

    for_ms: int | None = None
    delta: bytes | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The node raised, timed out or returned `Abort`.

    Attributes:
        is_final: Never retried (an `Abort`, or an error its policy gives up on).
        payload: The node's input, encoded, for a fallback that is a join.
    """

    error: ErrorInfo
    is_final: bool = False
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class PageRead:
    """The item stands for a page of a large fan-out, and this is the page."""

    routes: tuple[Routed, ...]


Outcome: TypeAlias = Succeeded | Held | Failed | PageRead


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish: the item, its turn, the message's entry, and whether it replaces one that was lost.

    Attributes:
        tries: How many messages for the item were lost before it, as noted with its entry.
    """

    item: WorkItem
    turn: int
    entry: str
    recovered: bool = False
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What the runtime does once the commit stands.

    Attributes:
        publish: Messages to publish before the own delivery is acknowledged.
        keep: The successor to go on with.
        timer: A timer that was set, for the local heap.
        finished: The terminal status the run reached.
    """

    publish: tuple[Outgoing, ...] = ()
    keep: WorkItem | None = None
    timer: Timer | None = None
    finished: RunStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One commit and its effects.

    Attributes:
        effects: Performed when the commit stands.
        closing: The scope whose count this commit may bring to zero; None where it cannot.
        closing_effects: Performed instead, if the commit brought it to zero.
        epoch_after: The run's epoch once the commit stands (unless it ended the run).
    """

    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]
    effects: Effects = Effects()
    closing: ScopePath | None = None
    closing_effects: Effects = Effects()
    epoch_after: int = 0


def message_entry(now_ms: int, item_id: WorkItemId, turn: int) -> str:
    """Return the entry of a message in the index of messages: ordered by time, one per item and turn."""
    return f"{now_ms:014d}:{item_id}:{turn}"
