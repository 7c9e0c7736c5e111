"""Whatever workers, clients, timers and maintenance do, in any order and as late as they like: what must hold holds.

Hypothesis invents the workflow and the story; a decision may be committed at once, late, or twice. A story that breaks
something is shrunk to the few steps that do it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from floxide_amqp.core import moves, publish_moves, run_moves
from floxide_amqp.core.changes import Count, PutItem, PutRun, WhenScope
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decide import decide
from floxide_amqp.core.decisions import Anchor, Decision, MessageAnchor, Outgoing, OwnerAnchor, Step, message_entry
from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.joins import EdgeJoin, JoinInstance, waiting
from floxide_amqp.core.outcomes import Failed, Held, JoinsRead, Left, Outcome, PageRead, Succeeded, Swept
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.place_changes import EnterMessage, LeaveMessage, LeaveParked, SetTimer
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, ItemInput, Routed, RunFailure, RunHeader, WorkItem
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.runtime.steps import route_value
from floxide_amqp.testing.simulation.random_workflows import random_workflow
from tests.unit.core.engine.world import RUN, WORKER, ConflictError, World

ERROR = ErrorInfo(kinds=("builtins.ValueError", "builtins.Exception", "builtins.BaseException"), message="no")
WORKFLOWS = 30
"""Different workflows that stories are about: making one takes longer than a story."""

MOST_STEPS_LEFT = 600
"""In so many steps a run ends, once nothing goes wrong any more."""

MOST_LATE = 12
"""Decisions kept to be committed late."""


class When(Enum):
    """When a decision is committed."""

    NOW = "now"
    LATER = "later"
    BOTH = "now and later"
    AFTER_A_CLIENT = "right after a client has paused the run, or resumed it"
    AFTER_A_FAILURE = "right after the run has failed"


WAITING = (WorkItemStatus.WAITING_RETRY, WorkItemStatus.HELD)
picks = st.integers(0, 30)
moments = st.sampled_from(
    [*[When.NOW] * 4, *[When.LATER, When.BOTH] * 2, *[When.AFTER_A_CLIENT] * 2, When.AFTER_A_FAILURE]
)
numbers = st.lists(st.integers(0, 40), max_size=3)


@lru_cache(maxsize=WORKFLOWS)
def graph_of(number: int) -> Graph:
    return random_workflow(number)[0].graph


def join_of(graph: Graph, instance: JoinInstance) -> EdgeJoin:
    join = graph.nodes[instance.node].join
    assert join is not None
    return join


def value_for(payload: PayloadType, number: int) -> Any:
    """Return a value of a node's output type: even, so that where it goes follows from the workflow alone."""
    kind: Any = payload.annotation
    if not is_dataclass(kind):
        return 4 * number if kind is int else []
    hints = get_type_hints(kind)
    return kind(**{field.name: 4 * number if hints[field.name] is int else "x" for field in fields(kind)})  # type: ignore[operator]


