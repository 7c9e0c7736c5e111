"""A simulated store of several servers: each has a life of its own, runs keep to theirs, and the checks see if not."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from floxide_amqp import GraphBuilder, node
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import Batch, Key, Put
from floxide_amqp.testing.simulation import Plan, Simulation, play_seed
from floxide_amqp.testing.simulation.cluster import ALONE
from floxide_amqp.testing.simulation.plan import draw_servers
from floxide_amqp.testing.simulation.servers import StoreServers, home_of

NAMES = ("anna", "bert", "cleo")
RUNS = tuple(f"run-{number}" for number in range(12))


@node
async def first(x: int) -> int:
    await asyncio.sleep(0.5)
    return x + 1


@node
async def last(x: int) -> int:
    return 2 * x


Pair = GraphBuilder(first, output=int, name="Pair").add(first >> last).build()


def over_three(plan: Plan) -> Plan:
    return replace(plan, servers=NAMES, runs=3)


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_is_away_stops_only_its_own_runs(seed: int) -> None:
    world = Simulation([Pair], seed, servers=NAMES)
    ended: dict[str, RunStatus | None] = {}

    async def play() -> None:
        world.start_worker()
        world.start_worker()
        async with world.client("client") as client:
            handles = [await client.start(Pair, 1, run_id=run_id) for run_id in RUNS]
            world.servers["bert"].weather.is_away = True
            await asyncio.sleep(60)
            ended.update({run_id: world.watch.runs[run_id].status for run_id in RUNS})
            world.servers["bert"].weather.is_away = False
            assert [await handle.result(timeout=120) for handle in handles] == [4] * len(RUNS)

    world.play(play)
    away = {run_id for run_id in RUNS if home_of(world.servers, run_id) is world.servers["bert"]}
    assert 0 < len(away) < len(RUNS)
    assert {run_id for run_id, status in ended.items() if status is RunStatus.COMPLETED} >= set(RUNS) - away
    assert {ended[run_id] for run_id in away} != {RunStatus.COMPLETED}
    assert world.story.violations == []


def test_a_story_over_several_servers_is_the_same_each_time() -> None:
    one, again = (play_seed(7, is_told=True, change=over_three) for _ in range(2))
    assert one.lines == again.lines
    assert one.faults["server away"] == 1
    assert one.violations == ()


def test_a_record_of_a_run_on_a_server_that_is_not_its_own_is_noticed() -> None:
    world = Simulation([Pair], 1, servers=NAMES)
    run_id = RunId("run-0")
    wrong = next(server for server in world.servers.values() if server is not home_of(world.servers, run_id))
    note = Put(Key(run_id, "note"), b"")

    async def play() -> None:
        wrong.serve_commit("vandal", [Batch(slot=slot_of(run_id), writes=(note,))])

    world.play(play)
    assert len(world.story.violations) == 1
    assert "and its runs are on" in world.story.violations[0]
    assert isinstance(world.store, StoreServers)
    assert note.key.name in world.store.names_of(run_id)


def test_some_stories_play_over_several_servers_and_most_over_one() -> None:
    drawn = [draw_servers(random.Random(f"servers of seed {seed}")) for seed in range(200)]
    several = [names for names in drawn if names != ALONE]
    assert 10 < len(several) < 60
    assert {len(names) for names in several} == {2, 3}
    assert len(set(several)) > 5
