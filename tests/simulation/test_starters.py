"""Stories in which schedules and sources start runs: each occurrence and each item is one run, whatever befalls it."""

from __future__ import annotations

import pytest

from floxide_amqp.testing.simulation.seeds import play_seed
from floxide_amqp.testing.simulation.starters import ITEMS, in_every_story


@pytest.mark.parametrize("seed", range(4))
def test_schedules_decide_on_each_occurrence_once(seed: int) -> None:
    played = play_seed(seed, draw=in_every_story("schedule"))
    assert played.violations == ()
    assert played.faults["scheduled run"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_no_message_leaves_its_queue_before_the_store_knows_of_it(seed: int) -> None:
    played = play_seed(seed, draw=in_every_story("queue"))
    assert played.violations == ()
    assert played.faults["source run"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_an_iterator_goes_on_where_its_runs_are_recorded(seed: int) -> None:
    played = play_seed(seed, draw=in_every_story("iterator"))
    assert played.violations == ()
    assert played.faults["source run"] >= ITEMS


@pytest.mark.parametrize("kind", ["schedule", "queue", "iterator"])
def test_a_story_with_one_is_told_the_same_every_time(kind: str) -> None:
    assert play_seed(5, draw=in_every_story(kind)).digest == play_seed(5, draw=in_every_story(kind)).digest
