"""Items of a run that no worker can take: they lie in a task queue that nobody serves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.instants import at
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.task_queues import queue_in_words
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.runtime.deaths import is_gone
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.views import WaitInfo
from floxide_amqp.stores.liveness import DEAD, UNREADABLE


def served_by(records: Sequence[WorkerRecord]) -> frozenset[str] | None:
    """Return the task queues that living workers serve; None where one of them cannot be asked."""
    living = [record for record in records if record.status != DEAD and not is_gone(record)]
    if any(record.status == UNREADABLE for record in living):
        return None
    return frozenset(queue for record in living for queue in record.queues)


async def unserved_waits(services: Services, run_id: RunId, items: Sequence[WorkItem]) -> tuple[WaitInfo, ...]:
    """Return what pending items of a run wait for whose task queues no living worker serves.

    Nothing is said where a worker cannot be asked what it serves.
    """
    pending = [item for item in items if item.status is WorkItemStatus.PENDING]
    if not pending:
        return ()
    served = served_by(await services.liveness.all())
    groups: dict[tuple[str, str], list[WorkItem]] = defaultdict(list)
    for item in pending:
        if served is not None and item.queue not in served:
            groups[item.queue, item.node].append(item)
    return tuple([await _wait(services, run_id, queue, node, group) for (queue, node), group in groups.items()])


async def _wait(services: Services, run_id: RunId, queue: str, node: str, group: Sequence[WorkItem]) -> WaitInfo:
    published = await services.task_queues.published_at_ms(run_id, queue)
    known = [published[item.item_id] for item in group if item.item_id in published]
    return WaitInfo(
        status=WorkItemStatus.PENDING, node=node, items=len(group), since=at(min(known)) if known else None,
        what=f"a worker that serves {queue_in_words(queue)} to run node {node!r}",
    )  # fmt: skip
