"""A simulation that does not get to its end is a finding, and leaves nothing for the next one to stumble over."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from typing import Any

import pytest

from floxide_amqp import Orchestrator
from floxide_amqp.testing.simulation import drama, loop, play_seed, seeds
from floxide_amqp.testing.simulation.drama import Drama
from floxide_amqp.testing.simulation.exercised import ExerciseWatch
from floxide_amqp.testing.simulation.scene import Outside, Scene


def test_a_simulation_that_spins_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_CALLBACKS", 500)
    (violation,) = play_seed(1).violations
    assert "the simulation broke: LivelockError" in violation
    gc.collect()  # what is still suspended would say so now


def test_a_simulation_that_ends_early_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_off(self: Drama) -> None:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(drama.Drama, "play", break_off)
    (violation,) = play_seed(1).violations
    assert "the simulation broke: ZeroDivisionError: in the middle" in violation


class Slip(Scene):
    """A scene that is written wrongly, or whose engine is."""

    workflows: Sequence[Any] = ()

    def __init__(self, *, only_at_the_end: bool) -> None:
        self._only_at_the_end = only_at_the_end
        self._acts = 0

    async def act(self, client: Orchestrator) -> None:
        """Slip, for everybody or for the last alone."""
        self._acts += 1
        if not self._only_at_the_end or client.services.name.startswith("prompter"):
            raise ZeroDivisionError("in a scene")

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """All is well."""
        return []


@pytest.mark.parametrize("only_at_the_end", [False, True])
def test_a_scene_that_ends_by_an_error_is_a_violation(monkeypatch: pytest.MonkeyPatch, only_at_the_end: bool) -> None:
    def draw(chance: random.Random, outside: Outside) -> Scene:
        return Slip(only_at_the_end=only_at_the_end)

    monkeypatch.setattr(seeds, "draw_scene", draw)
    monkeypatch.setattr(seeds, "_has_room_for_a_scene", lambda plan: True)
    violations = play_seed(1).violations
    broken = [violation for violation in violations if "ZeroDivisionError('in a scene')" in violation]
    assert violations == tuple(broken)
    assert ["the scene Slip broke" in each for each in broken if "actor" not in each] == [True]
    assert any("process actor-" in each for each in broken) is not only_at_the_end
