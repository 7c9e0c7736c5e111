"""Signals to fan-outs that are closed meanwhile, under faults: no value is lost with an item that is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from floxide_amqp.testing.simulation import Plan, play_seed, recipe, seeds
from floxide_amqp.testing.simulation.random_pieces import Maker, Piece
from floxide_amqp.testing.simulation.random_signals import racing_for_value
from floxide_amqp.testing.simulation.report import describe_failure
from tests.simulation.planted.bugs import given_to_the_closed, hand_to_hand, lost_with_its_item

SEEDS = range(8)


@pytest.fixture(autouse=True)
def only_races(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every piece of a random workflow a race for a value."""

    def some(self: Maker, depth: int) -> Piece:
        del depth
        return racing_for_value(self)

    monkeypatch.setattr(recipe.Recipe, "some", some)
    seeds.recipe.cache_clear()
    yield
    monkeypatch.undo()
    seeds.recipe.cache_clear()


def test_a_value_gets_to_who_needs_it_though_those_who_waited_for_it_are_cancelled() -> None:
    for seed in SEEDS[:4]:
        played = play_seed(seed, change=hand_to_hand if seed % 2 else as_drawn)
        assert not played.violations, describe_failure(played)


def as_drawn(plan: Plan) -> Plan:
    return plan


@pytest.mark.parametrize("plant", [given_to_the_closed, lost_with_its_item])
def test_a_value_that_is_lost_is_noticed(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    found = (each for seed in SEEDS for each in play_seed(seed, change=hand_to_hand).violations)
    assert next((each for each in found if "I13" in each), None) is not None
