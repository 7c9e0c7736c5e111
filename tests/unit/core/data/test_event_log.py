"""The event log: append, read, replay, and merge by event id."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.event_log import EventLog

logs = st.builds(
    lambda events, origin: EventLog(events, origin=origin), st.lists(st.integers()), st.sampled_from("abc")
)


def merged(*parts: EventLog[int]) -> EventLog[int]:
    whole: EventLog[int] = EventLog(origin="whole")
    for part in parts:
        whole.merge(part)
    return whole


def test_events_are_read_in_the_order_they_were_appended() -> None:
    log = EventLog(["a"])
    log.append("b")
    log.extend(["c", "d"])
    assert (list(log), len(log), bool(log)) == (["a", "b", "c", "d"], 4, True)


def test_an_empty_log_is_false() -> None:
    assert not EventLog[int]()


def test_replay_folds_the_events_from_the_first_to_the_last() -> None:
    assert EventLog(["a", "b"]).replay(">", lambda text, event: text + event) == ">ab"


def test_since_gives_what_came_after_a_position() -> None:
    log = EventLog([1, 2, 3])
    assert (log.since(0), log.since(1), log.since(3), log.since(9)) == ((1, 2, 3), (2, 3), (), ())


def test_a_copy_has_the_same_ids_and_a_life_of_its_own() -> None:
    log = EventLog([1])
    twin = log.copy()
    assert twin == log
    twin.append(2)
    assert len(log) == 1


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda log: pickle.loads(pickle.dumps(log))])
def test_a_log_can_be_duplicated_by_python_s_own_means(duplicate: object) -> None:
    log = EventLog([1, 2], origin="a")
    assert duplicate(log) == log  # type: ignore[operator]


def test_appending_to_a_log_that_holds_events_of_its_origin_repeats_no_id() -> None:
    log: EventLog[int] = EventLog(origin="a")
    log.merge(EventLog([1, 2], origin="a"))
    log.append(3)
    assert [event_id for event_id, _ in log.items()] == ["a:0", "a:1", "a:2"]


@given(logs)
def test_merging_an_empty_log_changes_nothing(log: EventLog[int]) -> None:
    assert merged(log, EventLog()) == log
    assert merged(EventLog(), log) == log


@given(logs)
def test_merging_a_log_twice_is_merging_it_once(log: EventLog[int]) -> None:
    assert merged(log, log) == merged(log)


@given(logs)
def test_a_log_merged_into_itself_is_as_before(log: EventLog[int]) -> None:
    twin = log.copy()
    log.merge(log)
    assert log == twin


@given(logs, logs, logs)
def test_merging_is_associative(a: EventLog[int], b: EventLog[int], c: EventLog[int]) -> None:
    assert merged(merged(a, b), c) == merged(a, merged(b, c))


@given(logs, logs)
def test_the_order_of_merging_decides_the_order_of_events_and_nothing_else(a: EventLog[int], b: EventLog[int]) -> None:
    assert {i for i, _ in merged(a, b).items()} == {i for i, _ in merged(b, a).items()}
