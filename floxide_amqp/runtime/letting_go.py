"""Says of a step that its body has ended in vain: somebody waits for that, to undo the step or to cancel it."""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.bodies import is_at_work, let_go
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import RunState, WorkItem
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.services import Services

OVER: Final = (RunStatus.COMPLETED, RunStatus.CANCELLED)
"""Runs of which nothing is undone any more; one that has failed may yet be cancelled."""


async def let_go_of(services: Services, run_id: RunId, item_id: WorkItemId) -> bool:
    """Let go of an own item whose body has ended, if its run undoes what was done or its fan-out is closed.

    Returns:
        Whether it is in vain, and nobody waits for its body any more.
    """
    while True:
        run, found = await services.runs.find_with_item(run_id, item_id)
        if run is None or found is None or run.state.status in OVER:
            return True
        if not await _is_in_vain(services, run_id, run.state, found.item):
            return False
        if found.item.owner != services.name or not is_at_work(found.item):
            return True
        if not isinstance(await services.commit(run.writer, let_go(found.item, found.turn, run.epoch)), Conflict):
            return True


async def _is_in_vain(services: Services, run_id: RunId, state: RunState, item: WorkItem) -> bool:
    return state.is_over_for(item) or bool(await services.items.closed(run_id, item.scope))
