"""What somebody does about items that were set aside: look at them, and requeue them once they can be read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from floxide_amqp.core import moves
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.instants import at
from floxide_amqp.core.place_changes import LeaveParked
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.set_aside import leave_set_aside, set_aside_kind
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import FloxideError, InvalidRunStateError, WorkItemNotFoundError
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.parked import drop_entry, is_parked
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import parked_keys
from floxide_amqp.stores.indexes import ItemPlace
from floxide_amqp.stores.items import PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAsideItem:
    """An item that was set aside, because what is stored for it cannot be decoded or migrated.

    Attributes:
        queue: Its task queue.
        since: When it was set aside.
        reason: Why.
    """

    run_id: str
    item_id: str
    workflow: str
    version: str
    node: str
    queue: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """What came of requeuing.

    Attributes:
        items: How many items are on their way again.
        failed: What could not be requeued, and why.
    """

    items: int
    failed: Sequence[tuple[str, str]] = ()


async def list_set_aside(
    services: Services, queues: Sequence[str], *, workflow: str | None = None, node: str | None = None, limit: int = 100
) -> Sequence[SetAsideItem]:
    """Return items that were set aside, those of a workflow's version and node together.

    Args:
        services: The process's parts.
        queues: The task queues looked at.
        workflow: Only items of this workflow.
        node: Only items of this node.
        limit: How many at most.
    """
    found: list[SetAsideItem] = []
    for queue in queues:
        async for each in _all(services, queue, workflow, node):
            found.append(each)
            if len(found) >= limit:
                return found
    return found


async def requeue(
    services: Services, queues: Sequence[str], *, workflow: str | None = None, node: str | None = None,
    request: Request | None = None,
) -> Requeued:  # fmt: skip
    """Put all items on their way again that were set aside; see `list_set_aside`."""
    done, failed = 0, list[tuple[str, str]]()
    for queue in queues:
        async for each in _all(services, queue, workflow, node):
            try:
                done += await _requeue_one(services, RunId(each.run_id), WorkItemId(each.item_id), request or Request())
            except FloxideError as error:
                failed.append((f"{each.run_id}/{each.item_id}", str(error)))
    return Requeued(items=done, failed=failed)


async def requeue_run(
    services: Services, run_id: RunId, *, item_id: str | None = None, request: Request | None = None
) -> Requeued:
    """Put the items of a run on their way again that were set aside, or one of them.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: It is over.
        WorkItemNotFoundError: The item named was not set aside.
    """
    run = await services.runs.load(run_id)
    if run.state.status.is_terminal:
        raise InvalidRunStateError(run_id=run_id, action="requeue an item of", status=run.status.value)
    if item_id is not None:
        if not await _requeue_one(services, run_id, WorkItemId(item_id), request or Request()):
            raise WorkItemNotFoundError(run_id=run_id, item_id=item_id)
        return Requeued(items=1)
    done, after = 0, ""
    while True:
        entries = await services.items.live_entries(run_id, after=after, limit=PAGE)
        for each, _ in entries:
            done += await _requeue_one(services, run_id, each, request or Request())
        if len(entries) < PAGE:
            return Requeued(items=done)
        after = entries[-1][0]


async def _requeue_one(services: Services, run_id: RunId, item_id: WorkItemId, request: Request) -> bool:
    """Make an item pending if it was set aside; return whether it was."""
    while True:
        run, found = await services.runs.find_with_item(run_id, item_id)
        if run is None or found is None or found.item.status is not WorkItemStatus.PARKED:
            return False
        item, header = found.item, run.header
        leave = leave_set_aside(item, header.workflow, header.version)
        if run.state.is_over_for(item) or not await _is_listed(services, item, run_id, header.workflow, header.version):
            return False
        now_ms = services.now_ms(run_id)
        decision = moves.unpark(item, found.turn, run.state, run.epoch, now_ms, services.name, leave)
        noted = request.noted(services, "requeue", f"item {item_id} of node {item.node}")
        decision = replace(decision, changes=(*decision.changes, noted))
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            await publish(services, header, decision.effects.publish)
            return True


async def _is_listed(services: Services, item: WorkItem, run_id: RunId, workflow: str, version: str) -> bool:
    kind = set_aside_kind(workflow, version, item.node)
    return await services.indexes.is_parked(item.queue, kind, ItemPlace(run_id, item.item_id))


async def _all(services: Services, queue: str, workflow: str | None, node: str | None) -> AsyncGenerator[SetAsideItem]:
    """Yield what is set aside of a task queue; entries of items that have gone on are dropped on the way."""
    after, before = parked_keys.set_aside(workflow)
    while True:
        page = await services.indexes.parked(queue, after=after, before=before, limit=PAGE)
        for entry in page:
            if node is not None and entry.kind[2] != node:
                continue
            place = entry.place
            run, found = await services.runs.find_with_item(place.run_id, place.item_id, with_counts=False)
            if run is None or found is None or not is_parked(run, found):
                await drop_entry(services, LeaveParked(queue, *entry.kind, place.item_id), place.run_id, run, found)
                continue
            yield SetAsideItem(
                run_id=place.run_id, item_id=place.item_id, workflow=run.header.workflow, version=run.header.version,
                node=found.item.node, queue=queue, since=at(found.item.parked_ms), reason=found.item.note,
            )  # fmt: skip
        if len(page) < PAGE:
            return
        after = page[-1].entry
