from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition, as_transition
from floxide_amqp.exceptions import DefinitionError


def test_a_bare_value_is_next() -> None:
    assert as_transition(5) == Next(5)
    assert as_transition(None) == Next(None)


@pytest.mark.parametrize("transition", [Next(1), NextAll([1, 2]), Hold(), Abort(ValueError("x"))])
def test_a_transition_stays_what_it_is(transition: Transition[int]) -> None:
    assert as_transition(transition) is transition


def test_next_all_keeps_what_it_was_given_even_if_the_list_changes() -> None:
    values = [1, 2]
    transition = NextAll(values)
    values.append(3)
    assert transition.values == (1, 2)


def test_next_all_takes_any_iterable_and_may_be_empty() -> None:
    assert NextAll(str(n) for n in range(2)).values == ("0", "1")  # type: ignore[arg-type]
    assert NextAll(()).values == ()


def test_transitions_are_frozen_and_take_no_other_attributes() -> None:
    with pytest.raises(FrozenInstanceError):
        Next(1).value = 2  # type: ignore[misc]
    assert not hasattr(Next(1), "__dict__")
    assert not hasattr(Hold(), "__dict__")


def test_a_transition_can_be_made_with_its_type_in_brackets() -> None:
    assert Next[int](5) == Next(5)
    assert NextAll[int]([5]) == NextAll([5])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (2, timedelta(seconds=2)),
        (0.5, timedelta(milliseconds=500)),
        (timedelta(days=2), timedelta(days=2)),
    ],
)
def test_hold_keeps_its_time_as_a_timedelta(given: timedelta | float | None, expected: timedelta | None) -> None:
    assert Hold(for_=given).for_ == expected


@pytest.mark.parametrize("given", [-1, float("nan"), float("inf"), timedelta(days=4_000)])
def test_hold_refuses_a_time_no_timer_can_keep(given: timedelta | float) -> None:
    with pytest.raises(DefinitionError, match=r"Hold\(for_=.*the time must be from 0 seconds to 3650 days"):
        Hold(for_=given)


def test_abort_takes_an_exception_instance() -> None:
    with pytest.raises(DefinitionError, match=r"Abort\('no'\): it takes an exception instance"):
        Abort("no")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="it takes an exception instance"):
        Abort(ValueError)  # type: ignore[arg-type]
