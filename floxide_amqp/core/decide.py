"""The heart: what one step commits and what follows from it.

`decide(step, outcome)` is a pure function of what was read at admission and of what the node did. It returns the
conditions of the commit, the changes, and the effects that the runtime performs once the commit stands. What happens
when a scope or the run reaches zero live items is part of the same commit, under `WhenScope`, never a later one.

Invariants it keeps:

* Every commit checks the item's exact turn, the run's epoch and that each enclosing scope is open.
* A scope's count changes by (live successors - 1); a fan-out that leads to a join leaves its parent's count alone,
  because the child scope stands for the item there.
* Each live item stays reachable: by its message's entry, an owner entry, a timer, or the list of live items of a
  paused run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from floxide_amqp.core.changes import (
    AppendDelta,
    AppendError,
    AppendHistory,
    Arrive,
    Change,
    Condition,
    ContextLengthIs,
    Count,
    CountScope,
    DropPage,
    DropTimer,
    EnterMessage,
    EnterOwner,
    EpochIs,
    LeaveMessage,
    LeaveOwner,
    OpenScope,
    PutItem,
    PutPage,
    PutRun,
    ScopeIsOpen,
    SetTimer,
    TurnIs,
    WhenCount,
    WhenScope,
)
from floxide_amqp.core.failure import ErrorInfo, FailureInfo, describe_error
from floxide_amqp.core.graph import Edge, Graph
from floxide_amqp.core.ids import ScopeId, WorkerId, WorkItemId, derive_item_id
from floxide_amqp.core.records import (
    ErrorRecord,
    HistoryEntry,
    InputKind,
    ItemInput,
    Order,
    Routed,
    RunFailure,
    RunHeader,
    RunState,
    Scope,
    ScopePath,
    Timer,
    TimerKind,
    WorkItem,
)
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import IterationLimitError, RunStalledError

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
    """A message to publish: the item, its turn and the message's entry."""

    item: WorkItem
    turn: int
    entry: str


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


def decide(step: Step, outcome: Outcome) -> Decision:
    """Return what the step commits and what follows.

    Args:
        step: What was known when the node ran.
        outcome: What it did.
    """
    match outcome:
        case Succeeded():
            exceeded = _exceeded_repeat(step, outcome.routes)
            if exceeded is not None:
                return _fail(step, Failed(error=exceeded, is_final=True))
            return _succeed(step, outcome)
        case Held():
            return _hold(step, outcome)
        case Failed():
            return _fail(step, outcome)
        case PageRead():
            return _expand(step, outcome)


