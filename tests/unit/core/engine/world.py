"""A run as the store would hold it, in plain dictionaries: applies decisions and says what must always hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from floxide_amqp.core import changes as c
from floxide_amqp.core.commit_conditions import Condition, ContextLengthIs, EpochIs, NotDeleted, ScopeIsOpen, TurnIs
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.joins import JoinInstance
from floxide_amqp.core.joins import waiting as waiting_joins
from floxide_amqp.core.log_changes import AppendDelta, AppendError, AppendHistory
from floxide_amqp.core.place_changes import (
    DropTimer,
    EnterMessage,
    EnterOwner,
    EnterParked,
    LeaveMessage,
    LeaveOwner,
    LeaveParked,
    SetTimer,
)
from floxide_amqp.core.records import InputKind, RunHeader, RunState, Scope, ScopePath, WorkItem
from floxide_amqp.core.statuses import ITEM_TRANSITIONS, RUN_TRANSITIONS, RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind

RUN = RunId("run")
WORKER = WorkerId("worker")


OF_A_LIVE_RUN = (AppendHistory, AppendDelta, c.Arrive, c.Count, c.CountScope, c.PutRun)
"""Changes that nothing makes once a run is completed or cancelled."""

OF_A_STEP = (AppendHistory, AppendDelta, c.Arrive, c.ArriveAt, c.PutPage, c.DropPage)
"""What the end of a step changes, which is void once the run has failed."""


class ConflictError(Exception):
    pass


@dataclass
class World:
    graph: Graph
    header: RunHeader | None = None
    run: RunState | None = None
    epoch: int = 0
    items: dict[WorkItemId, WorkItem] = field(default_factory=dict)
    turns: dict[WorkItemId, int] = field(default_factory=dict)
    scopes: dict[ScopeId, Scope] = field(default_factory=dict)
    closed: set[ScopeId] = field(default_factory=set)
    scope_counts: dict[ScopePath, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, dict[tuple[tuple[int, ...], str], bytes]] = field(default_factory=dict)
    joins: dict[str, int] = field(default_factory=dict)
    joined: dict[WorkItemId, list[tuple[int, bytes]]] = field(default_factory=dict)
    awaited: dict[ScopePath, list[JoinInstance]] = field(default_factory=dict)
    pages: dict[tuple[str, int], object] = field(default_factory=dict)
    listed: set[WorkItemId] = field(default_factory=set)
    messages: dict[str, WorkItemId] = field(default_factory=dict)
    owned: set[WorkItemId] = field(default_factory=set)
    timers: set[Timer] = field(default_factory=set)
    parked: set[WorkItemId] = field(default_factory=set)
    history: list[tuple[WorkItemId, WorkItemStatus]] = field(default_factory=list)
    context_length: int = 0

    def commit(self, decision: Decision) -> None:
        """Apply a decision, as one batch."""
        for condition in decision.conditions:
            self._check(condition)
        if self.run is not None and self.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
            assert not any(isinstance(change, OF_A_LIVE_RUN) for change in decision.changes), "a run is over"
        if self.run is not None and self.status is RunStatus.FAILED:
            assert not any(isinstance(change, OF_A_STEP) for change in decision.changes), "a run has failed"
        self._apply(decision.changes)

    def _check(self, condition: Condition) -> None:
        match condition:
            case TurnIs(item_id, turn):
                holds = self.turns.get(item_id, 0) == turn
            case EpochIs(epoch):
                holds = self.epoch == epoch
            case NotDeleted():
                holds = True
            case ScopeIsOpen(scope_id):
                holds = scope_id in self.scopes and scope_id not in self.closed
            case ContextLengthIs(length):
                holds = self.context_length == length
            case _:
                raise AssertionError(f"no random run checks this: {condition}")
        if not holds:
            raise ConflictError(condition)

    def _apply(self, changes: Iterable[c.Change]) -> None:
        whens: list[c.WhenScope | c.WhenCount | c.WhenJoins] = []
        changes = tuple(changes)
        if self.run is not None and self.status is RunStatus.PAUSED:
            self._check_nothing_begins(changes)
        for change in changes:
            if isinstance(change, c.WhenScope | c.WhenCount | c.WhenJoins):
                whens.append(change)
            else:
                self._change(change)
        for when in whens:
            if isinstance(when, c.WhenScope):
                value = self.scope_counts.get(when.scope, 0)
            else:
                value = (self.counts if isinstance(when, c.WhenCount) else self.joins).get(when.name, 0)
            self._apply(when.then if value == when.equals else when.otherwise)

    def _check_nothing_begins(self, changes: tuple[c.Change, ...]) -> None:
        """A paused run puts nothing on its way, and no step of it begins; what runs already may be anchored."""
        put = {change.item.item_id: change.item for change in changes if isinstance(change, c.PutItem)}
        for change in changes:
            if isinstance(change, EnterMessage):
                assert change.item_id not in put, "put on its way while its run is paused"
        for item in put.values():
            if item.status is WorkItemStatus.IN_PROGRESS:
                before = self.items.get(item.item_id)
                assert before is not None, "begun while its run is paused"
                assert item.anchored or before.status is item.status, "claimed while its run is paused"

    def _change(self, change: c.Change) -> None:  # noqa: C901, PLR0915 - one line per kind of change
        match change:
            case c.PutItem(item, is_listed):
                self._put(item)
                (self.listed.add if is_listed else self.listed.discard)(item.item_id)
            case c.PutHeader(header):
                self.header = header
            case c.PutRun(state, was):
                assert (self.run.status if self.run else None) is was
                if was is not None and state.status is not was:
                    assert state.status in RUN_TRANSITIONS[was]
                self.run = state
                self.epoch += 1
            case c.OpenScope(scope):
                assert scope.scope_id not in self.scopes
                self.scopes[scope.scope_id] = scope
            case c.CloseScope(scope):
                assert scope.scope_id not in self.closed
                self.closed.add(scope.scope_id)
            case c.CountScope(path, amount):
                self.scope_counts[path] = self.scope_counts.get(path, 0) + amount
            case c.Count(name, amount):
                self.counts[name] = self.counts.get(name, 0) + amount
            case c.Arrive(opener, order, item_id, payload):
                arrived = self.arrivals.setdefault(opener, {})
                assert (order, item_id) not in arrived
                arrived[order, item_id] = payload
            case c.CountJoins(name, amount):
                self.joins[name] = self.joins.get(name, 0) + amount
            case c.ArriveAt(join_id, position, _, payload):
                place = self.joined.setdefault(join_id, [])
                assert position not in [known for known, _ in place], "a source gave two values"
                place.append((position, payload))
            case c.AwaitJoin(scope, join):
                self.awaited.setdefault(scope, []).append(join)
            case c.PutPage(opener, number, routes):
                self.pages[opener, number] = routes
            case c.DropPage(opener, number):
                del self.pages[opener, number]
            case AppendDelta():
                self.context_length += 1
            case AppendHistory(entry):
                self.history.append((entry.item_id, entry.status))
            case EnterMessage(_, entry, item_id, _, _):
                self.messages[entry] = item_id
            case LeaveMessage(_, entry):
                self.messages.pop(entry, None)
            case EnterOwner(_, item_id):
                self.owned.add(item_id)
            case LeaveOwner(_, item_id):
                self.owned.discard(item_id)
            case SetTimer(timer):
                self.timers.add(timer)
            case DropTimer(timer):
                self.timers.discard(timer)
            case EnterParked(_, _, _, _, item_id):
                self.parked.add(item_id)
            case LeaveParked(_, _, _, _, item_id):
                self.parked.discard(item_id)
            case AppendError() | c.WhenScope() | c.WhenCount():
                pass
            case _:
                raise AssertionError(f"no random run does this: {change}")

    def _put(self, item: WorkItem) -> None:
        before = self.items.get(item.item_id)
        if before is not None:
            assert item.status is before.status or item.status in ITEM_TRANSITIONS[before.status]
        assert bool(item.owner) == (item.status is WorkItemStatus.IN_PROGRESS)
        self.items[item.item_id] = item
        self.turns[item.item_id] = self.turns.get(item.item_id, 0) + 1

    # --- what must always hold

    @property
    def status(self) -> RunStatus:
        assert self.run is not None
        return self.run.status

    def check(self) -> None:
        """Counts are what they count, and each live item can be reached."""
        live = [item for item in self.items.values() if item.item_id in self.listed]
        merely_held = [item for item in live if item.status is WorkItemStatus.HELD and not item.due_ms]
        alive = [item for item in live if item not in merely_held]
        ended = [item_id for item_id, _ in self.history]
        assert len(ended) == len(set(ended)), "an item ended twice"
        if self.status is RunStatus.CANCELLED:
            return
        assert self.counts.get("live", 0) == len(alive)
        assert self.counts.get("held", 0) == len(merely_held)
        waiting = {WorkItemStatus.WAITING_RETRY, WorkItemStatus.PARKED}
        are_waiting = [i for i in alive if i.status in waiting or (i.status is WorkItemStatus.HELD and i.due_ms)]
        assert self.counts.get("waiting", 0) == len(are_waiting)
        self._check_scopes(alive)
        if self.status is not RunStatus.FAILED:
            for item in alive:
                assert self.reaches(item), item
        for scope, joins in self.awaited.items():
            if self.closed.intersection(scope):
                continue
            unresolved = [join for join in joins if join.join_id not in self.items]
            assert self.joins.get(waiting_joins(scope), 0) == len(unresolved), "joins that wait are miscounted"
        if self.status is RunStatus.COMPLETED:
            assert not any(self.joins.get(waiting_joins(scope), 0) for scope in self.awaited)
            assert not alive
            assert not self.pages
            assert not self.owned

    def _check_scopes(self, alive: list[WorkItem]) -> None:
        expected: dict[ScopePath, int] = {}
        for item in alive:
            expected[item.scope] = expected.get(item.scope, 0) + 1
        # the deepest first: an open scope stands for its opener in the scope around it
        for path in sorted({*expected, *self.scope_counts}, key=len, reverse=True):
            assert self.scope_counts.get(path, 0) == expected.get(path, 0), path
            if path and self.scope_counts.get(path, 0) and path[-1] not in self.closed:
                parent = self.scopes[path[-1]].parent
                expected[parent] = expected.get(parent, 0) + 1

    def is_swept(self, item: WorkItem) -> bool:
        """Whether an item is left in a scope that was closed, and another stands for cancelling it."""
        live = [self.items[item_id] for item_id in self.listed]
        return any(each.input.kind is InputKind.SWEEP and each.input.opener in item.scope for each in live)

    def reaches(self, item: WorkItem) -> bool:
        """Whether something leads to an item: a message's entry, an owner entry, a timer, a list."""
        if item.item_id in self.owned or item.item_id in self.parked:
            return True
        if self.is_swept(item):
            return True
        turn = self.turns[item.item_id]
        if any(timer.item_id == item.item_id and timer.turn == turn for timer in self.timers):
            return True
        is_pending = item.status is WorkItemStatus.PENDING
        if is_pending and (self.status is RunStatus.PAUSED or any(t.kind is TimerKind.RESUME for t in self.timers)):
            return True
        return any(self.frontier(start) == item.item_id for start in self.messages.values())

    def frontier(self, item_id: WorkItemId | None) -> WorkItemId | None:
        """Where the walk from a message ends."""
        while item_id is not None and item_id in self.items:
            item = self.items[item_id]
            if item.item_id in self.listed:
                return item_id
            item_id = item.kept
        return None
