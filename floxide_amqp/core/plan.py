"""Collects what one step changes: the items it creates, the counts, what becomes of the chain and of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from floxide_amqp.core.changes import (
    AppendDelta,
    AppendHistory,
    Arrive,
    Change,
    Condition,
    ContextLengthIs,
    Count,
    CountScope,
    DropTimer,
    EnterMessage,
    EnterOwner,
    EpochIs,
    LeaveMessage,
    LeaveOwner,
    PutItem,
    PutRun,
    ScopeIsOpen,
    TurnIs,
    WhenCount,
    WhenScope,
)
from floxide_amqp.core.decisions import RUN_ITSELF, Decision, Effects, Outgoing, OwnerAnchor, Step, message_entry
from floxide_amqp.core.failure import FailureInfo, describe_error
from floxide_amqp.core.graph import Edge
from floxide_amqp.core.ids import RunId, WorkerId, derive_item_id
from floxide_amqp.core.records import (
    HistoryEntry,
    InputKind,
    ItemInput,
    Order,
    Routed,
    RunFailure,
    RunState,
    ScopePath,
    Timer,
    TimerKind,
    WorkItem,
)
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import RunStalledError


class Plan:
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
        loops = item.loops if edge.repeat is None else count_loop(item.loops, edge)
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
        drops = status is WorkItemStatus.COMPLETED and not step.keep_input
        done = replace(
            step.item,
            status=status,
            input=replace(step.item.input, payload=b"") if drops else step.item.input,
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
        deaths = 0 if self.step.graph.nodes[item.node].options.at_most_once else item.deaths
        waiting = replace(item, owner=WorkerId(""), anchored=False, deaths=deaths, spared=False)
        self.changes.append(PutItem(waiting, is_listed=True))

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
                    deaths=int(self.step.graph.nodes[item.node].options.at_most_once),
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
            state = replace(self.step.run, status=RunStatus.RUNNING, updated_at_ms=self.step.now_ms)
            self.changes.append(PutRun(state, RunStatus.PENDING))
            self.status_now = RunStatus.RUNNING
            self.epoch_after += 1

    def end_run(self, status: RunStatus, failure: RunFailure | None = None) -> list[Change]:
        """Return the changes that end the run."""
        now = self.step.now_ms
        state = RunState(status=status, updated_at_ms=now, finished_at_ms=now, failure=failure)
        return [PutRun(state, self.status_now), *drop_deadline(self.step.header.run_id, self.step.run)]

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


def drop_deadline(run_id: RunId, run: RunState) -> list[Change]:
    """Return the changes that forget a run's own timeout."""
    if run.deadline_ms is None:
        return []
    return [DropTimer(Timer(due_ms=run.deadline_ms, run_id=run_id, kind=TimerKind.RUN_TIMEOUT))]


def _fresh(opener: WorkItem) -> WorkItem:
    """A pending item that inherits only place and history from another."""
    return replace(
        opener,
        status=WorkItemStatus.PENDING,
        attempt=0,
        owner=WorkerId(""),
        anchored=False,
        deaths=0,
        spared=False,
        lost=0,
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


def count_loop(loops: tuple[tuple[str, int], ...], edge: Edge) -> tuple[tuple[str, int], ...]:
    """One more iteration of a repeat edge; the loops nested inside it start again."""
    resets = edge.repeat.resets if edge.repeat else ()
    counts = {name: count for name, count in loops if name not in resets}
    counts[edge.id] = counts.get(edge.id, 0) + 1
    return tuple(counts.items())
