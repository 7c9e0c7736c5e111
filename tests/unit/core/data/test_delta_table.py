"""What a node changed, field kind by field kind: the delta, what it merges to, and what is refused."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from typing_extensions import TypedDict

from floxide_amqp.core.context import Context, ContextState, context_to_plain, delta_of
from floxide_amqp.core.context_declaration import Fixed
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.reducers import Append, ChangeRefusedError, LastWrite, Max, Min, Sum, Union
from floxide_amqp.exceptions import CodecError, ContextChangeError
from floxide_amqp.stores.encoding import pack, unpack


class Product:
    """A reducer of a user's own."""

    def diff(self, before: float, after: float) -> float | None:
        return None if after == before else after / before

    def merge(self, base: float, delta: float) -> float:
        return base * delta


class OnlyForward:
    def diff(self, before: str, after: str) -> str | None:
        if after < before:
            raise ChangeRefusedError("went backwards", "only go forward")
        return after if after != before else None

    def merge(self, base: str, delta: str) -> str:
        return max(base, delta)


@dataclass
class Step:
    name: str


class Inner(Context):
    count: Annotated[int, Sum()] = 0
    log: EventLog[str] = EventLog()


class State(Context):
    who: Fixed[str] = "me"
    ids: Fixed[list[int]] = [1]
    log: EventLog[Step] = EventLog()
    total: Annotated[int, Sum()] = 10
    top: Annotated[int, Max()] = 10
    low: Annotated[int, Min()] = 10
    tags: Annotated[set[str], Union()] = {"a"}
    lines: Annotated[list[Step], Append()] = [Step("a")]
    marks: Annotated[tuple[int, ...], Append()] = (1,)
    last: Annotated[dict[str, list[int]], LastWrite()] = {"a": [1]}
    written: Annotated[float, LastWrite()] = 1.0
    factor: Annotated[float, Product()] = 2.0
    stage: Annotated[str, OnlyForward()] = "b"
    inner: Inner = Inner()


def state() -> ContextState[State]:
    return ContextState.load(State, context_to_plain(State()))


def change(view: State, source: str) -> None:
    exec(source, {"Step": Step, "EventLog": EventLog, "Inner": Inner}, {"s": view})


def change_and_commit(view: State, source: str) -> None:
    change(view, source)
    delta_of(view)


TABLE: list[tuple[str, str, Any, str, Any]] = [
    # field, what the node did, its delta, what is read then, and what it is
    ("total", "s.total += 5", ["int", 5], "s.total", 15),
    ("total", "s.total -= 5", ["int", -5], "s.total", 5),
    ("total", "s.total = 10", None, "s.total", 10),
    ("top", "s.top = 12", ["int", 12], "s.top", 12),
    ("top", "s.top = 8", None, "s.top", 10),
    ("low", "s.low = 8", ["int", 8], "s.low", 8),
    ("low", "s.low = 12", None, "s.low", 10),
    ("tags", "s.tags.add('b')", ["set[str]", {"b"}], "s.tags", {"a", "b"}),
    ("tags", "s.tags = s.tags | {'b'}", ["set[str]", {"b"}], "s.tags", {"a", "b"}),
    ("tags", "s.tags.add('a')", None, "s.tags", {"a"}),
    ("lines", "s.lines.append(Step('b'))", ["list[Step]", [{"name": "b"}]], "s.lines", [Step("a"), Step("b")]),
    ("lines", "s.lines.extend([])", None, "s.lines", [Step("a")]),
    ("marks", "s.marks += (2, 3)", ["tuple[int, ...]", (2, 3)], "s.marks", (1, 2, 3)),
    ("last", "s.last['a'].append(2)", ["dict[str, list[int]]", {"a": [1, 2]}], "s.last", {"a": [1, 2]}),
    ("last", "s.last = {'a': [1]}", None, "s.last", {"a": [1]}),
    ("last", "s.last", None, "s.last", {"a": [1]}),
    ("written", "s.written = 2.0", ["float", 2.0], "s.written", 2.0),
    ("written", "s.written = 1.0", None, "s.written", 1.0),
    ("written", "s.written = s.written * -0.0", ["float", -0.0], "s.written", 0.0),
    ("log", "s.log.append(Step('x'))", [["item:0", "Step", {"name": "x"}]], "list(s.log)", [Step("x")]),
    ("log", "len(s.log)", None, "len(s.log)", 0),
    ("log", "s.log.merge(EventLog([Step('y')], origin='o'))", [["o:0", "Step", {"name": "y"}]], "len(s.log)", 1),
    ("inner", "s.inner.count += 1", {"count": ["int", 1]}, "s.inner.count", 1),
    ("inner", "s.inner.log.append('x')", {"log": [["item:0", "str", "x"]]}, "list(s.inner.log)", ["x"]),
    ("inner", "s.inner", None, "s.inner.count", 0),
    ("factor", "s.factor *= 3", ["float", 3.0], "s.factor", 6.0),
    ("stage", "s.stage = 'c'", ["str", "c"], "s.stage", "c"),
    ("who", "s.who", None, "s.who", "me"),
    ("ids", "s.ids", None, "s.ids", [1]),
]


