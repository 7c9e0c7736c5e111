"""Signals as commits: what each checks, so that no value is taken twice and none is passed over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from floxide_amqp.core import moves, signal_moves
from floxide_amqp.core.changes import Change, Count, PutItem
from floxide_amqp.core.commit_conditions import Condition, EpochIs, TurnIs
from floxide_amqp.core.decide import decide
from floxide_amqp.core.decisions import Decision, MessageAnchor, Step
from floxide_amqp.core.function_node import node
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.outcomes import Held, Succeeded
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, SetTimer
from floxide_amqp.core.records import ItemInput, Mail, RunHeader, RunState, WorkItem
from floxide_amqp.core.retry import NO_RETRY
from floxide_amqp.core.signal_changes import (
    EnterWait,
    KeepMail,
    LeaveWait,
    MailboxIs,
    MailIsThere,
    NoteSignal,
    SignalIsNew,
    TakeMail,
    WaitersAre,
)
from floxide_amqp.core.signal_waits import awaited, waiting_for
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.core.transition import Hold
from floxide_amqp.core.workflow import WorkflowDefinition

RUN, ITEM, ME = RunId("run"), WorkItemId("item"), WorkerId("me")
RUNNING = RunState(status=RunStatus.RUNNING, updated_at_ms=0)
PAUSED = RunState(status=RunStatus.PAUSED, updated_at_ms=0)
MAIL = Mail(signal_id="s", name="approval", payload=b"yes", sent_at_ms=5)


@node
async def ask(order: str) -> str | Hold:
    return order


class Asking(WorkflowDefinition[str, str]):
    start = ask


GRAPH: Graph = Asking.graph
HEADER = RunHeader(
    run_id=RUN, workflow="Asking", version="1", input=b"", input_digest="", context=b"", created_at_ms=0,
    deadline_ms=None, reply_to="", start_item=ITEM,
)  # fmt: skip
PENDING = WorkItem(item_id=ITEM, node="ask", queue="q", status=WorkItemStatus.PENDING, input=ItemInput(payload=b"x"))
WAITING = replace(
    PENDING, status=WorkItemStatus.HELD, waits_for="signal:approval,withdrawal", parked_ms=3, due_ms=90, note="old"
)


def step(item: WorkItem = PENDING, **facts: object) -> Step:
    given: dict[str, object] = {
        "graph": GRAPH, "header": HEADER, "run": RUNNING, "epoch": 2, "item": item, "turn": 4, "scope": None,
        "anchor": MessageAnchor("q", "entry"), "worker": ME, "now_ms": 10, "retry": NO_RETRY,
    }  # fmt: skip
    return Step(**(given | facts))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def put_by(decision: Decision) -> WorkItem:
    (put,) = [change.item for change in decision.changes if isinstance(change, PutItem)]
    return put


def has(decision: Decision, *facts: Change | Condition) -> bool:
    return set(facts) <= {*decision.changes, *decision.conditions}


@pytest.mark.parametrize(("run", "messages"), [(RUNNING, 1), (PAUSED, 0)])
def test_who_waits_gets_the_value_and_leaves_every_list_and_its_timer(run: RunState, messages: int) -> None:
    decision = signal_moves.give(MAIL, "digest", WAITING, 4, run, 2, now_ms=20, publisher=ME, run_id=RUN)
    woken = put_by(decision)
    assert (woken.status, woken.mail, woken.waits_for, woken.due_ms, woken.parked_ms) == (
        WorkItemStatus.PENDING, MAIL, "", 0, 0,
    )  # fmt: skip
    timer = Timer(due_ms=90, run_id=RUN, item_id=ITEM, kind=TimerKind.HOLD, turn=4)
    left = (LeaveWait("approval", 3, ITEM), LeaveWait("withdrawal", 3, ITEM))
    assert has(decision, TurnIs(ITEM, 4), EpochIs(2), SignalIsNew("s"), NoteSignal("s", "digest"), DropTimer(timer))
    assert has(decision, *left, Count("waiting", -1))
    assert len(decision.effects.publish) == messages


def test_a_value_is_kept_only_if_nobody_began_to_wait_meanwhile() -> None:
    decision = signal_moves.keep(MAIL, "digest", 2, 7)
    assert decision.conditions == (EpochIs(2), WaitersAre("approval", 7), SignalIsNew("s"))
    assert decision.changes == (NoteSignal("s", "digest"), KeepMail(MAIL))


@pytest.mark.parametrize(("for_ms", "due_ms"), [(None, 0), (50, 60)])
def test_a_hold_for_signals_stands_only_if_nothing_was_kept_meanwhile(for_ms: int | None, due_ms: int) -> None:
    decision = decide(step(mailbox=3), Held(for_ms=for_ms, until=("approval", "withdrawal")))
    held = put_by(decision)
    assert MailboxIs(3) in decision.conditions
    assert (held.status, held.due_ms, held.parked_ms) == (WorkItemStatus.HELD, due_ms, 10)
    assert awaited(held.waits_for) == ("approval", "withdrawal")
    assert has(decision, EnterWait("approval", 10, ITEM), EnterWait("withdrawal", 10, ITEM), Count("waiting", 1))
    assert [change.timer.due_ms for change in decision.changes if isinstance(change, SetTimer)] == [due_ms] * bool(
        due_ms
    )


def test_a_hold_for_what_is_there_gives_it_to_the_item_at_once() -> None:
    decision = decide(step(), Held(until=("approval",), mail=MAIL))
    woken = put_by(decision)
    assert (woken.status, woken.mail) == (WorkItemStatus.PENDING, MAIL)
    assert has(decision, MailIsThere("s"), TakeMail(MAIL))
    assert [out.turn for out in decision.effects.publish] == [5]
    assert any(isinstance(change, EnterMessage) for change in decision.changes)
    assert not any(isinstance(condition, MailboxIs) for condition in decision.conditions)


def test_what_a_step_received_is_taken_if_it_is_still_there() -> None:
    decision = decide(step(taken=(MAIL,)), Succeeded(()))
    assert has(decision, MailIsThere("s"), TakeMail(MAIL))


def test_a_step_that_ends_or_holds_again_gives_up_the_value_that_woke_it() -> None:
    woken = replace(PENDING, mail=MAIL, timed_out=True)
    for outcome in (Succeeded(()), Held(for_ms=5), Held(until=("approval",))):
        put = put_by(decide(step(woken), outcome))
        assert (put.mail, put.timed_out) == (None, False)


def test_a_wait_whose_time_is_over_says_so_and_leaves_the_lists() -> None:
    timer = Timer(due_ms=90, run_id=RUN, item_id=ITEM, kind=TimerKind.HOLD, turn=4)
    decision = moves.wake(WAITING, timer, RUNNING, 2, 95, ME)
    woken = put_by(decision)
    assert (woken.status, woken.timed_out, woken.waits_for) == (WorkItemStatus.PENDING, True, "")
    assert has(decision, LeaveWait("approval", 3, ITEM), LeaveWait("withdrawal", 3, ITEM), DropTimer(timer))
    for_a_time = replace(WAITING, waits_for="", note="")
    assert put_by(moves.wake(for_a_time, timer, RUNNING, 2, 95, ME)).timed_out
    late_start = replace(WAITING, waits_for="", note="waits for its start")
    assert not put_by(moves.wake(late_start, timer, RUNNING, 2, 95, ME)).timed_out


def test_a_reset_item_leaves_the_lists_and_keeps_the_value_it_was_given() -> None:
    decision = moves.reset(WAITING, 4, RUNNING, 2, 95, ME, run_id=RUN)
    assert has(decision, LeaveWait("approval", 3, ITEM), LeaveWait("withdrawal", 3, ITEM), Count("waiting", -1))
    failed = replace(PENDING, status=WorkItemStatus.FAILED, mail=MAIL)
    assert put_by(moves.reset(failed, 4, RUNNING, 2, 95, ME, run_id=RUN)).mail == MAIL


def test_what_an_item_waits_for_is_told_apart_from_other_waits() -> None:
    assert awaited(waiting_for(("a", "b.c"))) == ("a", "b.c")
    assert awaited("child:run") == ()
    assert awaited("") == ()
