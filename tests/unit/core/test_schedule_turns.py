"""What falls due of a schedule at a moment: as a table of policies, of jitter, of outages and of clocks that jump."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.schedules import (
    LOOK_MS,
    MAX_PASSED,
    MAX_QUEUED,
    Occasion,
    Overlap,
    PlannedRun,
    RunTemplate,
    ScheduleSpec,
    ScheduleState,
    Settled,
    next_turn,
    paused,
    resumed,
    run_id_at,
    timed,
    triggered,
)
from floxide_amqp.runtime.occurrences import Intervals
from floxide_amqp.stores.schedules import decode_progress, decode_spec, encode_progress, encode_spec

MINUTE = 60_000
TIMING = Intervals(MINUTE)
TEMPLATE = RunTemplate(
    workflow="report", version="1", start="write", queue="default", timeout_ms=None, input=b"in", context=b"ctx"
)
SPEC = ScheduleSpec(
    name="report", template=TEMPLATE, every_ms=MINUTE, cron="", timezone="UTC", jitter_ms=0, overlap=Overlap.SKIP,
    catch_up_ms=10 * MINUTE, digest="d", created_at_ms=0,
)  # fmt: skip


def played(spec: ScheduleSpec, state: ScheduleState, now: int, alive: set[str] | None = None) -> ScheduleState:
    """Settle everything that is due, as if each run were started at once; those not in `alive` end at once."""
    for _ in range(200):
        over = set() if alive is None else {run_id for run_id in state.open_runs if run_id not in alive}
        after = next_turn(spec, replace(state, starting=()), now, over, TIMING)
        if not after.starting:
            return after
        state = after
    raise AssertionError("it never comes to rest")


def what(state: ScheduleState) -> list[tuple[str, int, int]]:
    return [(each.occasion.value, each.at_ms // MINUTE, each.count) for each in state.recent]


def test_a_run_has_its_occurrence_in_its_id() -> None:
    assert run_id_at("nightly", 1_700_000_000_000) == "nightly@2023-11-14T22:13:20Z"
    assert run_id_at("often", 1_700_000_000_250) == "often@2023-11-14T22:13:20.250Z"


def test_nothing_begins_before_its_time() -> None:
    state = ScheduleState(next_ms=5 * MINUTE)
    assert next_turn(SPEC, state, 5 * MINUTE - 1, (), TIMING) == state
    assert timed(SPEC, state, 0).timer_ms == 5 * MINUTE


def test_a_due_run_is_written_down_before_it_is_started_and_only_one_at_a_time() -> None:
    after = next_turn(SPEC, ScheduleState(next_ms=5 * MINUTE), 7 * MINUTE, (), TIMING)
    assert after.starting == (PlannedRun(run_id=run_id_at("report", 5 * MINUTE), at_ms=5 * MINUTE),)
    assert (after.next_ms, after.last_ms, after.started) == (6 * MINUTE, 5 * MINUTE, 1)
    alone = replace(after, next_ms=60 * MINUTE)
    assert timed(SPEC, alone, 7 * MINUTE).timer_ms == 7 * MINUTE  # at once, until it is known to be started
    assert timed(SPEC, alone, 7 * MINUTE, left=True).timer_ms == 7 * MINUTE + LOOK_MS  # its server is away


@pytest.mark.parametrize(
    ("overlap", "alive", "expected", "waiting"),
    [
        (Overlap.SKIP, None, [("started", 5, 1), ("skipped", 7, 2)], 0),
        (Overlap.SKIP, set[str](), [("started", 5, 1), ("started", 6, 1), ("started", 7, 1)], 0),
        (Overlap.ALLOW, None, [("started", 5, 1), ("started", 6, 1), ("started", 7, 1)], 0),
        (Overlap.QUEUE, None, [("started", 5, 1)], 2),
        (Overlap.QUEUE, set[str](), [("started", 5, 1), ("started", 6, 1), ("started", 7, 1)], 0),
        (Overlap.CANCEL_PREVIOUS, None, [("skipped", 6, 2), ("started", 7, 1)], 0),
    ],
)
def test_what_becomes_of_three_occurrences_that_are_due_at_once(
    overlap: Overlap, alive: set[str] | None, expected: list[tuple[str, int, int]], waiting: int
) -> None:
    state = played(replace(SPEC, overlap=overlap), ScheduleState(next_ms=5 * MINUTE), 7 * MINUTE, alive)
    assert what(state) == expected
    assert len(state.queue) == waiting
    assert state.next_ms == 8 * MINUTE


def test_a_queued_run_begins_when_the_one_before_it_is_over_and_is_looked_after_until_then() -> None:
    spec = replace(SPEC, overlap=Overlap.QUEUE)
    first, second = run_id_at("report", 5 * MINUTE), run_id_at("report", 6 * MINUTE)
    state = played(spec, ScheduleState(next_ms=5 * MINUTE), 6 * MINUTE)
    assert [each.run_id for each in state.queue] == [second]
    assert timed(spec, state, 6 * MINUTE).timer_ms == 6 * MINUTE + LOOK_MS
    assert not next_turn(spec, state, 6 * MINUTE + LOOK_MS, (), TIMING).starting
    after = next_turn(spec, state, 6 * MINUTE + LOOK_MS, {first}, TIMING)
    assert [each.run_id for each in after.starting] == [second]
    assert after.open_runs == (second,)


def test_what_is_queued_begins_one_after_the_other_once_runs_may_overlap() -> None:
    state = played(replace(SPEC, overlap=Overlap.QUEUE), ScheduleState(next_ms=5 * MINUTE), 8 * MINUTE)
    assert (len(state.queue), state.started) == (3, 1)
    after = played(replace(SPEC, overlap=Overlap.ALLOW), state, 8 * MINUTE)
    assert (after.queue, after.started) == ((), 4)


def test_what_is_late_by_moments_is_on_time_also_where_nothing_is_caught_up() -> None:
    spec = replace(SPEC, catch_up_ms=0)
    late = played(spec, ScheduleState(next_ms=5 * MINUTE), 5 * MINUTE + 3)
    assert (late.started, late.missed) == (1, 0)
    too_late = played(spec, ScheduleState(next_ms=5 * MINUTE), 6 * MINUTE + 3)
    assert what(too_late) == [("missed", 5, 1), ("started", 6, 1)]


def test_a_queue_has_an_end() -> None:
    spec = replace(SPEC, overlap=Overlap.QUEUE, catch_up_ms=1000 * MINUTE)
    state = played(spec, ScheduleState(next_ms=MINUTE), (MAX_QUEUED + 4) * MINUTE)
    assert len(state.queue) == MAX_QUEUED
    assert (state.started, state.skipped) == (1, 3)


def test_the_next_run_names_those_that_it_cancels() -> None:
    spec = replace(SPEC, overlap=Overlap.CANCEL_PREVIOUS)
    state = ScheduleState(next_ms=5 * MINUTE, open_runs=(RunId("old"), RunId("over")))
    (planned,) = next_turn(spec, state, 5 * MINUTE, {RunId("over")}, TIMING).starting
    assert planned.cancels == ("old",)


def test_what_is_older_than_the_catch_up_window_is_missed_and_counted() -> None:
    spec = replace(SPEC, overlap=Overlap.ALLOW, catch_up_ms=2 * MINUTE)
    state = played(spec, ScheduleState(next_ms=MINUTE), 10 * MINUTE)
    assert what(state) == [("missed", 7, 7), ("started", 8, 1), ("started", 9, 1), ("started", 10, 1)]
    assert (state.missed, state.started) == (7, 3)


def test_an_outage_of_ten_years_costs_no_more_than_a_thousand_steps() -> None:
    asked = 0

    class Counting:
        def after(self, at_ms: int) -> int:
            nonlocal asked
            asked += 1
            return TIMING.after(at_ms)

    now = 10 * 365 * 24 * 60 * MINUTE
    after = next_turn(SPEC, ScheduleState(next_ms=MINUTE), now, (), Counting())
    assert asked <= MAX_PASSED + 1
    assert after.missed == MAX_PASSED
    assert after.starting[0].at_ms == now - 10 * MINUTE


def test_a_clock_that_goes_back_starts_nothing_twice() -> None:
    state = played(replace(SPEC, overlap=Overlap.ALLOW), ScheduleState(next_ms=5 * MINUTE), 8 * MINUTE)
    for now in range(8 * MINUTE, 0, -MINUTE):
        assert next_turn(SPEC, replace(state, starting=()), now, (), TIMING).started == state.started


def test_a_pause_starts_nothing_but_what_is_triggered_and_ends_without_catching_up() -> None:
    state = paused(ScheduleState(next_ms=5 * MINUTE), "holidays")
    assert timed(SPEC, state, 0).timer_ms == 0
    assert next_turn(SPEC, state, 9 * MINUTE, (), TIMING) == state
    by_hand = triggered(SPEC, state, "now", 9 * MINUTE)
    assert [each.run_id for each in by_hand.starting] == ["report@trigger-now"]
    assert timed(SPEC, by_hand, 9 * MINUTE).timer_ms == 9 * MINUTE
    assert triggered(SPEC, replace(by_hand, starting=()), "now", 10 * MINUTE).starting == ()
    on = resumed(by_hand, 9 * MINUTE + 1, TIMING)
    assert (on.paused, on.note, on.next_ms, on.missed) == (False, "", 10 * MINUTE, 0)
    assert resumed(on, 30 * MINUTE, TIMING) is on


@given(st.integers(0, 10**13), st.integers(1, 10**9), st.text(min_size=1, max_size=20))
def test_jitter_puts_an_occurrence_off_by_less_than_all_of_it_and_always_the_same(
    at: int, jitter: int, name: str
) -> None:
    spec = replace(SPEC, name=name, jitter_ms=jitter)
    assert at <= spec.due_ms(at) < at + jitter
    assert spec.due_ms(at) == replace(spec, overlap=Overlap.ALLOW).due_ms(at)


def test_jitter_spreads_schedules_of_one_time() -> None:
    due = {replace(SPEC, name=f"report-{n}", jitter_ms=60_000).due_ms(0) // 10_000 for n in range(100)}
    assert due == set(range(6))


planned_runs = st.builds(
    PlannedRun, run_id=st.text(max_size=9).map(RunId), at_ms=st.integers(0, 10**13),
    cancels=st.lists(st.text(max_size=9).map(RunId), max_size=2).map(tuple),
)  # fmt: skip
settled = st.builds(
    Settled, occasion=st.sampled_from(Occasion), at_ms=st.integers(0, 10**13), settled_at_ms=st.integers(0, 10**13),
    run_id=st.text(max_size=9), count=st.integers(1, 1000),
)  # fmt: skip


@given(
    st.builds(
        ScheduleState, number=st.integers(0, 2**40), paused=st.booleans(), note=st.text(max_size=9),
        next_ms=st.integers(0, 10**13), last_ms=st.integers(0, 10**13), timer_ms=st.integers(0, 10**13),
        starting=st.lists(planned_runs, max_size=2).map(tuple), queue=st.lists(planned_runs, max_size=2).map(tuple),
        open_runs=st.lists(st.text(max_size=9).map(RunId), max_size=3).map(tuple), started=st.integers(0, 99),
        skipped=st.integers(0, 99), missed=st.integers(0, 99), recent=st.lists(settled, max_size=3).map(tuple),
    ),
    st.sampled_from(Overlap),
)  # fmt: skip
def test_a_schedule_is_stored_and_read_as_it_was(state: ScheduleState, overlap: Overlap) -> None:
    assert decode_progress(encode_progress(state, b"t" * 16)) == state
    spec = replace(SPEC, overlap=overlap, cron="* * * * *")
    assert decode_spec(encode_spec(spec)) == spec
