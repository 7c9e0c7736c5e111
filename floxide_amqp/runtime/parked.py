"""Parked items: those whose workflow, version or node the worker that met them lacks.

They lie in the store by task queue and kind (workflow, version, node), so whoever looks for those it can run passes
over all others without reading them.
"""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core import moves
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.place_changes import LeaveParked
from floxide_amqp.core.set_aside import is_set_aside
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.other_versions import is_left_to_older, may_run
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.runtime.unreadable import fail_unreadable
from floxide_amqp.stores import parked_keys
from floxide_amqp.stores.indexes import ParkedItem
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.maintenance")

KINDS_PER_ROUND = 100
"""Kinds of parked items that one round looks at, so that it stays short; the next one goes on behind them."""


class ParkedItems:
    """Takes parked items that this worker can run.

    Args:
        services: The process's parts.
        queues: The task queues it serves.
    """

    def __init__(self, services: Services, queues: Sequence[str]) -> None:
        self._services = services
        self._queues = tuple(queues)
        self._after: dict[str, str] = {}

    async def take(self) -> None:
        """Make pending what this worker can run, no more of it than it has room for.

        Their messages may come to a worker that lacks the node as this one did before; so much goes round at most.
        """
        room = max(1, self._services.limits.concurrency - len(self._services.inflight))
        for queue in self._queues:
            room -= await self._take_from(queue, room)
            if room <= 0:
                return

    async def _take_from(self, queue: str, room: int) -> int:
        indexes, taken = self._services.indexes, 0
        after = self._after.pop(queue, "")
        for _ in range(KINDS_PER_ROUND):
            first = await indexes.parked(queue, after=after, limit=1)
            if not first:
                return taken
            kind = first[0].kind
            end = parked_keys.after_parked(kind)
            if await self._has(queue, kind):
                page = await indexes.parked(queue, after=after, before=end, limit=room - taken)
                await work_off(lambda parked: self._unpark(queue, parked), page)
                taken += len(page)
                if taken >= room:
                    self._after[queue] = page[-1].entry
                    return taken
            after = end
        self._after[queue] = after
        return taken

    async def _has(self, queue: str, kind: parked_keys.Kind) -> bool:
        if is_set_aside(kind):
            return False
        workflow, version, node = kind
        if not workflow:  # they wait for a key
            return self._services.sealing.can_open(version, node)
        if not await may_run(self._services, workflow, version, node):
            return False
        return not await is_left_to_older(self._services, workflow, version, queue)

    async def _unpark(self, queue: str, parked: ParkedItem) -> None:
        services, place = self._services, parked.place
        leave = LeaveParked(queue, *parked.kind, place.item_id)
        try:
            run, found = await services.runs.find_with_item(place.run_id, place.item_id)
        except UnreadableRecordError as error:
            if not await fail_unreadable(services, place.run_id, place.item_id, error):
                raise
            await services.session.commit(BatchWriter(place.run_id, 0).batch((), (leave,)))
            return
        if run is None or found is None or not is_parked(run, found):
            await drop_entry(services, leave, place.run_id, run, found)
            return
        decision = moves.unpark(found.item, found.turn, run.state, run.epoch, services.now_ms(), services.name, leave)
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            _log.info("work_item.unparked", run_id=place.run_id, item_id=place.item_id)
            await publish(services, run.header, decision.effects.publish)


def is_parked(run: StoredRun, found: StoredItem) -> bool:
    """Whether an item is parked, or set aside, and may go on."""
    return found.item.status is WorkItemStatus.PARKED and not run.state.is_over_for(found.item)


async def drop_entry(
    services: Services, leave: LeaveParked, run_id: RunId, run: StoredRun | None, found: StoredItem | None
) -> None:
    """Drop the entry of an item that is parked no more, unless it has been parked again since it was read."""
    conditions = (
        TurnIs(leave.item_id, 0 if found is None else found.turn), EpochIs(0 if run is None else run.epoch),
    )  # fmt: skip
    await services.session.commit(BatchWriter(run_id, 0).batch(conditions, (leave,)))
