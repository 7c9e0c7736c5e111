"""Records that cannot be read for a while, in the middle of all other faults: the runs go on once they are repaired."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from floxide_amqp.runtime.settings import Retention
from floxide_amqp.testing.simulation import Plan, Planned, play_seed, seeds
from floxide_amqp.testing.simulation.cluster import ALONE
from floxide_amqp.testing.simulation.saga_scene import Sagas
from floxide_amqp.testing.simulation.scene import Outside, Scene

DAMAGED_AT = (0.05, 0.2, 0.6, 1.5)


def damaged(plan: Plan) -> Plan:
    """Records are damaged, of runs that are steered besides."""
    faults = sorted((*plan.faults, *(Planned(at, "damage") for at in DAMAGED_AT)), key=lambda planned: planned.at)
    settings = replace(plan.settings, retention=Retention())
    return replace(
        plan, faults=tuple(faults), steering=max(plan.steering, 3), may_cancel=True, is_stormy=True, servers=ALONE,
        settings=settings,
    )  # fmt: skip


def sagas(chance: random.Random, outside: Outside) -> Scene:
    return Sagas(outside, chance.random())


def test_runs_whose_records_are_damaged_for_a_while_are_undone_or_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "draw_scene", sagas)
    faults = Counter[str]()
    for seed in (0, 60):
        played = play_seed(seed, change=damaged)
        faults += played.faults
        assert played.violations == (), seed
    assert faults["damaged record"] > 0