class _Plan:
    """Collects the changes of one step."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.changes: list[Change] = []
        self.created: list[WorkItem] = []
        self.may_publish = step.run.status in (RunStatus.PENDING, RunStatus.RUNNING)
        self.status_now = step.run.status
        self.epoch_after = step.epoch
        self.closing: ScopePath | None = None

    # --- what the step creates

    def create(
        self,
        routes: Sequence[Routed],
        scope: ScopePath,
        *,
        failure: FailureInfo | None,
        input_: ItemInput | None = None,
    ) -> int:
        """Turn routes into items, arrivals and outputs of a scope; return how many items."""
        item, before = self.step.item, len(self.created)
        for route in routes:
            order = item.order + route.suffix
            edge = self.step.graph.edge(route.edge) if route.edge else None
            if edge is None:
                if scope == RUN_ITSELF:
                    self.changes += (Arrive("", order, item.item_id, route.payload), Count("outputs", 1))
            elif self.step.graph.nodes[edge.target].is_gather:
                opener = scope[-1].partition(".")[0]
                self.changes.append(Arrive(opener, order, item.item_id, route.payload))
            else:
                self.created.append(self._successor(edge, route, scope, order, failure, input_))
        return len(self.created) - before

    def _successor(
        self,
        edge: Edge,
        route: Routed,
        scope: ScopePath,
        order: Order,
        failure: FailureInfo | None,
        input_: ItemInput | None,
    ) -> WorkItem:
        item = self.step.item
        loops = item.loops if edge.repeat is None else _count_loop(item.loops, edge)
        return WorkItem(
            item_id=derive_item_id(self.step.header.run_id, item.item_id, edge.id, route.suffix),
            node=edge.target,
            queue=self.step.graph.nodes[edge.target].options.queue,
            status=WorkItemStatus.PENDING,
            input=input_ if input_ is not None else ItemInput(payload=route.payload),
            scope=scope,
            order=order,
            parent=item.item_id,
            loops=loops,
            failure=failure,
        )

    def engine_item(self, opener: WorkItem, number: int, pages: int, scope: ScopePath) -> WorkItem:
        """Return the item that turns page `number` of a large fan-out into items."""
        origin = opener.input.opener if opener.input.kind is InputKind.PAGE else opener.item_id
        return replace(
            _fresh(opener),
            item_id=derive_item_id(self.step.header.run_id, origin, "page", (number,)),
            input=ItemInput(kind=InputKind.PAGE, opener=origin, number=number, pages=pages),
            scope=scope,
            parent=opener.item_id,
        )

    def joining_item(self, opener: WorkItem, join: str, scope: ScopePath) -> WorkItem:
        """Return the item of the join that closes the fan-out of `opener`, in the scope around it."""
        origin = opener.input.opener if opener.input.kind is InputKind.PAGE else opener.item_id
        return replace(
            _fresh(opener),
            item_id=derive_item_id(self.step.header.run_id, origin, "join"),
            node=join,
            queue=self.step.graph.nodes[join].options.queue,
            input=ItemInput(kind=InputKind.ARRIVALS, opener=origin),
            scope=scope,
            parent=origin,
        )

    # --- counting

    def count(self, scope: ScopePath, amount: int, *, may_close: bool) -> None:
        """Change the number of live items of a scope and note whether that may bring it to zero."""
        if amount:
            self.changes.append(CountScope(scope, amount))
        if may_close:
            self.closing = scope

    def tally(self, **amounts: int) -> None:
        """Change the run's counters."""
        self.changes += (Count(name, amount) for name, amount in amounts.items() if amount)

    # --- the own item

    def finish(self, status: WorkItemStatus, *, attempts: int, node: str | None = None) -> None:
        """Write the own item as ended, with its successors and a pointer to the one the worker goes on with.

        Where this commit may close a scope, the pointer leads to the item that would be put: it is there only if so.
        """
        step = self.step
        created = self.created
        if self.closing is not None and self.closing != RUN_ITSELF and step.scope is not None:
            created = [step.scope.then]
        kept = next((item.item_id for item in created if self.may_publish and item.queue in step.keep), None)
        done = replace(
            step.item,
            status=status,
            owner=WorkerId(""),
            anchored=False,
            successors=tuple(item.item_id for item in created),
            kept=kept,
            attempt=attempts,
            note="",
        )
        history = HistoryEntry(
            item_id=done.item_id,
            node=node or done.node,
            status=status,
            attempts=attempts,
            ended_at_ms=step.now_ms,
            duration_us=step.duration_us,
            worker=step.worker,
            parent=done.parent,
        )
        self.changes += (PutItem(done, is_listed=False), AppendHistory(history))

    def suspend(self, item: WorkItem) -> None:
        """Write the own item as waiting for something; it keeps its place in the list of live items."""
        self.changes.append(PutItem(replace(item, owner=WorkerId(""), anchored=False), is_listed=True))

    def append_delta(self, delta: bytes | None) -> None:
        """Append what the node changed."""
        if delta is not None:
            self.changes.append(AppendDelta(self.step.item.item_id, delta))

    # --- putting items, and what becomes of the chain

    def put(self, items: Sequence[WorkItem]) -> tuple[list[Change], Effects]:
        """Put new items: keep the first this worker may go on with, note a message for each of the others."""
        changes: list[Change] = []
        outgoing: list[Outgoing] = []
        keep: WorkItem | None = None
        for item in items:
            if keep is None and self.may_publish and item.queue in self.step.keep:
                keep = replace(
                    item,
                    status=WorkItemStatus.IN_PROGRESS,
                    owner=self.step.worker,
                    anchored=isinstance(self.step.anchor, OwnerAnchor),
                )
                changes.append(PutItem(keep, is_listed=True))
                continue
            changes.append(PutItem(item, is_listed=True))
            if self.may_publish:
                out = Outgoing(item, 1, message_entry(self.step.now_ms, item.item_id, 1))
                changes.append(EnterMessage(item.queue, out.entry, item.item_id, 1, self.step.worker))
                outgoing.append(out)
        changes += self.move_anchor(keep)
        return changes, Effects(publish=tuple(outgoing), keep=keep)

    def move_anchor(self, keep: WorkItem | None) -> list[Change]:
        """Hand what holds the chain on to the kept successor, or let it go."""
        step = self.step
        if isinstance(step.anchor, OwnerAnchor):
            moved: list[Change] = [LeaveOwner(step.worker, step.item.item_id)]
            return moved if keep is None else [*moved, EnterOwner(step.worker, keep.item_id)]
        if keep is None and step.anchor.entry:
            return [LeaveMessage(step.anchor.queue, step.anchor.entry)]
        return []

    # --- the run

    def start_run(self) -> None:
        """The first commit of a run makes it running."""
        if self.step.run.status is RunStatus.PENDING:
            state = RunState(status=RunStatus.RUNNING, updated_at_ms=self.step.now_ms)
            self.changes.append(PutRun(state, RunStatus.PENDING))
            self.status_now = RunStatus.RUNNING
            self.epoch_after += 1

    def end_run(self, status: RunStatus, failure: RunFailure | None = None) -> list[Change]:
        """Return the changes that end the run."""
        now = self.step.now_ms
        state = RunState(status=status, updated_at_ms=now, finished_at_ms=now, failure=failure)
        return [PutRun(state, self.status_now), *drop_deadline(self.step.header)]

    def complete_run(self) -> tuple[Change, ...]:
        """Return the changes for a run without live items: completed, unless it only holds and has no output."""
        completed = tuple(self.end_run(RunStatus.COMPLETED))
        stalled = self.end_run(RunStatus.FAILED, _stalled(self.step))
        return (WhenCount("outputs", 0, (WhenCount("held", 0, completed, tuple(stalled)),), completed),)

    # --- the result

    def decision(self) -> Decision:
        """Return the commit, with what happens if its scope closes."""
        created, effects = self.put(self.created)
        conditions = conditions_of(self.step, check_context=self.step.is_isolated)
        if self.closing is None:
            return Decision(
                conditions=conditions, changes=(*self.changes, *created), effects=effects, epoch_after=self.epoch_after
            )
        if self.closing == RUN_ITSELF or self.step.scope is None:
            then: list[Change] = [*self.complete_run(), *self.move_anchor(None)]
            closing_effects = Effects(finished=RunStatus.COMPLETED)
        else:
            then, closing_effects = self.put([self.step.scope.then])
            then.append(Count("live", 1))
        when = WhenScope(self.closing, 0, tuple(then), tuple(created))
        return Decision(
            conditions=conditions,
            changes=(*self.changes, when),
            effects=effects,
            closing=self.closing,
            closing_effects=closing_effects,
            epoch_after=self.epoch_after,
        )


