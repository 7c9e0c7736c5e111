"""What the simulation found, told again as one short story each."""

from __future__ import annotations

import asyncio

import pytest

from floxide_amqp import GraphBuilder, node
from floxide_amqp.testing.simulation.cluster import Simulation


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
            while not world.broker.queues:
                await asyncio.sleep(0.01)
            handle = await second.start(Doubling, 21, run_id="run")
            assert await handle.result(timeout=60) == 42
            assert await world.settle() == {}
        assert await world.stop_all() == []

    world.play(play)
    assert world.story.faults["unroutable"] == 1
    assert world.story.violations == []
