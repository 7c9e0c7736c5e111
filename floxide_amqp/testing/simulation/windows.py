"""When faults happen: those of the plan, and new ones each time a run goes on after a long wait."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.testing.simulation.cluster import Simulation
from floxide_amqp.testing.simulation.faults import PLANNED, Fault, Faults
from floxide_amqp.testing.simulation.plan import Planned, draw_faults
from floxide_amqp.testing.simulation.verdict import MOST_SECONDS, Started, let_all_go_on, requeue_letters

WAIT_MS = 2_000
"""What is due later than this is waited for: time is skipped, and faults happen again."""

LOOK_SECONDS = 0.5
"""Between two looks whether everything waits."""

SURE_WINDOWS = 4
"""Waits after which faults happen for sure; after later ones the seldomer the more there were."""

AIMED = "crash in body"
"""The fault that meets what goes on after a wait, which others seldom do: there is little to meet."""

AIMED_SHARE = 0.7
"""In how many of the later windows it happens for sure, if it may."""

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


async def let_faults_happen(world: Simulation, chance: random.Random, planned: Sequence[Planned]) -> None:
    """Let faults happen, each at its time from now on; return when the last has ended."""
    faults, began = Faults(world, chance), world.loop.time()
    at_work: list[asyncio.Task[None]] = []
    try:
        for fault in planned:
            await asyncio.sleep(max(0.0, began + fault.at - world.loop.time()))
            world.story.note("world", "planned", fault.kind)
            at_work.append(asyncio.create_task(_do(PLANNED[fault.kind], faults)))
        if at_work:
            await asyncio.wait(at_work)
    finally:
        for task in at_work:
            task.cancel()


class LaterFaults:
    """Goes on with a calm world until all runs have ended, and lets faults happen after each long wait.

    Args:
        world: The simulation.
        chance: Draws which faults, and when.
        workflow: What all runs are of.
        runs: The runs.
        kinds: The kinds of faults that may happen.

    Attributes:
        windows: How often time was skipped and faults happened.
    """

    def __init__(
        self, world: Simulation, chance: random.Random, workflow: Any, runs: Sequence[Started], kinds: Sequence[str]
    ) -> None:
        self._world = world
        self._chance = chance
        self._workflow = workflow
        self._runs = runs
        self._kinds = kinds
        self._until = 0.0
        self.windows = 0

    async def play(self) -> None:
        """Return when all runs have ended, or nothing goes on; the world is calm then."""
        waits = 0
        while (idle := await self._next_wait()) > 0:
            waits += 1
            if not self._kinds or self._chance.random() >= SURE_WINDOWS / waits:
                self._world.let_pass(idle)
                continue
            self.windows += 1
            self._world.let_pass(max(0, idle - round(1000 * self._chance.uniform(0, 0.5))))
            await self._window()

    async def _window(self) -> None:
        seconds = self._chance.choice([1.0, 3.0, 6.0])
        planned = draw_faults(self._chance, self._kinds, self._chance.choice([1, 2, 3]), seconds)
        if AIMED in self._kinds and self._chance.random() < AIMED_SHARE:
            planned = (Planned(0.0, AIMED), *planned)
        faults = asyncio.create_task(let_faults_happen(self._world, self._chance, planned), name="later faults")
        await asyncio.sleep(seconds)
        faults.cancel()
        await asyncio.gather(faults, return_exceptions=True)
        self._world.calm()
        if not faults.cancelled() and faults.exception() is not None:
            self._world.story.violation(f"{faults.get_name()}: {faults.exception()!r}")

    async def _next_wait(self) -> int:
        """Wait until nothing goes on but time; return how many milliseconds, 0 if there is nothing to be waited for."""
        world, number = self._world, self.windows
        async with world.client(f"steward-{number}") as client:
            await let_all_go_on(world, client, self._workflow, self._runs, resumes_failed=False)
            until = world.loop.time() + MOST_SECONDS
            while world.loop.time() < until and not self._have_all_ended():
                idle = world.idle_ms()
                if idle > WAIT_MS:
                    return idle
                await asyncio.sleep(LOOK_SECONDS)
                await requeue_letters(world, client)
        return 0

    def _have_all_ended(self) -> bool:
        found = (self._world.watch.runs.get(run.run_id) for run in self._runs)
        return all(run is not None and run.status in ENDED for run in found)


async def _do(fault: Fault, faults: Faults) -> None:
    await fault(faults)
