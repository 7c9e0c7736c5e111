"""Small plays beside the random workflows of a seed: what clients do to runs, and what must have come of it.

Random workflows show what nodes can say; a scene shows what people do: sagas that fail or are stopped, retries, forks
and other things done by hand, starts that are delayed, deadlines, runs that are followed as they go. A scene is acted
by a process that may die, and then by another from the beginning: all of it is idempotent by the ids of its runs.
"""

from __future__ import annotations

import random

from floxide_amqp import ItemEnded, Orchestrator, RunEvent, RunStatus
from floxide_amqp.testing.simulation.exercised import SEARCH, TIMERS, ExerciseWatch
from floxide_amqp.testing.simulation.hand_scene import ByHand, Judging
from floxide_amqp.testing.simulation.saga_scene import Sagas
from floxide_amqp.testing.simulation.scene import DELAY_SECONDS, Outside, Scene

SHARE = 0.3
"""Share of the seeds in which there is a scene."""


def draw_scene(chance: random.Random, outside: Outside) -> Scene | None:
    """Draw a scene for a seed, or none."""
    if chance.random() >= SHARE:
        return None
    return chance.choice([lambda: Sagas(outside, chance.random()), ByHand, Times, Followed])()


class Times(Scene):
    """A run that begins later, and one that is over too late."""

    workflows = (Judging,)

    async def act(self, client: Orchestrator) -> None:
        """Start them and wait."""
        await client.start(Judging, 1, run_id="time-delayed", delay=DELAY_SECONDS)
        await client.start(Judging, -1, run_id="time-deadline", timeout=DELAY_SECONDS)
        await client.wait("time-delayed")
        await client.wait("time-deadline")

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """The one completed, the other failed by its time."""
        wrong: list[str] = []
        for run_id, end in {"time-delayed": RunStatus.COMPLETED, "time-deadline": RunStatus.FAILED}.items():
            info = await client.run_info(run_id)
            if info.status is not end or (end is RunStatus.FAILED and "Timeout" not in info.failure):
                wrong.append(f"I1: run {run_id} is {info.status.value}: {info.failure}")
        watch.count(TIMERS, "deadlines")
        return wrong


class Followed(Scene):
    """A run that is followed as it goes, found by its attributes and looked at."""

    workflows = (Judging,)

    def __init__(self) -> None:
        self._heard: list[RunEvent] = []

    async def act(self, client: Orchestrator) -> None:
        """Start it, and hear its events, behind those that were heard before."""
        await client.start(Judging, 1, run_id="followed", attributes={"scene": "followed"})
        after = self._heard[-1].position if self._heard else ""
        async for event in client.events("followed", after=after):
            self._heard.append(event)

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """Its events were what its history says, each once."""
        wrong: list[str] = []
        heard = [event.item_id for event in self._heard if isinstance(event, ItemEnded)]
        history = [item.item_id for item in await client.work_items("followed")]
        kinds = [type(event).__name__ for event in self._heard]
        if heard != history or kinds[:1] != ["RunStarted"] or kinds[-1:] != ["RunEnded"]:
            wrong.append(f"I5: who followed the run heard {kinds} of {heard}, and {history} ended")
        found = await client.list_runs(attributes={"scene": "followed"})
        view = await client.query(Judging, "followed")
        if [run.run_id for run in found.runs] != ["followed"] or view.status is not RunStatus.COMPLETED:
            wrong.append(f"I12: a list by attributes has {found.runs}, and the run is seen as {view.status.value}")
        watch.counts[SEARCH, "events heard"] += len(self._heard)
        watch.count(SEARCH, "lists by attributes")
        watch.count(SEARCH, "views")
        return wrong
