"""What the simulation found, told again as one short story each."""

from __future__ import annotations

import asyncio

import pytest

from floxide_amqp import BatchNode, GraphBuilder, node
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.testing.simulation.cluster import Settings, Simulation


@node
async def double(x: int) -> int:
    return 2 * x


Doubling = GraphBuilder(double, output=int, name="Doubling").add(double).build()


@pytest.mark.fault(15, 50)
def test_a_start_repeated_while_its_message_waits_for_a_queue_sends_none_that_nothing_leads_to() -> None:
    world = Simulation([Doubling], 1, is_shuffled=False)

    async def play() -> None:
        async with world.client("first") as first, world.client("second") as second:
            await first.start(Doubling, 21, run_id="run")  # no queue is there: a timer publishes it again
            world.start_worker()
            while not world.broker.queues:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.01)
            handle = await second.start(Doubling, 21, run_id="run")
            assert await handle.result(timeout=60) == 42
            assert await world.settle() == {}
        assert await world.stop_all() == []

    world.play(play)
    assert world.story.faults["unroutable"] == 1
    assert world.story.violations == []


@node
async def listed(x: int) -> list[int]:
    return [x + n for n in range(6)]


@node
async def folded(xs: list[int]) -> int:
    return sum(xs)


Batching = (
    GraphBuilder(listed, output=int, name="Batching")
    .add(listed >> BatchNode(double, max_in_flight=1, name="batch") >> folded)
    .build()
)


@pytest.mark.fault(17, 47)
@pytest.mark.parametrize("seed", range(12))
def test_a_page_that_another_copy_of_the_message_has_expanded_is_no_damage(seed: int) -> None:
    world = Simulation([Batching], seed, settings=Settings(limits=Limits(chain_steps=1)))
    world.broker.weather.duplicated, world.broker.weather.copies = 1.0, 3

    async def play() -> None:
        for _ in range(3):
            world.start_worker()
        async with world.client("client") as client:
            handle = await client.start(Batching, 1, run_id="run")
            assert await handle.result(timeout=60) == 2 * sum(range(1, 7))
            assert await world.settle() == {}
        assert await world.stop_all() == []

    world.play(play)
    assert world.story.violations == []
