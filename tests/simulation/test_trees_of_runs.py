"""Parents and children under faults: every workflow here starts runs of others, on whatever server they may lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from floxide_amqp.core.kin_letters import ENDED
from floxide_amqp.runtime.letters import LetterQueue
from floxide_amqp.testing.simulation import Plan, play_seed, recipe, seeds
from floxide_amqp.testing.simulation.random_children import calling
from floxide_amqp.testing.simulation.random_pieces import Maker, Piece
from floxide_amqp.testing.simulation.report import describe_failure

SEEDS = range(9)


@pytest.fixture(autouse=True)
def only_parents(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every piece of a random workflow one that starts a run."""

    def some(self: Maker, depth: int) -> Piece:
        return calling(self, depth) if depth > 1 else self.step()

    monkeypatch.setattr(recipe.Recipe, "some", some)
    seeds.recipe.cache_clear()
    yield
    monkeypatch.undo()
    seeds.recipe.cache_clear()


def steered(plan: Plan) -> Plan:
    return replace(plan, steering=8, may_cancel=True, runs=2)


def test_trees_of_runs_end_rightly_though_they_are_paused_and_cancelled_and_whoever_dies() -> None:
    happened: Counter[str] = Counter()
    for seed in SEEDS:
        played = play_seed(seed, change=steered)
        assert not played.violations, describe_failure(played)
        happened += played.faults
    assert happened["pause"] >= 3
    assert happened["cancel"] >= 1
    assert happened["crash"] >= 1


def test_letters_that_nobody_delivers_at_once_are_delivered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    left: Counter[str] = Counter()

    def leave(_: LetterQueue, letters: object) -> None:
        """As if whoever wrote them died then and there."""
        left.update(letter.kind for letter in letters)  # type: ignore[attr-defined]

    monkeypatch.setattr(LetterQueue, "add", leave)
    for seed in SEEDS[:4]:
        played = play_seed(seed)
        assert not played.violations, describe_failure(played)
    assert left[ENDED] >= 3
