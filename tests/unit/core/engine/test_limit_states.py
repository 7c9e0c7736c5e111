"""Concurrency keys as pure state: never more holders than the limit, nobody forgotten, and twice is once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_amqp import DefinitionError
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.limits import (
    LOOK_MS,
    MOST_ASKED,
    Concurrency,
    LimitChange,
    LimitState,
    Ticket,
    ask_again,
    epoch_of,
    key_text,
    noted,
    number_and_limit,
    release,
    set_limit,
    take,
    ticket_number,
    wait,
)


def ticket(number: int, priority: int = 5) -> Ticket:
    return Ticket(ticket_number(priority, number, 1, 2), WorkItemId(f"item{number}"), RunId("run"))


A, B, C, D = map(ticket, range(4))


def test_a_key_with_room_is_taken_and_a_full_one_is_not() -> None:
    first = take(LimitState(), (), A, 1)
    assert first is not None
    assert first.granted == (A,)
    assert first.state.holders == (A,)
    assert take(first.state, (), B, 1) is None


def test_who_holds_the_key_takes_it_again_and_nothing_changes() -> None:
    state = LimitState(declared=1, holders=(A,))
    assert take(state, (B,), A, 1) == LimitChange(state=state)


def test_who_waits_for_a_key_that_it_holds_is_told_so_again() -> None:
    state = LimitState(declared=1, holders=(A,))
    assert wait(state, (B,), A, 1) == LimitChange(state=state, granted=(A,))


def test_nobody_takes_the_key_before_those_who_wait() -> None:
    assert take(LimitState(declared=2, holders=(A,)), (B,), C, 2) is None


def test_what_is_given_back_goes_to_the_first_who_waits() -> None:
    change = release(LimitState(declared=1, holders=(A,)), (B, C), A)
    assert change.state.holders == (B,)
    assert change.granted == (B,)
    assert set(change.left) == {A, B}


def test_who_waits_and_gives_its_ticket_back_is_off_the_list_and_gets_nothing() -> None:
    state = LimitState(declared=1, holders=(A,))
    change = release(state, (B, C), B)
    assert change.state == state
    assert (change.granted, change.left) == ((), (B,))


def test_a_higher_priority_and_then_the_earlier_comes_first() -> None:
    urgent, early, late = ticket(9, priority=7), ticket(1), ticket(2)
    assert sorted([late, early, urgent]) == [urgent, early, late]


def test_a_higher_limit_lets_in_who_waits_and_a_lower_one_sends_nobody_away() -> None:
    raised = set_limit(LimitState(declared=1, holders=(A,)), (B, C, D), 3)
    assert raised.state.holders == (A, B, C)
    lowered = set_limit(raised.state, (D,), 1)
    assert lowered.state.holders == (A, B, C)
    assert release(lowered.state, (D,), A).granted == ()


def test_what_was_set_goes_before_what_the_code_says() -> None:
    state = LimitState(declared=1, override=2, holders=(A,))
    change = take(state, (), B, 1)
    assert change is not None
    assert change.state.holders == (A, B)


def test_an_item_says_which_ticket_and_which_key() -> None:
    number = ticket_number(5, 123, 7, 8)
    assert number_and_limit(noted(number, "mail/a b")) == (number, "mail/a b")
    assert epoch_of(number) == 7
    assert epoch_of("nonsense") == 0


def test_the_key_of_a_value_is_its_text() -> None:
    assert key_text("account", "a b/c") == "a b/c"
    assert key_text("account", 7) == "7"
    assert key_text("account", None) is None
    with pytest.raises(TypeError, match="text, a whole number or None, not list"):
        key_text("account", ["a"])
    with pytest.raises(ValueError, match="at most 200"):
        key_text("account", "x" * 201)
    with pytest.raises(ValueError, match="printable"):
        key_text("account", "a\nb")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"name": "", "limit": 1}, "name must be"),
        ({"name": "a/b", "limit": 1}, "name must be"),
        ({"name": "a", "limit": 0}, "from 1 to 1000"),
        ({"name": "a", "limit": True}, "from 1 to 1000"),
        ({"name": "a", "limit": 1001}, "from 1 to 1000"),
        ({"name": "a", "limit": 1, "key": "account"}, "must be a function"),
    ],
)
def test_a_limit_that_cannot_be_one_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        Concurrency(**given)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["take", "wait", "release"]), st.integers(0, 7)), max_size=60),
    st.integers(1, 3),
)
def test_in_any_order_no_key_has_too_many_holders_and_none_is_free_while_somebody_waits(
    calls: list[tuple[str, int]], limit: int
) -> None:
    state, waiting = LimitState(declared=limit), set[Ticket]()
    for what, number in calls:
        one, now = ticket(number), sorted(waiting)
        change: LimitChange | None
        if what == "take":
            change = take(state, now, one, limit) if one not in waiting else None
        else:
            change = wait(state, now, one, limit) if what == "wait" else release(state, now, one)
        if change is None:
            continue
        state = change.state
        waiting = (waiting | set(change.entered)) - set(change.left)
        assert len(state.holders) == len(set(state.holders)) <= limit
        assert not waiting & set(state.holders)
        assert not (waiting and state.room)
        assert set(change.granted) <= set(state.holders)
    for one in (*state.holders, *waiting):
        change = release(state, sorted(waiting), one)
        state, waiting = change.state, (waiting | set(change.entered)) - set(change.left)
    while state.holders:
        change = release(state, sorted(waiting), state.holders[0])
        state, waiting = change.state, waiting - set(change.left)
    assert not waiting


def test_all_who_have_held_a_key_for_long_are_asked_again_in_turn() -> None:
    holders = tuple(map(ticket, range(3 * MOST_ASKED)))
    state, asked = LimitState(declared=1_000, holders=holders), set[Ticket]()
    for round_ in range(3):
        change = ask_again(state, (), 10 * LOOK_MS + round_)
        assert change is not None
        assert len(change.granted) == MOST_ASKED
        asked |= {*change.granted}
        state = change.state
    assert asked == {*state.holders} == {*holders}
