"""Every group of the language of flows happens in the simulation, and what was never seen is named."""

from __future__ import annotations

import random

import pytest

from floxide_amqp.testing.simulation.exercised import (
    CHILDREN,
    CONTROL,
    ELSEWHERE,
    FLOW,
    GROUPS,
    JOINS,
    ROUTING,
    SEARCH,
    SIGNALS,
    SOURCES,
    TIMERS,
    VERSIONS,
    Exercised,
    never,
    table,
)
from floxide_amqp.testing.simulation.report import Totals
from floxide_amqp.testing.simulation.scene import Outside
from floxide_amqp.testing.simulation.scenes import draw_scene
from floxide_amqp.testing.simulation.seeds import play_seed

SEEDS = 200

WANTED = {
    JOINS: ("gathers", "joins of edges", "fan-outs closed early", "items cancelled"),
    SIGNALS: ("signals accepted", "items held"),
    TIMERS: ("items held with a time", "timers", "delayed starts", "deadlines", "runs of schedules"),
    CHILDREN: ("children",),
    CONTROL: (
        "pause", "resume", "cancel", "terminate", "retry", "fork", "forks", "complete", "complete_item",
        "edit_context", "steps undone",
    ),
    FLOW: ("tickets", "changes of keys"),
    ROUTING: ("steps by their labels",),
    VERSIONS: ("steps by a stand-in",),
    SOURCES: ("messages that became runs",),
    SEARCH: ("attributes listed", "events heard", "lists by attributes", "views"),
}  # fmt: skip
"""What must have happened of each group."""


def missing(seen: Exercised) -> list[str]:
    return [f"{GROUPS[group]}: {what}" for group, all_of_it in WANTED.items() for what in all_of_it
            if not seen[group, what]]  # fmt: skip


def has_scene(seed: int) -> bool:
    return draw_scene(random.Random(f"scene of seed {seed}"), Outside()) is not None


def test_every_group_happens_within_two_hundred_seeds() -> None:
    totals = Totals()
    for seed in sorted(range(SEEDS), key=lambda seed: not has_scene(seed)):  # those with scenes show most
        played = play_seed(seed)
        assert played.violations == ()
        totals.add(played)
        if not missing(totals.exercised):
            break
    assert missing(totals.exercised) == []
    assert totals.never_exercised == []


def test_a_group_of_which_nothing_happened_is_named() -> None:
    seen = Exercised({(JOINS, "gathers"): 3, (FLOW, "tickets"): 0})
    named = never(seen)
    assert GROUPS[JOINS] not in named
    assert GROUPS[FLOW] in named
    assert not {GROUPS[group] for group in ELSEWHERE} & set(named)
    lines = table(seen)
    assert len(lines) == len(GROUPS) == 11
    assert lines[0].endswith("3 gathers")
    assert lines[FLOW - 1].endswith("nothing")


@pytest.mark.parametrize("number", [1, 5])
def test_the_summary_of_random_seeds_tells_what_happened_of_each_group(number: int) -> None:
    totals = Totals()
    totals.exercised[number, "things"] += 2
    assert f"{number:>2} {GROUPS[number]:<28} 2 things" in totals.summary(1.0)
