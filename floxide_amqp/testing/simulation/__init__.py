"""Deterministic simulation: the engine's own code, many processes in one event loop, and everything that can go wrong.

The real workers, orchestrators and maintenance run on an event loop with virtual time over a simulated broker, bus
and store. One seed is one schedule: which callback comes first, how long each call takes, what is lost, who dies
where. Playing it again tells the same story to the byte.

Its parts, from the inside out:

* `loop`: `SeededLoop`, virtual time and an order drawn from the seed; `Lane`, what dies, freezes and goes on together.
* `storage`: `StoreServer`, the memory store's code behind a network, and `StoreLink`, one process's driver to it.
* `servers`, `outage`: several of them, over which runs are spread, and what must go on while one is away.
* `broker`, `broker_link`, `dead_letters`, `control`: task queues, what they give up and hints that misbehave, and one
  process's connections to them.
* `process`: `Process`, with its lanes, its clock and its links; it is killed, frozen, hung, cut off.
* `cluster`: `Simulation`, a world with a store, a broker, a bus, and the workers and clients started in it.
* `mirror`, `watch`: what the store holds of each run, checked after every commit: I11, legal statuses, counters.
* `attribute_watch`: the same of what runs are found by: I12.
* `faults`, `plan`, `windows`: what may befall a world, the plan of what does, and when; all drawn from a seed.
* `verdict`, `pruned`: what must hold when the faults are over: every run ended with its known result, nothing is left
  behind, and of deleted runs only that they were.
* `random_workflows`, `seeds`: graphs whose result is known, and `play_seed`, which plays one seed from end to end.
* `own_workflows`: `simulate`, which plays a workflow of yours; `exposure`, which of its nodes ran under a fault;
  `tale`, what happened, in words.
* `__main__`: many seeds in parallel processes: ``python -m floxide_amqp.testing.simulation --seeds 200``.

A scenario of one's own plays in a `Simulation`::

    world = Simulation([OrderProcessing], seed=7)


    async def play() -> None:
        world.start_worker()
        async with world.client("client") as client:
            run = await client.start(OrderProcessing, order, run_id="order-17")
            world.workers[0].process.kill()
            world.start_worker()
            assert await run.result(timeout=60) == "…"


    world.play(play)
    assert world.story.violations == []
"""

from __future__ import annotations

from floxide_amqp.testing.simulation.cluster import QUICK, Settings, Simulation, WorkerProcess
from floxide_amqp.testing.simulation.endings import EndedRun, Ending, SimulationFailedError
from floxide_amqp.testing.simulation.own_workflows import simulate
from floxide_amqp.testing.simulation.plan import Plan, Planned, draw_plan
from floxide_amqp.testing.simulation.process import Death
from floxide_amqp.testing.simulation.seeds import Played, play_seed

__all__ = [
    "QUICK",
    "Death",
    "EndedRun",
    "Ending",
    "Plan",
    "Planned",
    "Played",
    "Settings",
    "Simulation",
    "SimulationFailedError",
    "WorkerProcess",
    "draw_plan",
    "play_seed",
    "simulate",
]
