"""A server of several goes away in a world that is calm otherwise: what is on the others must end meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.rates import waits_for_rate
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.pacing import TURN_WHEN_NEW
from floxide_amqp.stores.rate_keys import rate_place
from floxide_amqp.testing.simulation.cluster import FAR_MS, Simulation
from floxide_amqp.testing.simulation.rate_watch import PACED
from floxide_amqp.testing.simulation.servers import home_of, shown
from floxide_amqp.testing.simulation.storage import StoreServer
from floxide_amqp.testing.simulation.verdict import Started, let_all_go_on
from floxide_amqp.testing.simulation.watch import LETTERS

LOOK_SECONDS = 0.5
"""Between two looks whether all runs have ended."""

OUTAGE_SECONDS = 300.0
"""Virtual time within which every run that needs nothing of the server ends meanwhile."""

LEAST_SECONDS = (0.0, 3.0, 30.0)
"""How long it is away at least; drawn from."""

STANDING = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.PAUSED)
"""Statuses in which a run goes on only if somebody makes it."""


async def play_outage(world: Simulation, chance: random.Random, workflow: Any, runs: Sequence[Started]) -> None:
    """Let one server be away until the runs of all others have ended; they have `OUTAGE_SECONDS` for that.

    Args:
        world: The simulation, calm by now; of a store of several servers.
        chance: Draws which server, and for how long.
        workflow: What all runs are of.
        runs: The runs.
    """
    name, away = chance.choice(sorted(world.servers.items()))
    async with world.client("warden") as client:
        await let_all_go_on(world, client, workflow, runs, resumes_failed=False)
    world.story.fault("server away", shown(name))
    away.weather.is_away = True
    others = [run.run_id for run in runs if home_of(world.servers, run.run_id) is not away]
    reachable = [server for server in world.servers.values() if server is not away]
    began = world.loop.time()
    while (going_on := [run_id for run_id in others if _goes_on(world, run_id, away)]) and (
        world.loop.time() < began + OUTAGE_SECONDS
    ):
        idle = world.idle_ms(reachable)
        if idle > FAR_MS:
            world.let_pass(idle)
        await asyncio.sleep(LOOK_SECONDS)
    for run_id in going_on:
        world.story.violation(f"I1: run {run_id} did not end while {shown(name)} was away, where it is not")
    await asyncio.sleep(max(0.0, began + chance.choice(LEAST_SECONDS) - world.loop.time()))
    away.weather.is_away = False


def _goes_on(world: Simulation, run_id: str, away: StoreServer) -> bool:
    """Whether a run is to go on by itself, which it does not while it waits for what lies on a server that is away.

    A letter that is kept waits for somebody who can see all servers; a child there goes on when the server is back.
    """
    run = world.watch.runs.get(run_id)
    if run is None or run.status is None or run.status in STANDING:
        return False
    children = [child for item in run.alive() if (child := waits_for_child(item.waits_for)) is not None]
    if any(_is_kept_back(world, child, away) for child in children):
        return False

    def is_away(partition: str) -> bool:
        return home_of(world.servers, partition) is away

    if any(world.watch.limits.waits_on(item, is_away) for item in run.alive()):
        return False
    asks_again = any(waits_for_rate(item.waits_for) or run.turns[item.item_id] > TURN_WHEN_NEW for item in run.alive())
    if asks_again and is_away(rate_place(f"{PACED.name}/")):
        return False
    return not any(index == LETTERS for index, _ in run.parked)


def _is_kept_back(world: Simulation, child: RunId, away: StoreServer) -> bool:
    """Whether a child lies on the server that is away, or waits for one that does."""
    if home_of(world.servers, child) is away:
        return True
    run = world.watch.runs.get(child)
    return (
        run is not None and run.status is not None and run.status not in STANDING and not _goes_on(world, child, away)
    )
