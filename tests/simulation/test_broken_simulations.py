"""A simulation that does not get to its end is a finding, and leaves nothing for the next one to stumble over."""

from __future__ import annotations

import gc

import pytest

from floxide_amqp.testing.simulation import loop, play_seed, seeds
from floxide_amqp.testing.simulation.seeds import Drama


def test_a_simulation_that_spins_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_CALLBACKS", 500)
    (violation,) = play_seed(1).violations
    assert "the simulation broke: LivelockError" in violation
    gc.collect()  # what is still suspended would say so now


def test_a_simulation_that_ends_early_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_off(self: Drama) -> None:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(seeds.Drama, "play", break_off)
    (violation,) = play_seed(1).violations
    assert "the simulation broke: ZeroDivisionError: in the middle" in violation
