from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp import Append, Context, EventLog, Sum
from floxide_amqp.core.context import ContextState, context_to_plain, delta_of
from floxide_amqp.core.context_parts import StillContext, put_together
from floxide_amqp.exceptions import CodecError


class Inner(Context):
    log: EventLog[str] = EventLog(["inner"])


class Long(Context):
    steps: Annotated[int, Sum()] = 0
    log: EventLog[int] = EventLog()
    names: Annotated[list[str], Append()] = []
    pairs: Annotated[tuple[tuple[int, int], ...], Append()] = ()
    inner: Inner = Inner()


PATHS = ("log", "names", "pairs", "inner.log")


def grow(state: ContextState[Any], step: int) -> None:
    view = state.view(f"step-{step}")
    view.steps += 1
    view.log.append(step)
    view.names = [*view.names, f"name {step}"]
    view.pairs = (*view.pairs, (step, -step))
    view.inner.log.append(f"inner {step}")
    state.apply(delta_of(view))


def grown(steps: int) -> ContextState[Long]:
    state = ContextState.load(Long, context_to_plain(Long()))
    for step in range(steps):
        grow(state, step)
    return state


@given(st.integers(0, 12), st.dictionaries(st.sampled_from(PATHS), st.integers(0, 12)))
def test_the_rest_and_what_was_left_out_of_it_are_the_context(steps: int, kept: dict[str, int]) -> None:
    state = grown(steps)
    still = StillContext(state)
    assert still.lengths == {"log": steps, "names": steps, "pairs": steps, "inner.log": steps + 1}
    beginnings = {path: still.elements(path, 0, count) for path, count in kept.items()}
    again = put_together(Long, still.rest(kept), beginnings)
    assert again.to_plain() == state.to_plain()
    assert again.view("x") == state.view("x")


def test_what_is_applied_later_does_not_show_in_a_context_that_stands_still() -> None:
    state = grown(3)
    still, before = StillContext(state), state.to_plain()
    for step in range(3, 6):
        grow(state, step)
    assert still.rest({}) == before
    assert still.lengths["log"] == 3
    assert len(still.elements("log", 1, 99)) == len(still.elements("names", 1, 99)) == 2


def test_a_rest_that_is_put_together_is_not_changed() -> None:
    still = StillContext(grown(4))
    rest = still.rest({"log": 2, "inner.log": 1})
    shown = repr(rest)
    put_together(Long, rest, {"log": still.elements("log", 0, 2), "inner.log": still.elements("inner.log", 0, 1)})
    assert repr(rest) == shown


def test_a_beginning_of_a_field_that_is_gone_is_left_out() -> None:
    rest = StillContext(grown(2)).rest({})
    state = put_together(Long, rest, {"gone": [1, 2], "gone.log": [3]})
    assert state.to_plain() == grown(2).to_plain()


class Counted(Context):
    log: Annotated[int, Sum()] = 0


@pytest.mark.parametrize("rest", [None, [], {"log": ["", 1]}])
def test_a_beginning_does_not_fit_a_rest_of_another_form(rest: object) -> None:
    with pytest.raises(CodecError):
        put_together(Counted, rest, {"log": [1, 2]})


@pytest.mark.parametrize("rest", [{"log": 1}, {"names": 1}, {"inner": 1}, {"names": ["", 1]}])
def test_a_damaged_rest_is_a_codec_error(rest: dict[str, object]) -> None:
    whole = StillContext(grown(2)).rest({})
    with pytest.raises(CodecError):
        put_together(Long, whole | rest, {"log": [["a:0", "", 1]], "names": ["a"], "inner.log": []})
