"""Labels in simulations: some nodes ask for one, some workers have it, and no step may run where it is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from floxide_amqp.core.transition import Transition
from floxide_amqp.runtime.interceptors import Interceptor, StepCall
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.testing.simulation.exercised import ROUTING, ExerciseWatch
from floxide_amqp.testing.simulation.story import Story

BIG: Final = frozenset({"big"})
"""What some nodes ask for."""

LABELLED: Final = 3
"""Of so many nodes that were made one after the other, one that does arithmetic asks for `BIG`."""

LABELLED_SHARE: Final = 0.25
"""Share of the plans in which not every worker has it: what only some may run, fewer compete for."""


class LabelWatch(Interceptor):
    """Stands around every body of a worker: notes those that ask for labels, and those that are where they must not be.

    Args:
        worker: The worker's name.
        labels: What it has; None for whatever is asked for.
        registry: Its workflows.
        story: Is told of violations.
        exercised: Counts.
    """

    def __init__(
        self,
        worker: str,
        labels: AbstractSet[str] | None,
        registry: Registry,
        story: Story,
        exercised: ExerciseWatch,
    ) -> None:
        self._worker = worker
        self._labels = labels
        self._registry = registry
        self._story = story
        self._exercised = exercised

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        """Look at what the node asks for."""
        graph = self._registry.latest(call.workflow)
        node = None if graph is None else graph.nodes.get(call.node)
        needed = node.options.labels if node is not None else None
        if needed:
            self._exercised.count(ROUTING, "steps by their labels")
            if self._labels is not None and not needed <= self._labels:
                lacked = ", ".join(sorted(needed - self._labels))
                self._story.violation(f"{self._worker} runs {call.node} of {call.run_id} without label {lacked}")
        return await proceed()


def labels_for_next(registry: Registry, served: AbstractSet[str]) -> AbstractSet[str]:
    """Return the labels of a worker that is to begin, so that each task queue has one that serves it.

    Args:
        registry: The workflows.
        served: What the others serve.
    """
    return frozenset() if served >= frozenset(registry.queues()) else BIG