def conditions_of(step: Step, *, check_context: bool = False) -> tuple[Condition, ...]:
    """Return what every commit of a step checks."""
    checks: list[Condition] = [TurnIs(step.item.item_id, step.turn), EpochIs(step.epoch)]
    checks += (ScopeIsOpen(scope_id) for scope_id in step.item.scope)
    if check_context:
        checks.append(ContextLengthIs(step.context_length))
    return tuple(checks)


def drop_deadline(header: RunHeader) -> list[Change]:
    """Return the changes that forget a run's own timeout."""
    if header.deadline_ms is None:
        return []
    return [DropTimer(Timer(due_ms=header.deadline_ms, run_id=header.run_id, kind=TimerKind.RUN_TIMEOUT))]


# --- success


def _succeed(step: Step, outcome: Succeeded) -> Decision:
    plan = _Plan(step)
    plan.start_run()
    fan_out = step.graph.nodes[step.item.node].fan_out
    join = fan_out.join if fan_out else None
    wave = fan_out.wave if fan_out else None
    if len(outcome.routes) > (wave or PAGE_SIZE) or (wave and outcome.routes):
        _store_pages(plan, outcome.routes, join, wave)
    elif join is not None:
        _open_scope(plan, outcome.routes, join)
    else:
        created = plan.create(outcome.routes, step.item.scope, failure=step.item.failure)
        plan.count(step.item.scope, created - 1, may_close=created == 0)
        plan.tally(live=created - 1)
    return _completed(plan, outcome.delta)


def _completed(plan: _Plan, delta: bytes | None) -> Decision:
    """Write the own item as completed; the kept successor is known only after choosing it."""
    plan.append_delta(delta)
    plan.tally(completed=1, busy_us=plan.step.duration_us)
    plan.finish(WorkItemStatus.COMPLETED, attempts=plan.step.item.attempt + 1)
    return plan.decision()


