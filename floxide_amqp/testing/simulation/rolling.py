"""A rolling deploy in the middle of a story: workers of version 1 stop one by one, and those of version 2 begin."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.stores import keys
from floxide_amqp.testing.simulation.cluster import Simulation, WorkerProcess

ROLLING_SHARE: Final = 0.15
"""Share of the stories in which there is one."""


def draw_rolling(chance: random.Random) -> VersionPolicy | None:
    """Draw by which policy a story's workflow gets a second version, if it does."""
    return chance.choice(list(VersionPolicy)) if chance.random() < ROLLING_SHARE else None


@functools.lru_cache(maxsize=400)
def second_version(workflow: Any, policy: VersionPolicy) -> Any:
    """Return the second version of a workflow: the same graph, and a migrate that writes every number anew."""
    base: Any = workflow

    class Second(base, name=workflow.graph.workflow, version="2", versions=policy):  # type: ignore[call-arg,misc]
        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            for step in run.steps:
                if type(step.plain) is int:
                    step.write(step.plain)

    return Second


class Rolling:
    """One rolling deploy.

    Args:
        workflow: The workflow.
        policy: What its second version does with runs of the first.
        chance: Draws when it begins and how it goes on.
        seconds: How long the story is.
    """

    def __init__(self, workflow: Any, policy: VersionPolicy, chance: random.Random, seconds: float) -> None:
        self._first, self._second = workflow, second_version(workflow, policy)
        self._policy = policy
        self._chance = chance
        self._begins_at = chance.uniform(0, 0.6 * seconds)
        self._has_begun = False

    def workflows(self, all_of_them: Sequence[Any]) -> Sequence[Any]:
        """Return what the next worker has."""
        if not self._has_begun:
            return all_of_them
        others = [each for each in all_of_them if each is not self._first]
        old = [self._first] if self._policy is VersionPolicy.STRICT else []
        return [*old, self._second, *others]

    async def act(self, world: Simulation, working: Callable[[], list[WorkerProcess]]) -> None:
        """Stop the workers of the first version one by one; whoever keeps workers running starts the others."""
        await asyncio.sleep(self._begins_at)
        while not self._is_described(world):  # noqa: ASYNC110 - time is virtual; nobody deploys over what never ran
            await asyncio.sleep(0.1)
        self._has_begun = True
        world.story.fault("rolling deploy", self._policy.value)
        while old := self._old(working()):
            self._chance.choice(old).stop()
            await asyncio.sleep(self._chance.choice([0.1, 0.5, 2.0]))

    def _is_described(self, world: Simulation) -> bool:
        """Whether a worker of the first version lived long enough to describe it."""
        graph = self._first.graph
        return any(key == keys.version(graph.workflow, graph.version) for key, *_ in world.store.cells())

    def end(self, world: Simulation, working: Sequence[WorkerProcess]) -> None:
        """Stop what is left of the first version, once it has begun: a worker of it may be the only one of a label.

        Where the store has lost what it knew of the first version, somebody brings its code back beside the second.
        """
        if not self._has_begun:
            return
        is_lost = self._policy is VersionPolicy.COMPATIBLE and not self._is_described(world)
        if is_lost:
            self._policy = VersionPolicy.STRICT
        for worker in working if is_lost else self._old(working):
            worker.stop()

    def _old(self, working: Sequence[WorkerProcess]) -> list[WorkerProcess]:
        graph = self._second.graph
        return [each for each in working if not each.services.registry.has(graph.workflow, graph.version)]