@pytest.mark.parametrize(("field", "done", "delta", "read", "expected"), TABLE)
def test_a_change_is_this_delta_and_merges_to_this(field: str, done: str, delta: Any, read: str, expected: Any) -> None:
    run = state()
    view = run.view("item")
    change(view, done)
    found = delta_of(view)
    assert found == (None if delta is None else {field: delta})
    run.apply(unpack(pack(found)))
    after = eval(read, {"s": run.view("next")})
    assert (type(after), after) == (type(expected), expected)


@pytest.mark.parametrize(("field", "done", "delta", "read", "expected"), TABLE)
def test_a_snapshot_gives_back_the_merged_state(field: str, done: str, delta: Any, read: str, expected: Any) -> None:
    run = state()
    view = run.view("item")
    change(view, done)
    run.apply(delta_of(view))
    again = ContextState.load(State, unpack(pack(run.to_plain())))
    assert again.view("x") == run.view("x")
    assert again.to_plain() == run.to_plain()


@pytest.mark.parametrize(
    ("done", "sentence"),
    [
        ("s.who = 'you'", "State.who was changed, and it is Fixed: given at start and the same for the whole run."),
        ("s.ids.append(2)", "State.ids was changed, and it is Fixed"),
        ("s.tags.remove('a')", "State.tags lost 1 of its members, and Union() only ever adds. To cure it, mark"),
        ("s.lines.clear()", "State.lines changed elements that were there before, and Append() only ever adds"),
        ("s.lines[0].name = 'z'", "State.lines changed elements that were there before"),
        ("s.lines.insert(0, Step('z'))", "State.lines changed elements that were there before"),
        ("s.marks = ()", "State.marks changed elements that were there before"),
        ("s.log = EventLog()", "State.log was assigned, and an EventLog only ever grows. To cure it, call append()"),
        ("s.inner = Inner()", "State.inner was assigned, and a nested context is merged field by field. To cure it"),
        ("s.stage = 'a'", "State.stage went backwards. To cure it, only go forward."),
    ],
)
def test_a_change_that_cannot_be_merged_is_refused_with_field_and_cure(done: str, sentence: str) -> None:
    view = state().view("item")
    with pytest.raises(ContextChangeError) as caught:
        change_and_commit(view, done)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "done",
    ["s.total = 'x'", "s.total = None", "s.tags.add(1)", "s.tags = ['b']", "s.lines.append('x')", "s.last = 3",
     "s.written = 'x'", "s.log.append('x')", "s.log.merge(EventLog(['x'], origin='o'))", "s.inner.count = 'x'"],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(done: str) -> None:
    view = state().view("item")
    with pytest.raises(CodecError, match="was to be stored as"):
        change_and_commit(view, done)


def test_a_node_that_changes_nothing_has_no_delta() -> None:
    assert delta_of(state().view("item")) is None


class Pair(TypedDict):
    a: int
    b: int


class Loose(Context):
    who: Fixed[Pair] = {"b": 2, "a": 1}
    row: Pair = {"b": 2, "a": 1}
    rows: Annotated[list[Pair], Append()] = [{"b": 2, "a": 1}]
    ratio: float = 1
    free: Annotated[dict[str, Any], LastWrite()] = {"b": (1, {2}), "a": None}


def test_a_node_that_only_reads_writes_nothing_even_where_reading_puts_data_in_order() -> None:
    view = ContextState.load(Loose, context_to_plain(Loose())).view("item")
    assert (view.who, view.row, view.rows, view.ratio, view.free) is not None
    assert delta_of(view) is None
    view.rows.append({"b": 4, "a": 3})
    assert delta_of(view) == {"rows": ["list[Pair]", [{"b": 4, "a": 3}]]}


def test_a_view_does_not_show_what_is_committed_after_it_was_made() -> None:
    run = state()
    before = run.view("early")
    writer = run.view("item")
    for name in ("total", "tags", "lines", "log", "inner"):
        change(writer, {"total": "s.total += 1", "tags": "s.tags.add('z')", "lines": "s.lines.append(Step('z'))",
                        "log": "s.log.append(Step('z'))", "inner": "s.inner.log.append('z')"}[name])  # fmt: skip
    run.apply(delta_of(writer))
    assert before == state().view("other")
    assert len(run.view("late").log) == 1


