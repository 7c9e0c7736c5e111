"""The words of a decision: what is known of a step, and what follows from its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from floxide_amqp.core.changes import Change
from floxide_amqp.core.commit_conditions import Condition
from floxide_amqp.core.fast_dataclasses import dataclass, maker, replace
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import WorkerId, WorkItemId
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.records import Mail, RunHeader, RunState, Scope, ScopePath, WorkItem
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.timers import Timer

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


@dataclass(frozen=True, slots=True)
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
        mailbox: Version of the run's mailbox as the body saw it.
        taken: What the body received of it.
        letters: What the body sends to other runs.
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
    mailbox: int = 0
    taken: tuple[Mail, ...] = ()
    letters: tuple[Letter, ...] = ()


make_step = maker(Step)


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
        letters: Letters that the commit has written, to be delivered at once.
        cancelled: Items of the run that the commit has cancelled, or that are to be once their bodies have ended: these
            may be at work somewhere, and are interrupted.
    """

    publish: tuple[Outgoing, ...] = ()
    keep: WorkItem | None = None
    timer: Timer | None = None
    finished: RunStatus | None = None
    letters: tuple[Letter, ...] = ()
    cancelled: tuple[WorkItemId, ...] = ()


make_effects = maker(Effects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """A join of edges that a commit may let run: it did if the counter is in a range once the commit stands.

    Attributes:
        name: The counter of its arrivals.
        least, most: The range, both included.
        effects: Performed as well, if so.
    """

    name: str
    least: int
    most: int
    effects: Effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One commit and its effects.

    Attributes:
        effects: Performed when the commit stands.
        closing: The scope whose count this commit may bring to zero; None where it cannot.
        closing_effects: Performed instead, if the commit brought it to zero.
        epoch_after: The run's epoch once the commit stands (unless it ended the run).
        undoing: Performed instead of the end of a run that fails or is cancelled, where something is to be undone.
        firing: Joins of edges that it may let run.
        resolving: Performed instead, if the scope came to zero while joins in it wait.
        closed: Performed instead, if so much arrived at the gather of this scope that it was closed.
        closed_scope: That scope.
    """

    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]
    effects: Effects = Effects()
    closing: ScopePath | None = None
    closing_effects: Effects = Effects()
    epoch_after: int = 0
    undoing: Effects | None = None
    firing: tuple[Firing, ...] = ()
    resolving: Effects | None = None
    closed: Effects | None = None
    closed_scope: ScopePath = RUN_ITSELF

    @property
    def may_keep(self) -> WorkItem | None:
        """The item that the worker goes on with, if the commit puts it: there is one such at most."""
        kept = self.effects.keep or self.closing_effects.keep or (self.closed and self.closed.keep)
        return kept or next((fired.effects.keep for fired in self.firing if fired.effects.keep is not None), None)

    @property
    def has_letters(self) -> bool:
        """Whether the commit may write letters."""
        if self.effects.letters or self.closing_effects.letters:
            return True
        if self.undoing is None and self.resolving is None and self.closed is None:
            return False
        rarer = (self.undoing, self.resolving, self.closed)
        return any(effects is not None and effects.letters for effects in rarer)

    def with_effects(self, change: Callable[[Effects], Effects]) -> Decision:
        """Return the decision with whichever of its effects are to be performed changed, but for those on top."""
        return replace(
            self,
            effects=change(self.effects),
            closing_effects=change(self.closing_effects),
            undoing=None if self.undoing is None else change(self.undoing),
            resolving=None if self.resolving is None else change(self.resolving),
            closed=None if self.closed is None else change(self.closed),
        )

    @property
    def is_open(self) -> bool:
        """Whether only the commit's reply tells which of its effects are to be performed."""
        return self.closing is not None or bool(self.firing) or self.closed is not None


make_decision = maker(Decision)


def message_entry(now_ms: int, item_id: WorkItemId, turn: int) -> str:
    """Return the entry of a message in the index of messages: ordered by time, one per item and turn."""
    return f"{now_ms:014d}:{item_id}:{turn}"
