"""What came of a step: what its node did, or what the engine read in the place of one."""

from __future__ import annotations

from typing import TypeAlias

from floxide_amqp.core.changes import Change
from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.joins import JoinInstance
from floxide_amqp.core.kin import ChildRecord
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.records import Mail, Routed, ScopePath, WorkItem


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The node returned `Next` or `NextAll`; `routes` has one entry per value and edge taken."""

    routes: tuple[Routed, ...]
    delta: bytes | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The node returned `Hold`; without anything that wakes it, only a change of the context lets it run again.

    Attributes:
        for_ms: How long; with `until`, how long at most.
        due_ms: Until when, store time, in place of `for_ms`.
        until: Signals of which one is waited for.
        mail: A value of one of them that is there already, and ends the wait at once.
        left: The value that woke it and that its body did not receive, where that waits for something else now.
    """

    for_ms: int | None = None
    delta: bytes | None = None
    due_ms: int | None = None
    until: tuple[str, ...] = ()
    mail: Mail | None = None
    left: Mail | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The node raised, timed out or returned `Abort`.

    Attributes:
        is_final: Never retried (an `Abort`, or an error its policy gives up on).
        payload: The node's input, encoded, for a fallback that is a join.
        collected: The `FailureInfo` that arrives, encoded, where the gather around collects what fails.
    """

    error: ErrorInfo
    is_final: bool = False
    payload: bytes = b""
    collected: bytes = b""


@dataclass(frozen=True, slots=True)
class PageRead:
    """The item stands for a page of a large fan-out, and this is the page."""

    routes: tuple[Routed, ...]


@dataclass(frozen=True, slots=True)
class JoinsRead:
    """The item stands for the joins of its scope that wait for what cannot come any more.

    Attributes:
        joins: Those to be resolved now, each with the number of its arrivals.
        has_more: Whether others of them are to be resolved at once too.
        lost: How many joins are counted that wait, and are not there.
    """

    joins: tuple[tuple[JoinInstance, int], ...] = ()
    has_more: bool = False
    lost: int = 0


@dataclass(frozen=True, slots=True)
class CallsChild:
    """The node starts a run of another workflow, or waits for one that it has started.

    Attributes:
        child: What is known of it from now on.
        version: Of what is known of it so far; 0 for a new one.
        letter: What starts it; None where it goes on already.
        routes: Where its id goes; None where the item waits for its end.
    """

    child: ChildRecord
    version: int
    letter: Letter | None
    routes: tuple[Routed, ...] | None = None


@dataclass(frozen=True, slots=True)
class Folded:
    """A step of a fold came to something, and there may be more to fold.

    Attributes:
        payload: What the values so far came to, and behind which arrival the next step goes on.
        number: How many values that were.
    """

    payload: bytes
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """An item that is left in a scope that was closed: what is known of it, and what else leads to it."""

    item: WorkItem
    turn: int
    leads: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The item stands for what is left in a scope that was closed.

    Attributes:
        left: Items of it that are to be cancelled now.
        counts: How many items each of the scopes around them counts.
        waiting: How many joins wait in each of these.
        closed: Those of them that were closed: around one it is not counted itself, but the item that sweeps it.
        at_work: Items of it whose bodies must end first.
        after: Behind which item others may be left; None where no more are.
    """

    left: tuple[Left, ...] = ()
    counts: tuple[tuple[ScopePath, int], ...] = ()
    waiting: tuple[tuple[ScopePath, int], ...] = ()
    closed: frozenset[ScopePath] = frozenset()
    at_work: tuple[WorkItemId, ...] = ()
    after: bytes | None = None


Outcome: TypeAlias = Succeeded | Held | Failed | PageRead | JoinsRead | CallsChild | Folded | Swept