def test_views_do_not_share_what_they_change() -> None:
    run = state()
    one, two = run.view("one"), run.view("two")
    one.tags.add("x")
    one.last["a"].append(9)
    one.log.append(Step("x"))
    assert (two.tags, two.last, list(two.log)) == ({"a"}, {"a": [1]}, [])


def test_an_event_merged_twice_counts_once() -> None:
    run = state()
    view = run.view("item")
    view.log.append(Step("x"))
    delta = {"log": delta_of(view)["log"]}  # type: ignore[index]
    run.apply(delta)
    run.apply(delta)
    assert list(run.view("next").log) == [Step("x")]


def test_an_item_that_commits_twice_under_one_origin_loses_no_event() -> None:
    run = state()
    for name in ("x", "y"):
        view = run.view("item")
        view.log.append(Step(name))
        run.apply(delta_of(view))
    assert list(run.view("next").log) == [Step("x"), Step("y")]


def test_a_delta_that_fails_leaves_the_state_as_it_was() -> None:
    run = state()
    before = run.to_plain()
    with pytest.raises(CodecError):
        run.apply(
            {"log": [["i:0", "Step", {"name": "x"}]], "lines": ["list[Step]", [{"name": "x"}]], "total": ["int", "x"]}
        )
    assert run.to_plain() == before
    run.apply({"log": [["i:0", "Step", {"name": "x"}]], "lines": ["list[Step]", [{"name": "x"}]]})
    assert (list(run.view("n").log), run.view("n").lines) == ([Step("x")], [Step("a"), Step("x")])


@pytest.mark.parametrize(
    ("delta", "sentence"),
    [
        ([], "is a list instead of a dict"),
        ({"nothing": ["int", 1]}, "names the field 'nothing', which State does not have"),
        ({"who": ["str", "you"]}, "names the field 'who', which is Fixed"),
        ({"total": 5}, "no pair of a tag and data"),
        ({"total": ["int"]}, "no pair of a tag and data"),
        ({"total": ["int", "x"]}, "was to be read as int"),
        ({"last": ["dict[str, list[int]]", 1]}, "was to be read as dict"),
        ({"lines": ["list[Step]", 3]}, "was to be read as list"),
        ({"log": {}}, "event log is no list"),
        ({"log": [["id", "Step"]]}, "no triple"),
        ({"log": [[1, "Step", {}]]}, "no triple"),
        ({"log": ["abc"]}, "no triple"),
        ({"inner": 3}, "is a int instead of a dict"),
    ],
)
def test_a_damaged_delta_is_a_codec_error(delta: Any, sentence: str) -> None:
    with pytest.raises(CodecError) as caught:
        state().apply(delta)
    assert sentence in str(caught.value)


class Older(Context):
    total: Annotated[int, Sum()] = 0


class Newer(Context):
    total: Annotated[int, Sum()] = 0
    added: Annotated[list[int], LastWrite()] = [7]


class Stricter(Context):
    total: Annotated[int, Sum()] = 0
    added: int


def test_a_field_that_a_snapshot_lacks_gets_its_default() -> None:
    assert ContextState.load(Newer, context_to_plain(Older(total=3))).view("x") == Newer(total=3)


def test_a_snapshot_that_lacks_a_field_without_default_is_refused() -> None:
    with pytest.raises(CodecError, match="lacks 'added', which Stricter has no default for"):
        ContextState.load(Stricter, context_to_plain(Older()))


@pytest.mark.parametrize("plain", [None, [], {"total": 3}, {"log": 3}, {"lines": ["x", 3]}, {"inner": []}])
def test_a_damaged_snapshot_is_a_codec_error(plain: Any) -> None:
    with pytest.raises(CodecError):
        ContextState.load(State, plain)


# --- cost


class Busy(Context):
    log: EventLog[Step] = EventLog()
    spent: Annotated[int, Sum()] = 0


def busy(events: int) -> ContextState[Busy]:
    return ContextState.load(Busy, {"log": [[f"i:{n}", "Step", {"name": "x"}] for n in range(events)]})


def one_step(run: ContextState[Busy]) -> None:
    view = run.view("item")
    view.log.append(Step("y"))
    view.spent += 1
    run.apply(delta_of(view))


def calls_and_bytes_of_a_step(events: int) -> tuple[int, int]:
    run = busy(events)
    one_step(run)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        one_step(run)
    finally:
        sys.setprofile(before)
    tracemalloc.start()
    one_step(run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return calls, peak


def test_a_step_costs_the_same_however_long_the_log_is() -> None:
    short_calls, _ = calls_and_bytes_of_a_step(10)
    calls, peak = calls_and_bytes_of_a_step(50_000)
    assert calls == short_calls
    assert peak < 50_000  # bytes; a copy of 50,000 references alone is 400,000
