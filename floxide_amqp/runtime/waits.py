"""What a run waits for, in words: a worker that has a node, somebody's decision, a retry, the end of a hold."""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core.instants import at
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.signal_waits import awaited
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime.join_waits import join_waits
from floxide_amqp.runtime.queue_waits import unserved_waits
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.views import WaitInfo
from floxide_amqp.stores.runs import StoredRun

LOOKED_AT = 100
"""Live items of a run that are looked at, so that showing a run costs the same however many it has."""

_WAITS_FOR = "waits for "
_WAITING = (WorkItemStatus.PARKED, WorkItemStatus.WAITING_RETRY, WorkItemStatus.HELD)


def missing_node(header: RunHeader, item: WorkItem) -> str:
    """Return the note of an item whose workflow, version or node a worker lacks."""
    workflow = f"workflow {header.workflow!r} version {header.version!r}"
    return f"{_WAITS_FOR}a worker that has node {item.node!r} of {workflow}"


def disagreeing_version(header: RunHeader, item: WorkItem, newer: str, why: str) -> str:
    """Return the note of an item that a worker of a newer version may not run, since the versions differ there."""
    return f"{missing_node(header, item)}; version {newer} differs: {why}"


def later_upgrade(header: RunHeader, newer: str) -> str:
    """Return the note of an item whose run cannot be raised yet."""
    return f"{_WAITS_FOR}the end of steps that are at work, to be raised from version {header.version} to {newer}"


def older_worker(header: RunHeader, item: WorkItem, problem: str) -> str:
    """Return the note of an item whose run cannot be raised, and which workers of its version bring on."""
    return f"{missing_node(header, item)}: {problem}"


def missing_key(item: WorkItem, codec: str, key_id: str) -> str:
    """Return the note of an item whose data a worker cannot open."""
    needed = f"the encryption key {key_id!r}" if key_id else f"the codec {codec!r}"
    return f"{_WAITS_FOR}a worker that has {needed} to run node {item.node!r}"


def requeue(item: WorkItem, reason: str) -> str:
    """Return the note of an item that is set aside; `reason` says why, as a sentence."""
    return f"{_WAITS_FOR}somebody to requeue node {item.node!r} (floxide parked requeue): {reason}"


def its_start() -> str:
    """Return the note of the first item of a run that begins later."""
    return f"{_WAITS_FOR}its start"


def kept_letter(item: WorkItem, reason: str) -> str:
    """Return the note of an item whose messages the broker drops; `reason` says how often, and why."""
    return f"{_WAITS_FOR}somebody to requeue or drop the dead letter of node {item.node!r} ({reason})"


async def what_it_waits_for(services: Services, run: StoredRun) -> tuple[WaitInfo, ...]:
    """Return what live items of a run wait for, those first that nothing but somebody's help brings on, then joins.

    Only the first `LOOKED_AT` live items are looked at; those that cannot be read are left out.
    """
    if run.state.status.is_terminal or not (run.counts.live or run.counts.waiting):
        return ()
    run_id = run.header.run_id
    entries = await services.items.live_entries(run_id, limit=LOOKED_AT)
    try:
        found = await services.items.find(run_id, [item_id for item_id, _ in entries])
    except UnreadableRecordError:
        return ()  # the run's list of items says which, and why
    items = [stored.item for stored in found if stored is not None and not run.state.is_over_for(stored.item)]
    unserved = await unserved_waits(services, run_id, [item for item in items if run.state.is_at_work_on(item)])
    try:
        joins = await join_waits(services, run, items)
    except UnreadableRecordError:
        joins = ()
    return (*unserved, *_together(items), *joins)


def _together(items: Iterable[WorkItem]) -> tuple[WaitInfo, ...]:
    """Items of one node that wait for the same are one line."""
    groups: dict[tuple[WorkItemStatus, str, str], list[WorkItem]] = {}
    for item in items:
        if item.status in _WAITING and (item.has_wake or item.status is not WorkItemStatus.HELD):  # those nothing wakes
            groups.setdefault((item.status, item.node, _what(item)), []).append(item)
    waits = [
        WaitInfo(
            status=status, node=node, what=what, items=len(group),
            since=at(min(known)) if (known := [each.parked_ms for each in group if each.parked_ms]) else None,
            until=at(min(due)) if (due := [each.due_ms for each in group if each.due_ms]) else None,
        )
        for (status, node, what), group in groups.items()
    ]  # fmt: skip
    return tuple(sorted(waits, key=lambda wait: wait.status is not WorkItemStatus.PARKED))


def _what(item: WorkItem) -> str:
    match item.status:
        case WorkItemStatus.WAITING_RETRY:
            return f"the next try of node {item.node!r}"
        case WorkItemStatus.HELD if item.note:
            return item.note.removeprefix(_WAITS_FOR)
        case WorkItemStatus.HELD if names := awaited(item.waits_for):
            quoted = " or ".join(map(repr, names))
            return f"signal {quoted} to node {item.node!r}"
        case WorkItemStatus.HELD if child := waits_for_child(item.waits_for):
            return f"run {child!r}, which node {item.node!r} has started"
        case WorkItemStatus.HELD:
            return f"the end of the hold of node {item.node!r}"
        case _:
            return item.note.removeprefix(_WAITS_FOR)
