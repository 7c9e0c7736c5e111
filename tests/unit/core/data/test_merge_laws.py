"""The laws of merging, as properties: identity, round trip, commuting where promised, idempotence by event id."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from floxide_amqp.core.context import Context, ContextState, context_to_plain, delta_of
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.reducers import Append, ChangeRefusedError, LastWrite, Max, Min, Reducer, Sum, Union

whole = st.integers(-(2**70), 2**70)
exact = st.decimals(-(10**9), 10**9, places=2)
spans = st.timedeltas(timedelta(days=-1000), timedelta(days=1000))
sets = st.frozensets(st.integers(0, 9))
lists = st.lists(st.integers(0, 9))

cases: list[tuple[Reducer[Any], st.SearchStrategy[Any]]] = [
    (Sum(), whole), (Sum(), exact), (Sum(), spans), (Max(), whole), (Max(), st.text()), (Min(), spans), (Min(), exact),
    (Union(), sets), (Append(), lists), (Append(), lists.map(tuple)), (LastWrite(), lists),
]  # fmt: skip
one = st.sampled_from(cases).flatmap(lambda case: st.tuples(st.just(case[0]), case[1], case[1]))
three = st.sampled_from(cases).flatmap(lambda case: st.tuples(st.just(case[0]), case[1], case[1], case[1]))
commuting = st.sampled_from([c for c in cases if isinstance(c[0], Sum | Max | Min | Union)]).flatmap(
    lambda case: st.tuples(st.just(case[0]), case[1], case[1], case[1])
)


@given(one)
def test_no_change_has_no_delta(case: tuple[Any, Any, Any]) -> None:
    reducer, value, _ = case
    assert reducer.diff(value, value) is None


@given(one)
def test_merging_the_delta_gives_what_the_node_had(case: tuple[Any, Any, Any]) -> None:
    reducer, before, after = case
    try:
        delta = reducer.diff(before, after)
    except ChangeRefusedError:
        return
    if delta is None and isinstance(reducer, Max | Min):
        assert reducer.merge(before, after) == before
    else:
        assert (before if delta is None else reducer.merge(before, delta)) == after


@given(three)
def test_merging_is_associative(case: tuple[Any, Any, Any, Any]) -> None:
    reducer, a, b, c = case
    assert reducer.merge(reducer.merge(a, b), c) == reducer.merge(a, reducer.merge(b, c))


@given(commuting)
def test_concurrent_deltas_commute_where_the_reducer_says_so(case: tuple[Any, Any, Any, Any]) -> None:
    reducer, base, one_delta, other_delta = case
    forward = reducer.merge(reducer.merge(base, one_delta), other_delta)
    assert forward == reducer.merge(reducer.merge(base, other_delta), one_delta)


@pytest.mark.parametrize("reducer", [Max(), Min(), Union()])
@given(base=sets, delta=sets)
def test_a_delta_merged_twice_is_merged_once(reducer: Any, base: frozenset[int], delta: frozenset[int]) -> None:
    first: Any = base if isinstance(reducer, Union) else len(base)
    second: Any = delta if isinstance(reducer, Union) else len(delta)
    once = reducer.merge(first, second)
    assert reducer.merge(once, second) == once


class Inner(Context):
    count: Annotated[int, Sum()] = 0
    log: EventLog[int] = EventLog()


class State(Context):
    total: Annotated[int, Sum()] = 0
    money: Annotated[Decimal, Sum()] = Decimal(0)
    top: Annotated[int, Max()] = 0
    low: Annotated[int, Min()] = 0
    tags: Annotated[set[int], Union()] = set()
    lines: Annotated[list[int], Append()] = []
    last: str = ""
    log: EventLog[int] = EventLog()
    inner: Inner = Inner()


class Change:
    """What one node did, so that it can be done to any view."""

    def __init__(self, number: int, tags: list[int], events: list[int], text: str) -> None:
        self.number, self.tags, self.events, self.text = number, tags, events, text

    def to(self, view: State) -> None:
        view.total += self.number
        view.money += Decimal(self.number) / 4
        view.top = max(view.top, self.number)
        view.low = min(view.low, self.number)
        view.tags.update(self.tags)
        view.lines.extend(self.events)
        view.log.extend(self.events)
        view.last = self.text
        view.inner.count += self.number
        view.inner.log.extend(self.events)

    def __repr__(self) -> str:
        return f"Change({self.number}, {self.tags}, {self.events}, {self.text!r})"


numbers = st.integers(-1000, 1000)
changes = st.builds(Change, numbers, st.lists(numbers, max_size=3), st.lists(numbers, max_size=3), st.text(max_size=2))


def start() -> ContextState[State]:
    return ContextState.load(State, context_to_plain(State()))


def committed(made: list[Change], order: list[int]) -> ContextState[State]:
    """Run the changes as concurrent nodes, and commit them in an order."""
    run = start()
    deltas = []
    for number, change in enumerate(made):
        view = run.view(f"item{number}")
        change.to(view)
        deltas.append(delta_of(view))
    for index in order:
        run.apply(deltas[index])
    return run


@given(st.lists(changes, max_size=5))
def test_nodes_one_after_the_other_change_the_state_as_they_would_change_an_object(made: list[Change]) -> None:
    run = start()
    plain = State()
    for number, change in enumerate(made):
        view = run.view(f"item{number}")
        change.to(view)
        run.apply(delta_of(view))
        change.to(plain)
    end = run.view("end")
    assert (end.total, end.money, end.top, end.low) == (plain.total, plain.money, plain.top, plain.low)
    assert (end.tags, end.lines, end.last, end.inner.count) == (plain.tags, plain.lines, plain.last, plain.inner.count)
    assert (list(end.log), list(end.inner.log)) == (list(plain.log), list(plain.inner.log))


@given(st.lists(changes, min_size=1, max_size=4), st.data())
def test_the_commit_order_shows_only_where_it_is_promised_to(made: list[Change], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(made))))
    straight, shuffled = committed(made, list(range(len(made)))).view("x"), committed(made, order).view("x")
    for name in ("total", "money", "top", "low", "tags"):
        assert getattr(straight, name) == getattr(shuffled, name)
    assert sorted(straight.log.items()) == sorted(shuffled.log.items())
    assert shuffled.lines == [event for index in order for event in made[index].events]
    assert [i for i, _ in shuffled.log.items()] == [
        f"item{index}:{n}" for index in order for n in range(len(made[index].events))
    ]
    written = [made[index].text for index in order if made[index].text]
    assert shuffled.last == (written[-1] if written else "")


@given(st.lists(changes, min_size=1, max_size=4), st.data())
def test_merging_events_again_in_any_order_changes_nothing(made: list[Change], data: st.DataObject) -> None:
    run = committed(made, list(range(len(made))))
    before: Any = run.to_plain()["log"]
    again = data.draw(st.permutations(before))
    assume(again)
    run.apply({"log": again})
    assert run.to_plain()["log"] == before


@given(st.lists(changes, max_size=4), st.integers(0, 4))
def test_a_snapshot_in_between_makes_no_difference(made: list[Change], position: int) -> None:
    run, resumed = start(), start()
    for number, change in enumerate(made):
        view = run.view(f"item{number}")
        change.to(view)
        delta = delta_of(view)
        run.apply(delta)
        if number == position:
            resumed = ContextState.load(State, resumed.to_plain())
        resumed.apply(delta)
    assert resumed.to_plain() == run.to_plain()