class DecisionMachine(RuleBasedStateMachine):
    """One run and everybody who has to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000
        self.late: list[Decision] = []
        self.done: list[Decision] = []

    @initialize(number=st.integers(0, WORKFLOWS - 1), deadline=st.none() | st.just(10**9))
    def start(self, number: int, deadline: int | None) -> None:
        """A client starts the run."""
        graph = graph_of(number)
        self.world = World(graph)
        header = RunHeader(
            run_id=RUN, workflow=graph.workflow, version=graph.version, input=b"", input_digest="", context=b"",
            created_at_ms=0, deadline_ms=deadline, reply_to="", start_item=WorkItemId("first"),
        )  # fmt: skip
        first = WorkItem(
            item_id=header.start_item, node=graph.start, queue=graph.nodes[graph.start].options.queue,
            status=WorkItemStatus.PENDING, input=ItemInput(payload=b"1"),
        )  # fmt: skip
        self.header = header
        self.commit(run_moves.start_run(header, first, WORKER))

    # --- committing, and when

    def commit(self, decision: Decision) -> None:
        self.world.commit(decision)
        self.done = [*self.done[-MOST_LATE:], decision]

    def offer(self, decision: Decision, *, when: When) -> None:
        """Commit a decision now, later, or both: two had the same in mind, and one of them was stopped for a while.

        Or somebody else is faster, and changes the run between the decision and its commit.
        """
        if when in (When.LATER, When.BOTH):
            self.late = [*self.late[-MOST_LATE:], decision]
        if when in (When.NOW, When.BOTH):
            self.commit(decision)
        if when in (When.AFTER_A_CLIENT, When.AFTER_A_FAILURE):
            self.be_faster(fails=when is When.AFTER_A_FAILURE)
            self.try_to_commit(decision)

    def be_faster(self, *, fails: bool) -> None:
        """Change the run's state, whatever it is; nothing that was decided before knows of it."""
        if self.status is RunStatus.PAUSED:
            self.resume(brings_back=True)
        elif fails and not self.status.is_terminal:
            self.commit(self.timed_out())
        elif not self.status.is_terminal:
            self.commit(run_moves.pause_run(self.run, self.world.epoch, self.now, "because"))

    def try_to_commit(self, decision: Decision) -> None:
        """What was decided a while ago stands, or it conflicts."""
        try:
            self.commit(decision)
        except ConflictError:
            return

    def timed_out(self) -> Decision:
        failure = RunFailure(node="", item_id=self.header.start_item, error=ERROR, attempts=1)
        return run_moves.fail_run(self.header, self.run, self.world.epoch, self.now, failure)

    @rule(pick=picks)
    @precondition(lambda self: self.late)
    def commit_late(self, pick: int) -> None:
        """Somebody who was stopped for a while goes on with what he had decided."""
        self.try_to_commit(self.late.pop(pick % len(self.late)))

    @rule(pick=picks)
    @precondition(lambda self: self.done)
    def commit_twice(self, pick: int) -> None:
        """A decision that changed what it checked conflicts when it is repeated."""
        decision = self.done[pick % len(self.done)]
        checks = {check.item_id for check in decision.conditions if isinstance(check, TurnIs)}
        puts = {change.item.item_id for change in decision.changes if isinstance(change, PutItem)}
        if checks & puts or any(isinstance(change, PutRun) for change in decision.changes):
            with pytest.raises(ConflictError):
                self.world.commit(decision)

    # --- workers

    @rule(pick=picks, when=moments, keeps=st.booleans(), delta=st.booleans(), values=numbers, pause=st.booleans())
    def succeed(self, pick: int, *, when: When, keeps: bool, delta: bool, values: list[int], pause: bool) -> None:
        """A node returns, or a page becomes items."""
        item = self.workable(pick)
        if item is None:
            return
        outcome: Outcome = Succeeded(self.routes(item, values), b"delta" if delta else None)
        outcome = self.own_outcome(item) or outcome
        self.offer(self.step(item, outcome, keeps=keeps), when=when)
        self.now += 1_000 * pause

    @rule(pick=picks, when=moments, is_final=st.booleans())
    def fail(self, pick: int, *, when: When, is_final: bool) -> None:
        """A node raises: it is retried, its fallback takes over, or the run fails."""
        item = self.workable(pick)
        if item is not None and item.input.kind not in OF_THE_ENGINE:
            self.offer(self.step(item, Failed(ERROR, is_final=is_final, payload=b"list"), keeps=True), when=when)

    @rule(pick=picks, when=moments, for_ms=st.sampled_from([0, 500, 500, None]), delta=st.booleans())
    def hold(self, pick: int, *, when: When, for_ms: int | None, delta: bool) -> None:
        """A node returns Hold."""
        item = self.workable(pick)
        if item is not None and item.input.kind not in OF_THE_ENGINE:
            self.offer(self.step(item, Held(for_ms, b"delta" if delta else None), keeps=True), when=when)

    @rule(pick=picks, when=moments, other=st.booleans())
    def claim(self, pick: int, *, when: When, other: bool) -> None:
        """A worker claims an item, because its message came again."""
        item = self.runnable(pick)
        if item is not None and item.status is WorkItemStatus.PENDING:
            worker, turn = WorkerId("other") if other else WORKER, self.turn(item)
            lead: tuple[EnterMessage, ...] = ()
            if not self.message_of(item).entry:  # what comes without an entry gets one with its claim
                entry = message_entry(self.now, item.item_id, turn + 1)
                lead = (EnterMessage(item.queue, entry, item.item_id, turn + 1, worker),)
            self.offer(moves.claim(item, turn, self.world.epoch, worker, lead=lead), when=when)

    @rule(pick=picks, when=moments)
    def anchor(self, pick: int, *, when: When) -> None:
        """A long step moves its chain into the store."""
        item = self.runnable(pick)
        if item is not None and not item.anchored:
            owner = item.owner or WORKER
            self.offer(moves.anchor(item, self.turn(item), owner, self.message_of(item)), when=when)

    @rule(pick=picks, when=moments, died=st.booleans())
    def give_back(self, pick: int, *, when: When, died: bool) -> None:
        """An owner dies, or lets go."""
        item = self.one_of(WorkItemStatus.IN_PROGRESS, pick=pick)
        if item is not None and not self.status.is_terminal:
            decision = moves.give_back(item, self.turn(item), self.run, self.world.epoch, self.now, WORKER, died=died)
            self.offer(decision, when=when)

    @rule(pick=picks, when=moments)
    def park(self, pick: int, *, when: When) -> None:
        """A worker lacks the node."""
        item = self.workable(pick)
        if item is not None and item.status is WorkItemStatus.PENDING:
            graph = self.world.graph
            message = self.message_of(item)
            kind = (graph.workflow, graph.version, item.node)
            decision = moves.park(item, self.turn(item), self.world.epoch, kind, message, note="no", now_ms=self.now)
            self.offer(decision, when=when)

    @rule(pick=picks, when=moments)
    def unpark(self, pick: int, *, when: When) -> None:
        """A worker has the node."""
        item = self.one_of(WorkItemStatus.PARKED, pick=pick)
        if item is not None and not self.status.is_terminal:
            self.offer(self.unparked(item), when=when)

    # --- messages and timers

    @rule(pick=picks, when=moments)
    def republish(self, pick: int, *, when: When) -> None:
        """A message was lost: its note is replaced."""
        item = self.runnable(pick)
        if item is not None and item.status is WorkItemStatus.PENDING:
            entry = self.message_of(item).entry
            forget = (LeaveMessage(item.queue, entry),) if entry else ()
            self.offer(publish_moves.republish(item, self.turn(item), self.now, WORKER, forget), when=when)

    @rule(pick=picks, when=moments, is_unknown=st.booleans())
    def not_published(self, pick: int, *, when: When, is_unknown: bool) -> None:
        """A publish was returned, or nobody knows."""
        item = self.runnable(pick)
        if item is None or item.status is not WorkItemStatus.PENDING:
            return
        out = Outgoing(item, self.turn(item), self.message_of(item).entry)
        if is_unknown:
            decision = publish_moves.repeat_publish(out, self.now + 500, self.header, WORKER)
        else:
            decision = publish_moves.defer_publish(item, out.turn, self.now + 500, self.header, "no queue", out)
        self.offer(decision, when=when)

    @rule(pick=picks, when=moments)
    def fire(self, pick: int, *, when: When) -> None:
        """A timer is due."""
        timers = sorted(
            self.world.timers, key=lambda timer: (timer.due_ms, timer.item_id, timer.kind.value, timer.turn)
        )
        if timers:
            self.fire_one(timers[pick % len(timers)], when=when)

    @rule(pick=picks, fails=st.booleans())
    def wake_too_late(self, pick: int, *, fails: bool) -> None:
        """A timer is due while a client changes the run, and the client is faster."""
        if self.one_of(*WAITING, pick=pick) is None:
            self.hold(pick, when=When.NOW, for_ms=500, delta=False)
        timers = [timer for timer in self.world.timers if timer.kind in (TimerKind.RETRY, TimerKind.HOLD)]
        if timers:
            timer = min(timers, key=lambda timer: (timer.due_ms, timer.item_id))
            self.fire_one(timer, when=When.AFTER_A_FAILURE if fails else When.AFTER_A_CLIENT)

    def fire_one(self, timer: Timer, *, when: When = When.NOW) -> None:
        item = self.world.items.get(timer.item_id)
        if timer.kind is TimerKind.RESUME:
            self.bring_back(timer)
        elif timer.kind.is_of_run or item is None or self.turn(item) != timer.turn or self.status.is_terminal:
            return
        elif timer.kind is TimerKind.REPUBLISH:
            if item.status is WorkItemStatus.PENDING and self.status is not RunStatus.PAUSED:
                self.offer(publish_moves.publish_again(item, timer, self.now, WORKER), when=when)
        elif item.status in WAITING:
            self.offer(moves.wake(item, timer, self.run, self.world.epoch, self.now, WORKER), when=when)

    # --- clients

    @rule(when=moments)
    def pause(self, *, when: When) -> None:
        """A client pauses the run."""
        if self.status in (RunStatus.PENDING, RunStatus.RUNNING):
            self.offer(run_moves.pause_run(self.run, self.world.epoch, self.now, "because"), when=when)

    @rule(brings_back=st.booleans())
    def resume(self, *, brings_back: bool) -> None:
        """A client resumes the run, and may die before its items are on their way."""
        if self.status not in (RunStatus.PAUSED, RunStatus.FAILED):
            return
        if self.status is RunStatus.FAILED:
            self.reset_items()
        decision = run_moves.resume_run(self.header, self.run, self.world.epoch, self.now, again_at_ms=self.now + 1)
        self.commit(decision)
        if brings_back and decision.effects.timer is not None:
            self.bring_back(decision.effects.timer)

    @rule(chance=st.integers(0, 2), when=moments, times_out=st.booleans())
    def end(self, chance: int, *, when: When, times_out: bool) -> None:
        """A client cancels the run, or its time is up; not in every story."""
        if chance or self.status.is_terminal:
            return
        cancelled = run_moves.cancel_run(self.header, self.run, self.world.epoch, self.now, "enough")
        self.offer(self.timed_out() if times_out else cancelled, when=when)

    # --- what must hold

    @invariant()
    def everything_is_right(self) -> None:
        """Counts are what they count, and each live item can be reached."""
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """Once nothing goes wrong any more, the run ends."""
        if not hasattr(self, "world"):
            return
        for _ in range(MOST_STEPS_LEFT):
            self.world.check()
            if self.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
                break
            self.go_on()
        assert self.status in (RunStatus.COMPLETED, RunStatus.CANCELLED), self.world.items
        if self.status is RunStatus.COMPLETED:
            assert self.world.counts["outputs"] == len(self.world.arrivals[""])

    def go_on(self, *, keeps: bool = False) -> None:
        """Take the next step, with nothing going wrong."""
        self.now += 1_000
        resumed = next((timer for timer in self.world.timers if timer.kind is TimerKind.RESUME), None)
        if resumed is not None:
            self.fire_one(resumed)
            return
        if self.status in (RunStatus.FAILED, RunStatus.PAUSED):
            self.resume(brings_back=True)
            return
        for item in self.listed():
            item_id = item.item_id
            if item.status in (WorkItemStatus.PENDING, WorkItemStatus.IN_PROGRESS):
                routes = self.routes(item, [1])
                outcome = self.own_outcome(item) or Succeeded(routes)
                self.commit(self.step(item, outcome, keeps=keeps))
                return
            if item.status is WorkItemStatus.PARKED:
                self.commit(self.unparked(item))
                return
            if item.status in WAITING and item.due_ms + (item.status is WorkItemStatus.WAITING_RETRY):
                turn = self.turn(item)
                timer = next(t for t in self.world.timers if (t.item_id, t.turn) == (item_id, turn))
                self.fire_one(timer)
                return
        raise AssertionError(f"nothing is left to do: {self.world.items}")

    # --- small parts

    @property
    def status(self) -> RunStatus:
        return self.world.status

    @property
    def run(self) -> Any:
        return self.world.run

    def turn(self, item: WorkItem) -> int:
        return self.world.turns[item.item_id]

    def one_of(self, *statuses: WorkItemStatus, pick: int) -> WorkItem | None:
        found = [item for item in self.listed() if item.status in statuses]
        return found[pick % len(found)] if found else None

    def listed(self) -> list[WorkItem]:
        """The items of which something may be committed: what is left in a closed scope is only cancelled."""
        listed = [self.world.items[item_id] for item_id in sorted(self.world.listed)]
        return [item for item in listed if not self.world.closed.intersection(item.scope)]

    def runnable(self, pick: int) -> WorkItem | None:
        """An item that a worker may have in its hands: of a paused run only what is claimed."""
        if self.status.is_terminal:
            return None
        claimed = WorkItemStatus.IN_PROGRESS
        return self.one_of(
            *([claimed] if self.status is RunStatus.PAUSED else [WorkItemStatus.PENDING, claimed]), pick=pick
        )

    def workable(self, pick: int) -> WorkItem | None:
        """An item whose node may run: one that no message leads to is claimed first."""
        item = self.runnable(pick)
        is_led = item is not None and (item.status is WorkItemStatus.IN_PROGRESS or self.message_of(item).entry)
        return item if is_led else None

    def message_of(self, item: WorkItem) -> MessageAnchor:
        entries = (e for e, start in sorted(self.world.messages.items()) if self.world.frontier(start) == item.item_id)
        return MessageAnchor(item.queue, next(entries, ""))

    def step(self, item: WorkItem, outcome: Outcome, *, keeps: bool) -> Decision:
        world = self.world
        anchor: Anchor = OwnerAnchor() if item.anchored else self.message_of(item)
        queues = frozenset(node.options.queue for node in world.graph.nodes.values())
        step = Step(
            graph=world.graph, header=self.header, run=self.run, epoch=world.epoch, item=item, turn=self.turn(item),
            scope=world.scopes[item.scope[-1]] if item.scope else None, anchor=anchor, worker=item.owner or WORKER,
            now_ms=self.now, retry=RetryPolicy(max_attempts=3), context_length=world.context_length,
            keep=queues if keeps else frozenset(),
        )  # fmt: skip
        return decide(step, outcome)

    def own_outcome(self, item: WorkItem) -> Outcome | None:
        """What the engine reads for an item that runs no node; None of one that does."""
        if item.input.kind is InputKind.PAGE:
            return self.page(item)
        if item.input.kind is InputKind.SWEEP:
            return self.rest(item)
        return self.joins(item) if item.input.kind is InputKind.JOINS else None

    def rest(self, item: WorkItem) -> Swept:
        """What is left in a scope that was closed."""
        world, path = self.world, (*item.scope, ScopeId(item.input.opener))
        live = [world.items[item_id] for item_id in sorted(world.listed)]
        left = [each for each in live if each.scope[: len(path)] == path]
        paths = sorted({each.scope[:n] for each in left for n in range(len(path), len(each.scope) + 1)} | {path})
        return Swept(
            left=tuple(Left(item=each, turn=self.turn(each)) for each in left),
            counts=tuple((scope, world.scope_counts.get(scope, 0)) for scope in paths),
            waiting=tuple((scope, world.joins.get(waiting(scope), 0)) for scope in paths),
        )

    def joins(self, item: WorkItem) -> JoinsRead:
        """The joins of a scope in which nothing else is live."""
        if self.world.scope_counts.get(item.scope, 0) != 1:
            return JoinsRead()
        there = self.world.items
        due_some_time = [join for join in self.world.awaited.get(item.scope, []) if join.join_id not in there]
        levels = {join.node: join_of(self.world.graph, join).level for join in due_some_time}
        due = [join for join in due_some_time if levels[join.node] == min(levels.values())]
        now = tuple((join, len(self.world.joined[join.join_id])) for join in due[:1])
        return JoinsRead(joins=now, has_more=len(due) > 1)

    def page(self, item: WorkItem) -> PageRead:
        routes = self.world.pages[item.input.opener, item.input.number]
        assert isinstance(routes, tuple)
        return PageRead(routes)

    def routes(self, item: WorkItem, values: list[int]) -> tuple[Routed, ...]:
        node = self.world.graph.nodes[item.node]
        if not node.node.may_fan_out:
            return tuple(route_value(self.world.graph, node, value_for(node.output, (values or [1])[0]), ()))
        return tuple(
            route
            for n, value in enumerate(values)
            for route in route_value(self.world.graph, node, value_for(node.output, value), (n,))
        )

    def unparked(self, item: WorkItem) -> Decision:
        graph = self.world.graph
        leave = LeaveParked(item.queue, graph.workflow, graph.version, item.node, item.item_id)
        return moves.unpark(item, self.turn(item), self.run, self.world.epoch, self.now, WORKER, leave)

    def reset_items(self) -> None:
        """Before a failed run goes on, its items become pending."""
        for item_id in sorted(self.world.listed):
            item = self.world.items[item_id]
            is_merely_held = item.status is WorkItemStatus.HELD and not item.due_ms
            scope = self.world.scopes[item.scope[-1]] if item.scope else None
            was_left_out = is_merely_held and scope is not None and scope.then.item_id in self.world.items
            if item.status is not WorkItemStatus.PENDING and not was_left_out:
                turn = self.turn(item)
                self.commit(moves.reset(item, turn, self.run, self.world.epoch, self.now, WORKER, run_id=RUN))

    def bring_back(self, timer: Timer) -> None:
        """Publish what is pending of a run that was resumed, and take the timer away that asks for it."""
        for item_id in sorted(self.world.listed):
            item = self.world.items[item_id]
            if self.status is RunStatus.RUNNING and item.status is WorkItemStatus.PENDING:
                self.commit(publish_moves.republish(item, self.turn(item), self.now, WORKER, ()))
        self.world.timers.discard(timer)


