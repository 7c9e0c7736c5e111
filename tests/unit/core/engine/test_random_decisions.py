"""Random decisions about random workflows: what must hold holds after every commit."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_amqp.core import moves
from floxide_amqp.core.changes import LeaveParked
from floxide_amqp.core.decide import decide
from floxide_amqp.core.decisions import (
    Anchor,
    Decision,
    Failed,
    Held,
    MessageAnchor,
    Outcome,
    OwnerAnchor,
    PageRead,
    Step,
    Succeeded,
)
from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.records import InputKind, ItemInput, Routed, RunHeader, WorkItem
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.runtime.steps import route_value
from tests.unit.core.engine.world import RUN, WORKER, World
from floxide_amqp.testing.simulation.random_workflows import random_workflow

ERROR = ErrorInfo(kinds=("builtins.ValueError", "builtins.Exception", "builtins.BaseException"), message="no")
MOST_ACTIONS = 400


class Player:
    """Takes one action after the other, as workers, clients and the maintenance would."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(graph)
        self.now = 1_000
        self.troubles = 12
        header = RunHeader(
            run_id=RUN, workflow=graph.workflow, version=graph.version, input=b"", input_digest="", context=b"",
            created_at_ms=0, deadline_ms=self.chance.choice([None, 10**9]), reply_to="", start_item=WorkItemId("first"),
        )  # fmt: skip
        first = WorkItem(
            item_id=header.start_item, node=graph.start, queue=graph.nodes[graph.start].options.queue,
            status=WorkItemStatus.PENDING, input=ItemInput(payload=b"1"),
        )  # fmt: skip
        self.world.commit(moves.start_run(header, first, WORKER))

    def play(self) -> None:
        for _ in range(MOST_ACTIONS):
            self.now += self.chance.choice([0, 1, 1_000])
            self.world.check()
            if self.world.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
                return
            self.act()
        raise AssertionError(f"not over after {MOST_ACTIONS} actions: {self.world.items}")

    def act(self) -> None:
        world = self.world
        assert world.run is not None
        assert world.header is not None
        if world.status is RunStatus.FAILED or (world.status is RunStatus.PAUSED and self.chance.random() < 0.3):
            self.resume()
            return
        if self.troubles and self.chance.random() < 0.05:
            self.troubles -= 1
            if world.status is not RunStatus.PAUSED:
                world.commit(moves.pause_run(world.run, world.epoch, self.now, "because"))
            elif self.chance.random() < 0.3:
                world.commit(moves.cancel_run(world.header, world.run, world.epoch, self.now, "enough"))
            return
        candidates = [item for item in world.items.values() if item.item_id in world.listed]
        self.act_on(self.chance.choice(candidates))

    def act_on(self, item: WorkItem) -> None:
        world, turn = self.world, self.world.turns[item.item_id]
        assert world.run is not None
        match item.status:
            case WorkItemStatus.WAITING_RETRY | WorkItemStatus.HELD:
                timer = next((t for t in world.timers if t.item_id == item.item_id and t.turn == turn), None)
                if timer is not None:
                    world.commit(moves.wake(item, timer, world.run, world.epoch, self.now, WORKER))
            case WorkItemStatus.PARKED:
                leave = LeaveParked(item.queue, world.graph.workflow, world.graph.version, item.node, item.item_id)
                world.commit(moves.unpark(item, turn, world.run, world.epoch, self.now, WORKER, leave))
            case WorkItemStatus.IN_PROGRESS:
                self.go_on(item, turn)
            case WorkItemStatus.PENDING if world.status is not RunStatus.PAUSED:
                self.begin(item, turn)
            case _:
                pass

    def begin(self, item: WorkItem, turn: int) -> None:
        world = self.world
        entry = next((e for e, start in world.messages.items() if world.frontier(start) == item.item_id), "")
        message = MessageAnchor(item.queue, entry)
        draw = self.chance.random()
        if draw < 0.1 and self.troubles:
            self.troubles -= 1
            world.commit(moves.park(item, turn, world.epoch, "W", "1", "unknown", message))
        elif draw < 0.3:
            world.commit(moves.claim(item, turn, world.epoch, WORKER))
        else:
            self.step(item, turn, message)

    def go_on(self, item: WorkItem, turn: int) -> None:
        world = self.world
        assert world.run is not None
        entry = next((e for e, start in world.messages.items() if world.frontier(start) == item.item_id), "")
        anchor: Anchor = OwnerAnchor() if item.anchored else MessageAnchor(item.queue, entry)
        draw = self.chance.random()
        if draw < 0.15 and self.troubles:
            self.troubles -= 1
            decision = moves.give_back(item, turn, world.run, world.epoch, self.now, WORKER, died=draw < 0.07)
            world.commit(decision)
        elif draw < 0.3 and isinstance(anchor, MessageAnchor):
            world.commit(moves.anchor(item, turn, WORKER, anchor))
        else:
            self.step(item, turn, anchor)

    def step(self, item: WorkItem, turn: int, anchor: Anchor) -> None:
        world = self.world
        assert world.header is not None
        assert world.run is not None
        keeps = self.chance.random() < 0.6
        step = Step(
            graph=world.graph, header=world.header, run=world.run, epoch=world.epoch, item=item, turn=turn,
            scope=world.scopes[item.scope[-1]] if item.scope else None, anchor=anchor, worker=WORKER, now_ms=self.now,
            retry=RetryPolicy(max_attempts=3), context_length=world.context_length,
            keep=frozenset(node.options.queue for node in world.graph.nodes.values()) if keeps else frozenset(),
        )  # fmt: skip
        decision: Decision = decide(step, self.outcome(item))
        world.commit(decision)

    def outcome(self, item: WorkItem) -> Outcome:
        if item.input.kind is InputKind.PAGE:
            routes = self.world.pages[item.input.opener, item.input.number]
            assert isinstance(routes, tuple)
            return PageRead(routes)
        draw = self.chance.random()
        if draw < 0.1 and self.troubles:
            self.troubles -= 1
            return Failed(ERROR, is_final=self.chance.random() < 0.3, payload=b"list")
        if draw < 0.2 and self.troubles:
            self.troubles -= 1
            return Held(for_ms=self.chance.choice([0, 500]), delta=self.chance.choice([None, b"delta"]))
        return Succeeded(self.routes(item), self.chance.choice([None, b"delta"]))

    def routes(self, item: WorkItem) -> tuple[Routed, ...]:
        node = self.world.graph.nodes[item.node]
        if not node.node.may_fan_out:
            value: object = 4 * self.chance.randint(0, 9) if node.output.description == "int" else []
            return tuple(route_value(self.world.graph, node, value, ()))
        size = self.chance.choice([0, 1, 3])
        values = [4 * self.chance.randint(0, 9) for _ in range(size)]
        return tuple(
            route for n, value in enumerate(values) for route in route_value(self.world.graph, node, value, (n,))
        )

    def resume(self) -> None:
        world = self.world
        assert world.run is not None
        was_failed = world.status is RunStatus.FAILED
        assert world.header is not None
        decision = moves.resume_run(world.header, world.run, world.epoch, self.now, again_at_ms=self.now + 1)
        world.commit(decision)
        assert world.run is not None
        for item_id in sorted(world.listed):
            item, turn = world.items[item_id], world.turns[item_id]
            if item.status is WorkItemStatus.PENDING:
                world.commit(moves.republish(item, turn, self.now, WORKER, ()))
            elif was_failed:
                world.commit(moves.reset(item, turn, world.run, world.epoch, self.now, WORKER, run_id=RUN))
        timer = decision.effects.timer
        assert timer is not None
        world.timers.discard(timer)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=60)
def test_whatever_is_decided_counts_agree_and_every_live_item_is_reachable(workflow: int, seed: int) -> None:
    made, _ = random_workflow(workflow)
    player = Player(made.graph, seed)
    player.play()
    if player.world.status is RunStatus.COMPLETED:
        assert player.world.counts["outputs"] == 1


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=25)
def test_without_trouble_every_run_completes_with_one_output_and_nothing_left(workflow: int, seed: int) -> None:
    made, _ = random_workflow(workflow)
    player = Player(made.graph, seed)
    player.troubles = 0
    player.play()
    world = player.world
    assert world.status is RunStatus.COMPLETED
    assert list(world.arrivals[""]) != []
    assert (world.messages, world.owned, world.timers, world.parked, world.listed) == ({}, set(), set(), set(), set())
    assert world.counts["completed"] <= len(world.history)


def test_a_decision_is_the_same_whenever_it_is_made_again() -> None:
    made, _ = random_workflow(3)
    one, two = Player(made.graph, 5), Player(made.graph, 5)
    one.play()
    two.play()
    assert one.world == replace(two.world)
