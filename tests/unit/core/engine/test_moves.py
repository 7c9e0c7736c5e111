"""What no node decides: claims, wakes, returns, control actions, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from floxide_amqp.core import moves, publish_moves, run_moves
from floxide_amqp.core.changes import Change, Count, CountScope, PutItem, PutRun, WhenCount
from floxide_amqp.core.commit_conditions import EpochIs, NotDeleted, TurnIs
from floxide_amqp.core.decisions import Decision, MessageAnchor
from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, EnterOwner, LeaveMessage, LeaveOwner, SetTimer
from floxide_amqp.core.records import ItemInput, RunHeader, RunState, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind

ME, OTHER = WorkerId("me"), WorkerId("other")
RUN, ITEM = RunId("run"), WorkItemId("item")
RUNNING = RunState(status=RunStatus.RUNNING, updated_at_ms=1)
PAUSED = RunState(status=RunStatus.PAUSED, updated_at_ms=1)
FAILED = RunState(status=RunStatus.FAILED, updated_at_ms=1)
HEADER = RunHeader(
    run_id=RUN, workflow="W", version="1", input=b"", input_digest="", context=b"", created_at_ms=0, deadline_ms=500,
    reply_to="", start_item=ITEM,
)  # fmt: skip


def item(status: WorkItemStatus = WorkItemStatus.PENDING, **facts: object) -> WorkItem:
    given: dict[str, object] = {"item_id": ITEM, "node": "n", "queue": "q", "status": status, "input": ItemInput()}
    return WorkItem(**(given | facts))  # type: ignore[arg-type]


def unless_undone(changes: Iterable[Change]) -> list[Change]:
    """What is written where nothing is to be undone first."""
    found: list[Change] = []
    for change in changes:
        found += unless_undone(change.then) if isinstance(change, WhenCount) else [change]
    return found


def put_by(decision: Decision) -> WorkItem:
    (put,) = [change for change in decision.changes if isinstance(change, PutItem)]
    return put.item


def test_a_start_is_refused_where_the_run_or_its_item_exists() -> None:
    decision = run_moves.start_run(HEADER, item(), ME)
    assert decision.conditions == (TurnIs(ITEM, 0), EpochIs(0), NotDeleted())
    assert SetTimer(Timer(due_ms=500, run_id=RUN, kind=TimerKind.RUN_TIMEOUT)) in decision.changes
    assert [out.turn for out in decision.effects.publish] == [1]


@pytest.mark.parametrize(("at_most_once", "deaths"), [(False, 0), (True, 1)])
def test_a_claim_of_an_at_most_once_item_counts_as_a_death_until_it_ends(at_most_once: bool, deaths: int) -> None:
    owned = put_by(moves.claim(item(), 1, 2, ME, at_most_once=at_most_once))
    assert (owned.status, owned.owner, owned.deaths) == (WorkItemStatus.IN_PROGRESS, ME, deaths)


def test_an_anchor_puts_an_owner_entry_in_the_place_of_the_message() -> None:
    decision = moves.anchor(item(), 3, ME, MessageAnchor("q", "entry"))
    assert put_by(decision).anchored
    assert {EnterOwner(ME, ITEM), LeaveMessage("q", "entry")} <= set(decision.changes[1:])


@pytest.mark.parametrize(("died", "deaths"), [(True, 2), (False, 1)])
@pytest.mark.parametrize(("run", "messages"), [(RUNNING, 1), (PAUSED, 0), (FAILED, 0)])
def test_what_is_given_back_is_pending_and_published_only_where_the_run_runs(
    died: bool, deaths: int, run: RunState, messages: int
) -> None:
    owned = item(WorkItemStatus.IN_PROGRESS, owner=OTHER, anchored=True, deaths=1)
    decision = moves.give_back(owned, 4, run, 7, 1_000, ME, died=died)
    assert decision.conditions == (TurnIs(ITEM, 4), EpochIs(7))
    assert (put_by(decision).status, put_by(decision).owner, put_by(decision).deaths) == (
        WorkItemStatus.PENDING,
        "",
        deaths,
    )
    assert LeaveOwner(OTHER, ITEM) in decision.changes
    assert len([change for change in decision.changes if isinstance(change, EnterMessage)]) == messages
    assert [out.turn for out in decision.effects.publish] == [5] * messages


def test_a_wake_checks_the_turn_its_timer_was_set_with() -> None:
    timer = Timer(due_ms=5, run_id=RUN, item_id=ITEM, kind=TimerKind.RETRY, turn=3)
    decision = moves.wake(item(WorkItemStatus.WAITING_RETRY, due_ms=5), timer, RUNNING, 1, 9, ME)
    assert TurnIs(ITEM, 3) in decision.conditions
    assert {DropTimer(timer), Count("waiting", -1)} <= set(decision.changes[1:])


@pytest.mark.parametrize(("status", "is_over"), [(WorkItemStatus.HELD, True), (WorkItemStatus.WAITING_RETRY, False)])
def test_only_the_end_of_a_hold_is_a_timeout_not_the_next_try_of_a_child_that_failed(
    status: WorkItemStatus, is_over: bool
) -> None:
    timer = Timer(due_ms=5, run_id=RUN, item_id=ITEM, kind=TimerKind.RETRY, turn=3)
    waiting = item(status, due_ms=5, waits_for="child:run-1")
    assert put_by(moves.wake(waiting, timer, RUNNING, 1, 9, ME)).timed_out is is_over


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (item(WorkItemStatus.FAILED, attempt=3, deaths=2), set()),
        (item(WorkItemStatus.IN_PROGRESS, owner=OTHER), {LeaveOwner(OTHER, ITEM)}),
        (
            item(WorkItemStatus.HELD, scope=(ScopeId("s"),)),
            {Count("held", -1), Count("live", 1), CountScope((ScopeId("s"),), 1)},
        ),
        (
            item(WorkItemStatus.HELD, due_ms=9),
            {Count("waiting", -1), DropTimer(Timer(due_ms=9, run_id=RUN, item_id=ITEM, kind=TimerKind.HOLD, turn=2))},
        ),
        (
            item(WorkItemStatus.WAITING_RETRY, due_ms=9, attempt=1),
            {Count("waiting", -1), DropTimer(Timer(due_ms=9, run_id=RUN, item_id=ITEM, kind=TimerKind.RETRY, turn=2))},
        ),
    ],
)
def test_a_reset_takes_back_what_the_status_had_counted(before: WorkItem, changes: set[object]) -> None:
    decision = moves.reset(before, 2, RUNNING, 1, 9, ME, run_id=RUN)
    after = put_by(decision)
    assert after.status is WorkItemStatus.PENDING
    assert (after.attempt, after.deaths) == ((0, 0) if before.status is WorkItemStatus.FAILED else (before.attempt, 0))
    assert {change for change in decision.changes if not isinstance(change, PutItem | EnterMessage)} == changes


@pytest.mark.parametrize("run", [PAUSED, FAILED])
def test_a_resume_leaves_a_timer_that_does_its_second_part_again(run: RunState) -> None:
    decision = run_moves.resume_run(HEADER, run, 6, 10, again_at_ms=40)
    timer = Timer(due_ms=40, run_id=RUN, kind=TimerKind.RESUME, turn=7)
    assert decision.effects.timer == timer
    assert SetTimer(timer) in decision.changes
    assert decision.conditions == (EpochIs(6),)


def test_a_failed_run_that_is_resumed_has_its_whole_timeout_again_and_a_paused_one_keeps_its_deadline() -> None:
    failed = run_moves.resume_run(HEADER, FAILED, 6, 10_000, again_at_ms=40)
    assert SetTimer(Timer(due_ms=10_500, run_id=RUN, kind=TimerKind.RUN_TIMEOUT)) in failed.changes
    assert [change.state.deadline_ms for change in failed.changes if isinstance(change, PutRun)] == [10_500]
    paused = run_moves.resume_run(HEADER, replace(PAUSED, deadline_ms=500), 6, 10, again_at_ms=40)
    assert [change.state.deadline_ms for change in paused.changes if isinstance(change, PutRun)] == [500]
    assert not [c for c in paused.changes if isinstance(c, SetTimer) and c.timer.kind is TimerKind.RUN_TIMEOUT]


@pytest.mark.parametrize("status", [RunStatus.CANCELLED, RunStatus.PAUSED])
def test_a_control_action_checks_and_raises_the_epoch(status: RunStatus) -> None:
    if status is RunStatus.PAUSED:
        decision = run_moves.pause_run(RUNNING, 3, 9, "why")
    else:
        decision = run_moves.cancel_run(HEADER, RUNNING, 3, 9, "why")
    (put,) = [change for change in unless_undone(decision.changes) if isinstance(change, PutRun)]
    assert (decision.conditions, decision.epoch_after) == ((EpochIs(3),), 4)
    assert (put.state.status, put.was, put.state.reason) == (status, RunStatus.RUNNING, "why")
    assert decision.effects.finished is (status if status.is_terminal else None)


def test_how_often_an_items_message_was_lost_is_not_forgotten_when_publishing_the_next_is_put_off() -> None:
    (out,) = publish_moves.republish(item(), 4, 50, ME, (), tries=3).effects.publish
    put_off = publish_moves.repeat_publish(out, 90, HEADER, ME)
    assert [change.tries for change in put_off.changes if isinstance(change, EnterMessage)] == [3]
    assert put_off.effects.timer is not None
    again = publish_moves.publish_again(item(), put_off.effects.timer, 90, ME, tries=3)
    assert [change.tries for change in again.changes if isinstance(change, EnterMessage)] == [3]


def test_a_republished_item_keeps_its_turn() -> None:
    decision = publish_moves.republish(item(), 4, 50, ME, ())
    assert [(out.turn, out.recovered) for out in decision.effects.publish] == [(4, True)]
    assert not [change for change in decision.changes if isinstance(change, PutItem)]