def play(machine: type[DecisionMachine], **options: Any) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(deadline=None, stateful_step_count=40, suppress_health_check=list(HealthCheck), **options),
    )


@pytest.mark.timeout(300)
def test_whatever_happens_counts_agree_every_live_item_is_reachable_and_the_run_ends() -> None:
    play(DecisionMachine, max_examples=max(60, settings().max_examples // 2))


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("keeps", [True, False])
def test_without_trouble_every_run_completes_and_leaves_nothing_behind(number: int, keeps: bool) -> None:
    machine = DecisionMachine()
    machine.start(number, None)
    for _ in range(MOST_STEPS_LEFT):
        if machine.status is RunStatus.COMPLETED:
            break
        machine.go_on(keeps=keeps)
    machine.teardown()
    world = machine.world
    assert (world.messages, world.owned, world.timers, world.parked, world.listed) == ({}, set(), set(), set(), set())
    assert list(world.arrivals[""]) != []


# --- the machine can fail

Change = Callable[[Decision], Decision]


def without(*kinds: type) -> Change:
    def change(decision: Decision) -> Decision:
        return replace(
            decision,
            conditions=tuple(each for each in decision.conditions if not isinstance(each, kinds)),
            changes=tuple(each for each in decision.changes if not isinstance(each, kinds)),
        )

    return change


QUICKLY_SEEN: dict[str, tuple[str, Change]] = {
    "a step does not check its turn": ("decide", without(TurnIs)),
    "a join is not acted on in the commit that closes its scope": ("decide", without(WhenScope)),
    "a step loses its timer": ("decide", without(SetTimer)),
    "a successor has no note of its message": ("decide", without(EnterMessage)),
    "an item given back has no note of its message": ("give_back", without(EnterMessage)),
    "a pause does not check the epoch": ("pause_run", without(EpochIs)),
    "parking is not counted": ("park", without(Count)),
    "a step does not check the epoch": ("decide", without(EpochIs)),
    "a claim does not check the epoch": ("claim", without(EpochIs)),
    "a wake does not check the epoch": ("wake", without(EpochIs)),
    "giving back does not check the epoch": ("give_back", without(EpochIs)),
}
SEEN_AFTER_A_WHILE: dict[str, tuple[str, Change]] = {
    "a wake does not check the turn": ("wake", without(TurnIs)),
    "giving back does not check the turn": ("give_back", without(TurnIs)),
    "a claim does not check the turn": ("claim", without(TurnIs)),
}
IS_THOROUGH = settings().max_examples >= 1_000
"""Some take hundreds of stories to be seen; ``HYPOTHESIS_PROFILE=thorough`` looks for those as well."""
MUTANTS = QUICKLY_SEEN | (SEEN_AFTER_A_WHILE if IS_THOROUGH else {})


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.timeout(300)
def test_the_machine_notices(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change = MUTANTS[mutant]
    module = next((one for one in (moves, run_moves, publish_moves) if name in vars(one)), None)
    original = decide if module is None else vars(module)[name]

    def changed(*args: Any, **kwargs: Any) -> Decision:
        return change(original(*args, **kwargs))

    if module is None:
        monkeypatch.setitem(DecisionMachine.step.__globals__, "decide", changed)
    else:
        monkeypatch.setattr(module, name, changed)
    with pytest.raises((AssertionError, pytest.fail.Exception, StopIteration, KeyError)):
        play(DecisionMachine, max_examples=3_000, phases=[Phase.generate], derandomize=True, database=None)
