"""What the patterns share: where they run, and a look at what happens to a run.

python -m examples.patterns                                        all of them, in one process
FLOXIDE_BROKER=amqp://guest:guest@localhost/ FLOXIDE_STORE=sqlite:///runs.db python -m examples.patterns
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from floxide_amqp import Floxide, ItemCompleted, ItemHeld, Orchestrator, RunHandle, Workflow
from floxide_amqp.apps.settings import read_settings


@asynccontextmanager
async def opened(*workflows: type[Workflow[Any, Any, Any]]) -> AsyncGenerator[Orchestrator]:
    """Open an orchestrator where the environment says, and a worker beside it."""
    settings = read_settings()
    app = Floxide(settings.broker, store=settings.store, namespace="patterns", workflows=workflows)
    async with app.orchestrator(with_worker=True) as desk:
        yield desk


async def until(run: RunHandle[Any], what: type[ItemHeld | ItemCompleted], *nodes: str) -> None:
    """Return once this has happened to an item of each of these nodes; to two of a node that is named twice."""
    left = Counter(nodes)
    async with aclosing(run.events()) as events:
        async for event in events:
            if isinstance(event, what):
                left[event.node] -= 1
                if not +left:
                    return
    raise RuntimeError(f"{run} ended before that happened at {list((+left).elements())}")


async def completed(run: RunHandle[Any]) -> list[str]:
    """Return the nodes of the steps that completed so far, in the order they did."""
    async with aclosing(run.events(follow=False)) as events:
        return [event.node async for event in events if isinstance(event, ItemCompleted)]
