"""What is known of the worker that owns an item: this one, a living one, or one that is no more."""

from __future__ import annotations

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.runtime.deaths import DeathWatch, DeathWatches, Verdict
from floxide_amqp.runtime.services import Services


async def verdict_on_owner(
    services: Services, deaths: DeathWatch | DeathWatches, run_id: RunId, item: WorkItem
) -> Verdict:
    """Return what became of an item's owner; of this worker it is known from what it has in its hands.

    Raises:
        StoreError: The other worker's heartbeat could not be read.
    """
    if item.owner != services.name:
        return await deaths.beside(run_id).verdict(item.owner, (run_id, item))
    if services.inflight.has(run_id, item.item_id):
        return Verdict.ALIVE
    return Verdict.DEAD if services.died_with(item) else Verdict.GONE
