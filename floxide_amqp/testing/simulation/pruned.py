"""What must hold of a run that was deleted since it ended: nothing is left of it but that it was, as it was.

Its result is gone with it, so what it had been is noted when it is written.
"""

from __future__ import annotations

from typing import Any, Protocol

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import RunConflictError, RunDeletedError
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.stores import keys
from floxide_amqp.testing.simulation.cluster import Simulation

CLEAR_SECONDS = 60.0
"""Virtual time within which nothing is left of a run, once its deletion has begun in a calm world."""


class Prunable(Protocol):
    """A run that may have been deleted."""

    run_id: str
    input: Any


async def check_pruned(world: Simulation, client: Orchestrator, workflow: Any, run: Prunable) -> None:
    """Of a deleted run nothing but its tombstone is left, and its id is not free."""
    run_id, story = RunId(run.run_id), world.story
    tombstone, _ = await client.services.runs.tombstone(run_id)
    if tombstone is None:
        return
    if tombstone.status not in (RunStatus.COMPLETED, RunStatus.CANCELLED):
        story.violation(f"run {run_id} was deleted although it had {tombstone.status.value}")
    await world.wait_until(lambda: not world.is_condemned(run_id), CLEAR_SECONDS)
    left = [name for name in world.store.names_of(run_id) if name not in (keys.tombstone(run_id).name, keys.TOMBSTONES)]
    if left:
        story.violation(f"I9: run {run_id} was deleted, and left behind {', '.join(left)}")
    for input_, refusal in ((run.input, RunDeletedError), (run.input + 1, RunConflictError)):
        try:
            await client.start(workflow, input_, run_id=run_id)
        except refusal:
            continue
        story.violation(f"run {run_id} was deleted, and its id was free for input {input_}")
