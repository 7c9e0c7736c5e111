"""Each planted bug is found within a stated number of seeds, by checks that know of none of them; without it all hold.

``pytest -s`` shows the first seed that finds each, and what it says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from floxide_amqp.testing.simulation import Plan, Played, loop, play_seed
from tests.simulation.planted.bugs import BUGS, Bug, Draw

MOST_CALLBACKS = 40_000
"""A simulation with more of them spins, as a planted bug may well make it: below ten thousand are usual here."""


def played(seed: int, change: Callable[[Plan], Plan], draw: Draw) -> Played:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "MAX_CALLBACKS", MOST_CALLBACKS)
        return play_seed(seed, change=change, draw=draw)


@functools.cache
def clean(seed: int, change: Callable[[Plan], Plan], draw: Draw) -> Played:
    """Play a seed without any bug; once, whoever asks."""
    return played(seed, change, draw)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_and_its_seeds_hold_without_it(bug: Bug, record_property: Callable[..., None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        tries = (played(seed, bug.change, bug.draw) for seed in range(bug.within))
        found = next((one for one in tries if one.violations), None)
    assert found is not None, f"{bug.name} is not found within {bug.within} seeds: the simulation is too weak"
    record_property("first_seed", found.seed)
    record_property("found_by", found.violations[0])
    print(f"{bug.name}: seed {found.seed}: {found.violations[0]}")
    assert {seed: clean(seed, bug.change, bug.draw).violations for seed in range(found.seed + 1)} == dict.fromkeys(
        range(found.seed + 1), ()
    )