def _open_scope(plan: _Plan, routes: Sequence[Routed], join: str) -> None:
    """A fan-out that ends in a join: its items live in a scope of their own, which stands for it in the parent."""
    item = plan.step.item
    scope_id = ScopeId(item.item_id)
    child = (*item.scope, scope_id)
    created = plan.create(routes, child, failure=item.failure)
    joined = plan.joining_item(item, join, item.scope)
    if created == 0:
        plan.created.append(joined)
    else:
        plan.changes += (
            OpenScope(Scope(scope_id=scope_id, parent=item.scope, then=joined)),
            CountScope(child, created),
        )
    plan.tally(live=len(plan.created) - 1)


def _store_pages(plan: _Plan, routes: Sequence[Routed], join: str | None, wave: int | None) -> None:
    """A large fan-out: keep the outputs, and put one item that turns them into items page by page.

    With `wave`, the next page waits until the items of the one before have ended.
    """
    item, size = plan.step.item, wave or PAGE_SIZE
    pages = -(-len(routes) // size)
    for number in range(pages):
        plan.changes.append(PutPage(item.item_id, number, tuple(routes[number * size : (number + 1) * size])))
    scope = item.scope
    if join is not None and wave is None:
        scope_id = ScopeId(item.item_id)
        scope = (*scope, scope_id)
        joined = plan.joining_item(item, join, item.scope)
        plan.changes += (OpenScope(Scope(scope_id=scope_id, parent=item.scope, then=joined)), CountScope(scope, 1))
    plan.created.append(plan.engine_item(item, 0, pages, scope))


def _expand(step: Step, outcome: PageRead) -> Decision:
    """Turn one page into items; the next page is the next item of the same chain, or waits for this one's scope."""
    plan, item = _Plan(step), step.item
    fan_out = step.graph.nodes[item.node].fan_out
    number, pages = item.input.number, item.input.pages
    is_last = number + 1 == pages
    plan.changes.append(DropPage(WorkItemId(item.input.opener), number))
    if fan_out is not None and fan_out.wave is not None and fan_out.join is not None:
        scope_id = ScopeId(f"{item.input.opener}.{number}")
        child = (*item.scope, scope_id)
        following = (
            plan.joining_item(item, fan_out.join, item.scope)
            if is_last
            else plan.engine_item(item, number + 1, pages, item.scope)
        )
        created = plan.create(outcome.routes, child, failure=item.failure)
        if created == 0:
            plan.created.append(following)
        else:
            plan.changes += (
                OpenScope(Scope(scope_id=scope_id, parent=item.scope, then=following)),
                CountScope(child, created),
            )
        plan.tally(live=len(plan.created) - 1)
    else:
        if not is_last:  # first among the created, so that it is what the worker keeps
            plan.created.append(plan.engine_item(item, number + 1, pages, item.scope))
        plan.create(outcome.routes, item.scope, failure=item.failure)
        created = len(plan.created)
        plan.count(item.scope, created - 1, may_close=created == 0)
        plan.tally(live=created - 1)
    plan.finish(WorkItemStatus.COMPLETED, attempts=1, node=f"{item.node}[page {number + 1} of {pages}]")
    return plan.decision()


# --- hold


def _hold(step: Step, outcome: Held) -> Decision:
    step = replace(step, keep=frozenset())  # a held item has no pointer by which a kept join could be found again
    plan = _Plan(step)
    plan.start_run()
    plan.append_delta(outcome.delta)
    plan.tally(busy_us=step.duration_us)
    if outcome.for_ms is not None:
        due = step.now_ms + outcome.for_ms
        timer = Timer(
            due_ms=due, run_id=step.header.run_id, item_id=step.item.item_id, kind=TimerKind.HOLD, turn=step.turn + 1
        )
        plan.suspend(replace(step.item, status=WorkItemStatus.HELD, due_ms=due, note=""))
        plan.tally(waiting=1)
        plan.changes += (SetTimer(timer), *plan.move_anchor(None))
        return Decision(
            conditions=conditions_of(step, check_context=step.is_isolated),
            changes=tuple(plan.changes),
            effects=Effects(timer=timer),
            epoch_after=plan.epoch_after,
        )
    plan.suspend(replace(step.item, status=WorkItemStatus.HELD, due_ms=0, note=""))
    plan.count(step.item.scope, -1, may_close=True)
    plan.tally(live=-1, held=1)
    decision = plan.decision()
    return replace(decision, conditions=conditions_of(step, check_context=True))


# --- failure


def _fail(step: Step, outcome: Failed) -> Decision:
    plan, item = _Plan(step), step.item
    attempts = item.attempt + 1
    will_retry = not outcome.is_final and step.retry.has_attempts_left(attempts)
    plan.changes.append(
        AppendError(
            ErrorRecord(
                item_id=item.item_id,
                node=item.node,
                attempt=attempts,
                at_ms=step.now_ms,
                error=outcome.error,
                worker=step.worker,
                will_retry=will_retry,
            )
        )
    )
    plan.tally(failed=1, busy_us=step.duration_us)
    if will_retry:
        return _retry(plan, attempts)
    edges = step.graph.route_failure(item.node, outcome.error.kinds) if item.input.kind is not InputKind.PAGE else ()
    if edges:
        return _fall_back(plan, outcome, edges, attempts)
    failure = RunFailure(node=item.node, item_id=item.item_id, error=outcome.error, attempts=attempts)
    plan.suspend(replace(item, status=WorkItemStatus.FAILED, attempt=attempts, note=outcome.error.message[:200]))
    plan.changes += (*plan.end_run(RunStatus.FAILED, failure), *plan.move_anchor(None))
    return Decision(
        conditions=conditions_of(step),
        changes=tuple(plan.changes),
        effects=Effects(finished=RunStatus.FAILED),
        epoch_after=step.epoch + 1,
    )


def _retry(plan: _Plan, attempts: int) -> Decision:
    step = plan.step
    plan.start_run()
    delay = step.retry.delay(attempts, step.jitter)
    due = step.now_ms + max(0, round(delay.total_seconds() * 1000))
    timer = Timer(
        due_ms=due, run_id=step.header.run_id, item_id=step.item.item_id, kind=TimerKind.RETRY, turn=step.turn + 1
    )
    plan.suspend(replace(step.item, status=WorkItemStatus.WAITING_RETRY, attempt=attempts, due_ms=due, note=""))
    plan.tally(waiting=1, retried=1)
    plan.changes += (SetTimer(timer), *plan.move_anchor(None))
    return Decision(
        conditions=conditions_of(step),
        changes=tuple(plan.changes),
        effects=Effects(timer=timer),
        epoch_after=plan.epoch_after,
    )


def _fall_back(plan: _Plan, outcome: Failed, edges: Sequence[Edge], attempts: int) -> Decision:
    """The failure edges take over: their targets get the failed node's input."""
    step, item = plan.step, plan.step.item
    plan.start_run()
    failure = FailureInfo(
        node=item.node, error_type=outcome.error.error_type, message=outcome.error.message, attempts=attempts
    )
    payload = item.input.payload if item.input.kind is InputKind.PAYLOAD else outcome.payload
    routes = [
        Routed(edge=edge.id, payload=payload, suffix=(n,) if len(edges) > 1 else ()) for n, edge in enumerate(edges)
    ]
    created = plan.create(routes, item.scope, failure=failure, input_=item.input)
    plan.count(item.scope, created - 1, may_close=created == 0)
    plan.tally(live=created - 1)
    plan.finish(WorkItemStatus.FAILED, attempts=attempts)
    return plan.decision()


# --- small parts


def _fresh(opener: WorkItem) -> WorkItem:
    """A pending item that inherits only place and history from another."""
    return replace(
        opener,
        status=WorkItemStatus.PENDING,
        attempt=0,
        owner=WorkerId(""),
        anchored=False,
        deaths=0,
        due_ms=0,
        successors=(),
        kept=None,
        token=b"",
        note="",
    )


def _stalled(step: Step) -> RunFailure:
    error = RunStalledError(run_id=step.header.run_id, node=step.item.node)
    info = replace(describe_error(error), traceback="")
    return RunFailure(node=step.item.node, item_id=step.item.item_id, error=info, attempts=step.item.attempt + 1)


def _count_loop(loops: tuple[tuple[str, int], ...], edge: Edge) -> tuple[tuple[str, int], ...]:
    """One more iteration of a repeat edge; the loops nested inside it start again."""
    resets = edge.repeat.resets if edge.repeat else ()
    counts = {name: count for name, count in loops if name not in resets}
    counts[edge.id] = counts.get(edge.id, 0) + 1
    return tuple(counts.items())


def _exceeded_repeat(step: Step, routes: Sequence[Routed]) -> ErrorInfo | None:
    """Return the error of a loop that has run as often as its edge allows."""
    for edge_id in {route.edge for route in routes if route.edge}:
        edge = step.graph.edge(edge_id)
        if edge.repeat is not None and dict(step.item.loops).get(edge.id, 0) >= edge.repeat.max_iterations:
            error = IterationLimitError(node=step.item.node, target=edge.target, limit=edge.repeat.max_iterations)
            return replace(describe_error(error), traceback="")
    return None
