"""Collects what one step changes: the items it creates, the counts, what becomes of the chain and of the run."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.arrivals import Arriving, count_arrivals, fire, join_item
from floxide_amqp.core.changes import (
    Arrive,
    Change,
    CloseScope,
    Count,
    CountJoins,
    CountScope,
    PutItem,
    PutRun,
    WhenCount,
    WhenJoins,
    WhenScope,
)
from floxide_amqp.core.commit_conditions import Condition, ContextLengthIs, EpochIs, ScopeIsOpen, TurnIs
from floxide_amqp.core.compensation import begin, end_or_undo, undo_timer
from floxide_amqp.core.decisions import (
    RUN_ITSELF,
    Decision,
    Effects,
    Firing,
    Outgoing,
    OwnerAnchor,
    Step,
    make_decision,
    make_effects,
    message_entry,
)
from floxide_amqp.core.failure import FailureInfo, describe_unraised
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.graph import Edge
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId, derive_item_id
from floxide_amqp.core.item_copies import ended, fresh, owned
from floxide_amqp.core.joins import closed, gathered, instance_of, resolved, waiting
from floxide_amqp.core.log_changes import AppendDelta, AppendHistory
from floxide_amqp.core.log_records import make_entry
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, EnterOwner, LeaveMessage, LeaveOwner
from floxide_amqp.core.priorities import is_lower
from floxide_amqp.core.records import (
    InputKind,
    ItemInput,
    Order,
    Routed,
    RunFailure,
    RunState,
    ScopePath,
    WorkItem,
    make_input,
    make_item,
)
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import RunStalledError


class Plan:
    """Collects the changes of one step."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.changes: list[Change] = []
        self.created: list[WorkItem] = []
        self.may_publish = step.run.is_at_work_on(step.item)
        self.status_now = step.run.status
        self.epoch_after = step.epoch
        self.closing: ScopePath | None = None
        self.has_output = False
        self.arriving: dict[WorkItemId, Arriving] = {}
        self.gathered = 0
        self.gathered_in: ScopePath = RUN_ITSELF

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
        item, before, graph = self.step.item, len(self.created), self.step.graph
        for route in routes:
            order = item.order + route.suffix
            if not route.edge:
                if scope == RUN_ITSELF:
                    self.has_output = True
                    self.changes += (Arrive("", order, item.item_id, route.payload), Count("outputs", 1))
                continue
            edge = graph.edges[route.edge]
            target = graph.nodes[edge.target]
            if target.is_gather:
                opener = scope[-1].partition(".")[0]
                self.changes.append(Arrive(opener, order, item.item_id, route.payload))
                self._gather(edge.target, scope)
            elif target.join is not None:
                self._arrive(edge, route, scope, order)
            else:
                self.created.append(self._successor(edge, route, scope, order, failure, input_))
        return len(self.created) - before

    def _gather(self, gather: str, scope: ScopePath) -> None:
        """Count what arrives at a gather that closes its fan-out with so many."""
        if self.step.graph.nodes[gather].gathering.first:
            self.gathered += 1
            self.gathered_in = scope

    def collect(self, gather: str, payload: bytes) -> None:
        """Bring the failure of the own item to the gather around it."""
        item = self.step.item
        self.changes.append(Arrive(item.scope[-1].partition(".")[0], item.order, item.item_id, payload))
        self._gather(gather, item.scope)

    def open(self, scope: ScopePath, first: int) -> int:
        """Return how many items are live in a scope that this step opens, with what has arrived in it already.

        Args:
            scope: The scope.
            first: So many arrivals close it; 0 where it ends when nothing in it is live.
        """
        if first and self.gathered >= first:
            self.created.clear()
            self.arriving.clear()
        elif self.gathered:
            self.changes.append(CountJoins(gathered(scope), self.gathered))
        self.gathered = 0
        if not self.created and self.arriving:  # nothing is live but what waits at joins
            self.created.append(self.resolving_item(scope))
        return len(self.created)

    def _arrive(self, edge: Edge, route: Routed, scope: ScopePath, order: Order) -> None:
        """Bring a value to a join of edges."""
        step = self.step
        join = step.graph.nodes[edge.target].join
        if join is None:
            return
        base = step.item.order if scope != step.item.scope else step.scope.then.order if step.scope is not None else ()
        instance = instance_of(step.header.run_id, edge.target, join, step.item, order, scope, base)
        known = self.arriving.get(instance.join_id)
        if known is None:
            item = join_item(
                step, instance, join, scope, step.item.item_id, number=join.need, payload=route.payload
            )  # fmt: skip
            known = self.arriving[instance.join_id] = Arriving(instance=instance, join=join, scope=scope, item=item)
        known.values.append((edge.position, route.payload))

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
        return make_item(
            item_id=derive_item_id(self.step.header.run_id, item.item_id, edge.id, route.suffix),
            node=edge.target,
            queue=self.step.graph.queue_of(edge.target, self.step.header),
            status=WorkItemStatus.PENDING,
            input=input_ if input_ is not None else make_input(payload=route.payload),
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
            fresh(opener),
            item_id=derive_item_id(self.step.header.run_id, origin, "page", (number,)),
            input=ItemInput(kind=InputKind.PAGE, opener=origin, number=number, pages=pages),
            scope=scope,
            parent=opener.item_id,
        )

    def resolving_item(self, scope: ScopePath) -> WorkItem:
        """Return the item that resolves the joins of a scope that wait when nothing else in it is live."""
        opener = self.step.item
        return replace(
            fresh(opener),
            item_id=derive_item_id(self.step.header.run_id, opener.item_id, "joins"),
            input=ItemInput(kind=InputKind.JOINS, opener=scope[-1] if scope else ""),
            scope=scope,
            parent=opener.item_id,
        )

    def sweeping_item(self, opener: WorkItem, scope: ScopePath, number: int = 0) -> WorkItem:
        """Return the item that cancels what is left in a scope that was closed; it is in the scope around it."""
        return replace(
            fresh(opener),
            item_id=derive_item_id(self.step.header.run_id, scope[-1], "sweep", (number,)),
            input=ItemInput(kind=InputKind.SWEEP, opener=scope[-1], number=number),
            scope=scope[:-1],
            parent=opener.item_id,
        )

    def folding_item(self, payload: bytes, number: int) -> WorkItem:
        """Return the item of the next step of a fold."""
        item = self.step.item
        return replace(
            fresh(item),
            item_id=derive_item_id(self.step.header.run_id, item.item_id, "fold"),
            input=ItemInput(kind=InputKind.FOLD, payload=payload, opener=item.input.opener, number=number),
            parent=item.item_id,
        )

    def joining_item(self, opener: WorkItem, join: str, scope: ScopePath) -> WorkItem:
        """Return the item of the join that closes the fan-out of `opener`, in the scope around it."""
        origin = opener.input.opener if opener.input.kind is InputKind.PAGE else opener.item_id
        return replace(
            fresh(opener),
            item_id=derive_item_id(self.step.header.run_id, origin, "join"),
            node=join,
            queue=self.step.graph.queue_of(join, self.step.header),
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

    def count_created(self) -> None:
        """Count what is created in the place of the own item; where that is nothing, its scope may be at its end."""
        number = len(self.created) - 1
        if number:
            self.count(self.step.item.scope, number, may_close=number < 0)
            self.tally(live=number)

    def tally(self, **amounts: int) -> None:
        """Change the run's counters."""
        for name, amount in amounts.items():
            if amount:
                self.changes.append(Count(name, amount))

    # --- the own item

    def finish(self, status: WorkItemStatus, *, attempts: int, node: str | None = None) -> None:
        """Write the own item as ended, with its successors and a pointer to the one the worker goes on with.

        Where this commit may close a scope, the pointer leads to the item that would be put: it is there only if so.
        """
        step = self.step
        created = self.created
        if self.closing and step.scope is not None:
            created = [step.scope.then]
        if self.arriving or self.gathered or (self.closing is not None and step.graph.joins_wait):
            created, kept = self._possible_successors(created)
        else:
            kept = self._first_kept(created)
        drops = status is WorkItemStatus.COMPLETED and not (step.keep_input or step.item.begun)
        done = ended(
            step.item,
            status=status,
            input=replace(step.item.input, payload=b"") if drops else step.item.input,
            successors=tuple([item.item_id for item in created]),
            kept=kept,
            attempt=attempts,
        )
        history = make_entry(
            item_id=done.item_id,
            node=node or done.node,
            status=status,
            attempts=attempts,
            ended_at_ms=step.now_ms,
            duration_us=step.duration_us,
            worker=step.worker,
            parent=done.parent,
            context_length=step.context_length,
        )
        dropped = step.item.input.payload if drops else b""
        self.changes += (PutItem(done, is_listed=False, dropped=dropped), AppendHistory(history))

    def _first_kept(self, items: Sequence[WorkItem]) -> WorkItemId | None:
        for item in items:
            if self._may_keep(item):
                return item.item_id
        return None

    def _may_keep(self, item: WorkItem) -> bool:
        if not self.may_publish or item.queue not in self.step.keep or is_lower(item.queue, self.step.item.queue):
            return False  # of a lower level, it waits with its like for what is higher
        return not self.step.graph.nodes[item.node].options.is_limited  # else it needs its key first, or its instant

    def _kept_join(self) -> Arriving | None:
        """Return the join that this worker goes on with, if the commit lets it run and puts nothing else to go on with.

        There is only one such, or the pointer of the own item would not lead to what was kept.
        """
        if self._first_kept(self.created) is not None:
            return None
        return next((arriving for arriving in self.arriving.values() if self._may_keep(arriving.item)), None)

    def _possible_successors(self, created: list[WorkItem]) -> tuple[list[WorkItem], WorkItemId | None]:
        """Return the items that this commit may put, and the one that the worker goes on with if it does."""
        join = self._kept_join()
        kept = self._first_kept(created) if join is None else join.instance.join_id
        possible = [*created, *(arriving.item for arriving in self.arriving.values())]
        if self.closing is not None and self.step.graph.joins_wait:
            possible.append(self.resolving_item(self.closing))
        if self.gathered and self.step.scope is not None:
            rest = self.sweeping_item(self.step.item, self.gathered_in)
            possible += (self.step.scope.then, rest)
            if join is None and not self.created:
                kept = rest.item_id if self._may_keep(rest) else None
        return possible, kept

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

    def put(self, items: Sequence[WorkItem], *, keeps: bool = True) -> tuple[list[Change], Effects]:
        """Put new items: keep the first this worker may go on with, note a message for each of the others.

        Without `keeps` all get a message, and what holds the chain is left alone.
        """
        changes: list[Change] = []
        outgoing: list[Outgoing] = []
        keep: WorkItem | None = None
        for item in items:
            if keeps and keep is None and self._may_keep(item):
                keep = owned(
                    item,
                    owner=self.step.worker,
                    anchored=isinstance(self.step.anchor, OwnerAnchor),
                    deaths=int(self.step.graph.nodes[item.node].options.at_most_once),
                )
                noted: tuple[Change, ...] = ()
                if self.step.graph.has_compensations:
                    keep, noted = begin(keep, self.step.graph.nodes)
                changes += (PutItem(keep, is_listed=True), *noted)
                continue
            changes.append(PutItem(item, is_listed=True))
            if self.may_publish:
                out = Outgoing(item, 1, message_entry(self.step.now_ms, item.item_id, 1))
                changes.append(EnterMessage(item.queue, out.entry, item.item_id, 1, self.step.worker))
                outgoing.append(out)
        if keeps:
            changes += self.move_anchor(keep)
        return changes, make_effects(publish=tuple(outgoing), keep=keep)

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
        """Return the changes that end the run; one that fails undoes first what has been done."""
        now, header = self.step.now_ms, self.step.header
        version = self.step.run.version
        state = RunState(status=status, updated_at_ms=now, finished_at_ms=now, failure=failure, version=version)
        forget = drop_deadline(header.run_id, self.step.run)
        if failure is None or not self.step.graph.has_compensations:
            return [PutRun(state, self.status_now), *forget]
        run = replace(self.step.run, status=self.status_now)
        return list(end_or_undo(header, run, state, self.epoch_after, forget))

    @property
    def undoing(self) -> Effects | None:
        """What follows instead of a failed run's end, where something is to be undone first."""
        if not self.step.graph.has_compensations:
            return None
        return Effects(timer=undo_timer(self.step.header.run_id, self.epoch_after + 1, self.step.now_ms))

    def complete_run(self) -> tuple[Change, ...]:
        """Return the changes for a run without live items: completed, unless it only holds and has no output."""
        completed = tuple(self.end_run(RunStatus.COMPLETED))
        if self.has_output:  # of this step, as most runs: nothing is to be asked
            return completed
        stalled = self.end_run(RunStatus.FAILED, _stalled(self.step))
        return (WhenCount("outputs", 0, (WhenCount("held", 0, completed, tuple(stalled)),), completed),)

    # --- the result

    def decision(self) -> Decision:
        """Return the commit, with what happens if its scope closes or lets joins run."""
        join = self._kept_join() if self.arriving else None
        created, effects = self.put(self.created, keeps=join is None)
        firing = self._fire(join) if self.arriving else ()
        conditions = conditions_of(self.step, check_context=self.step.is_isolated)
        closed: Effects | None = None
        if self.gathered:
            created, closed = self._close(created, may_keep=join is None)
        if self.closing is None:
            return make_decision(
                conditions=conditions,
                changes=(*self.changes, *created),
                effects=effects,
                epoch_after=self.epoch_after,
                firing=firing,
                closed=closed,
                closed_scope=self.gathered_in,
            )
        anchor = self.move_anchor(None) if join is None else []
        if self.closing == RUN_ITSELF or self.step.scope is None:
            then: list[Change] = [*self.complete_run(), *anchor]
            closing_effects = Effects(finished=RunStatus.COMPLETED)
        else:
            keeps = join is None and not self.gathered
            then, closing_effects = self.put([self.step.scope.then], keeps=keeps)
            then += [Count("live", 1), *(() if keeps else anchor)]
        resolving: Effects | None = None
        if self.step.graph.joins_wait:
            instead, resolving = self._resolve(self.closing)
            then = [WhenJoins(waiting(self.closing), 0, tuple(then), (*instead, *anchor))]
        when = WhenScope(self.closing, 0, tuple(then), tuple(created))
        return Decision(
            conditions=conditions,
            changes=(*self.changes, when),
            effects=effects,
            closing=self.closing,
            closing_effects=closing_effects,
            epoch_after=self.epoch_after,
            undoing=self.undoing,
            firing=firing,
            resolving=resolving,
            closed=closed,
            closed_scope=self.gathered_in,
        )

    def _fire(self, kept: Arriving | None) -> tuple[Firing, ...]:
        """Count what arrives at joins; what they do then comes before what the scope does, which they may keep open."""
        firing: list[Firing] = []
        for arriving in self.arriving.values():
            self.changes += count_arrivals(arriving, self.step.item.item_id)
            is_kept = arriving is kept
            put, effects = self.put([arriving.item], keeps=is_kept)
            when, fired = fire(arriving, put, effects, self.move_anchor(None) if is_kept else ())
            self.changes.append(when)
            firing.append(fired)
        return tuple(firing)

    def _close(self, created: Sequence[Change], *, may_keep: bool) -> tuple[list[Change], Effects]:
        """Return what happens if so much has arrived at the gather of a scope that it is closed, else `created`.

        Its join is put, and an item that cancels what is left in it, which this worker goes on with: bodies that are to
        be interrupted may take every place in which it could run. What this step has created in it is not put.
        """
        step, scope = self.step, self.gathered_in
        if step.scope is None:
            return list(created), Effects()
        keeps = may_keep and not self.created
        join, more = self.put([step.scope.then], keeps=False)
        sweep, effects = self.put([self.sweeping_item(step.item, scope)], keeps=keeps)
        anchor = self.move_anchor(None) if may_keep and not keeps else []
        number = len(self.created)
        close = (
            CloseScope(step.scope), *join, *sweep, *anchor, CountScope(scope[:-1], 1), CountScope(scope, -number),
            Count("live", 2 - number), CountJoins(closed(scope), 1),
        )  # fmt: skip
        first = step.graph.nodes[step.scope.then.node].gathering.first
        self.changes.append(CountJoins(gathered(scope), self.gathered))
        reached = range(max(first, self.gathered), first + self.gathered)
        whens: list[Change] = [WhenJoins(gathered(scope), count, close) for count in reached]
        whens.append(WhenJoins(closed(scope), 0, tuple(created)))
        return whens, replace(effects, publish=(*effects.publish, *more.publish))

    def _resolve(self, scope: ScopePath) -> tuple[list[Change], Effects]:
        """Return the changes of a scope in which nothing is live, but joins wait for what did not come."""
        put, effects = self.put([self.resolving_item(scope)], keeps=False)
        return [*put, CountScope(scope, 1), Count("live", 1), CountJoins(resolved(scope), 1)], effects


def conditions_of(step: Step, *, check_context: bool = False) -> tuple[Condition, ...]:
    """Return what every commit of a step checks."""
    checks: tuple[Condition, ...] = (TurnIs(step.item.item_id, step.turn), EpochIs(step.epoch))
    if step.item.scope:
        checks += tuple(map(ScopeIsOpen, step.item.scope))
    return (*checks, ContextLengthIs(step.context_length)) if check_context else checks


def drop_deadline(run_id: RunId, run: RunState) -> list[Change]:
    """Return the changes that forget a run's own timeout."""
    if run.deadline_ms is None:
        return []
    return [DropTimer(Timer(due_ms=run.deadline_ms, run_id=run_id, kind=TimerKind.RUN_TIMEOUT))]


def _stalled(step: Step) -> RunFailure:
    error = RunStalledError(run_id=step.header.run_id, node=step.item.node)
    info = describe_unraised(error)
    return RunFailure(node=step.item.node, item_id=step.item.item_id, error=info, attempts=step.item.attempt + 1)


def count_loop(loops: tuple[tuple[str, int], ...], edge: Edge) -> tuple[tuple[str, int], ...]:
    """One more iteration of a repeat edge; the loops nested inside it start again."""
    resets = edge.repeat.resets if edge.repeat else ()
    counts = {name: count for name, count in loops if name not in resets}
    counts[edge.id] = counts.get(edge.id, 0) + 1
    return tuple(counts.items())
