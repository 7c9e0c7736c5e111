"""Task queues that no worker serves though messages lie in them.

Either they wait for a worker with their labels, or for one that serves a queue of that name: then nothing can be done
but to say so, in the log, in a metric and where a run is shown. Or a deploy has given their nodes another queue or
other labels: as long as a worker serves the old queue its items go on there, and once none does, whoever has the
workflow moves them to where their nodes belong now. So does with runs of an older version who may go on with them, or
raise them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from floxide_amqp.core.place_changes import LeaveMessage
from floxide_amqp.core.rerouting import reroute
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.task_queues import labels_needed
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.frontier import find_frontier
from floxide_amqp.runtime.lost_messages import LostMessages
from floxide_amqp.runtime.other_versions import may_run
from floxide_amqp.runtime.parked import ParkedItems
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.queue_waits import served_by
from floxide_amqp.runtime.runs_by_status import MAY_GO_ON, oldest_created_ms
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.stores import task_queues
from floxide_amqp.stores.indexes import MessageNote
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun

_log = get_logger("floxide_amqp.maintenance")

PRUNE_EVERY_SECONDS = 3_600.0
"""Between two looks for names of task queues that nobody needs any more."""

PAGE = 500
"""Messages of an unserved queue looked at per look, so that it stays short; the next look goes on behind them."""


class UnservedQueues:
    """One process's part in what lies in task queues that nobody serves.

    Args:
        services: The process's parts.
        messages: Knows what to do about an item that somebody holds.
        queues: The task queues this worker serves.
    """

    def __init__(self, services: Services, messages: LostMessages, queues: Sequence[str]) -> None:
        self._services = services
        self._messages = messages
        self._queues = tuple(queues)
        self._noted_at: float | None = None
        self._pruned_at: float | None = None
        self._next_look: float | None = None
        self._after: dict[str, str] = {}
        self._parked: dict[str, ParkedItems] = {}
        self._since: dict[str, int] = {}

    @property
    def since_ms(self) -> Mapping[str, int]:
        """Task queues in which messages lie and that nobody serves, and since when the oldest does, store time."""
        return self._since

    async def note(self) -> None:
        """Enter the task queues that this worker and its workflows use among those that are known, now and then."""
        now = asyncio.get_running_loop().time()
        if self._noted_at is None or now - self._noted_at >= task_queues.RENEWED_AFTER_SECONDS:
            await self._services.task_queues.note(self._own())
            self._noted_at = now

    async def prune(self) -> None:
        """Forget, now and then, the names of task queues that nobody uses any more and that no item has."""
        now, services = asyncio.get_running_loop().time(), self._services
        self._pruned_at = now if self._pruned_at is None else self._pruned_at
        if now - self._pruned_at < PRUNE_EVERY_SECONDS:
            return
        self._pruned_at = now
        oldest_ms = await oldest_created_ms(services.session, MAY_GO_ON)
        for queue in await services.task_queues.unneeded(services.now_ms() if oldest_ms is None else oldest_ms):
            if await services.indexes.messages(queue, limit=1) or await services.indexes.parked(queue, limit=1):
                continue
            await services.task_queues.forget(queue)
            self._parked.pop(queue, None)
            _log.info("task_queue.forgotten", queue=queue)

    async def look(self, *, tells: bool) -> None:
        """Look for messages that nobody takes, now and then, and move those whose nodes belong elsewhere.

        Not at once, for those that serve the queues may be beginning just now as this worker is.

        Args:
            tells: Whether to log what is found: one of all workers does.
        """
        now = asyncio.get_running_loop().time()
        is_due = self._next_look is not None and now >= self._next_look
        if is_due or self._next_look is None:
            self._next_look = now + self._services.timeouts.probe
        if is_due:
            await self._look(tells=tells)

    async def _look(self, *, tells: bool) -> None:
        served = served_by(await self._services.liveness.all())
        if served is None:
            return
        found: dict[str, int] = {}
        known = await self._services.task_queues.known()
        if not self._own() <= set(known):
            self._noted_at = None  # somebody has just forgotten what this worker began to use just then
        for queue in known:
            if queue in served:
                continue
            await self._parked.setdefault(queue, ParkedItems(self._services, (queue,))).take()
            oldest = await self._move(queue, served)
            if oldest is not None:
                found[queue] = oldest
        if tells:
            self._tell(found)
        self._since = found

    async def _move(self, queue: str, served: frozenset[str]) -> int | None:
        """Move what belongs elsewhere; return since when the first of the rest lies there, None where nothing does."""
        indexes = self._services.indexes
        after = self._after.pop(queue, "")
        notes = await indexes.messages(queue, after=after, limit=PAGE)
        await work_off(lambda note: self._move_one(note, served), [note for note in notes if note.damage is None])
        if not notes and not after:
            return None
        if len(notes) == PAGE:
            self._after[queue] = notes[-1].entry
        left = await indexes.messages(queue, limit=1)
        return min(_published_at(left[0]), self._services.now_ms()) if left else None  # it may be published again

    async def _move_one(self, note: MessageNote, served: frozenset[str]) -> None:
        services = self._services
        try:
            run, first = await services.runs.find_with_item(note.run_id, note.item_id)
            found = await find_frontier(services.items, note.run_id, first)
        except UnreadableRecordError:
            await self._messages.recover(note)
            return
        is_pending = found is not None and found.item.status is WorkItemStatus.PENDING
        if run is None or found is None or not is_pending or not run.state.is_at_work_on(found.item):
            await self._messages.recover(note)  # what is over is forgotten; what a dead worker holds is given back
            return
        if found.item.queue != note.queue:  # it was raised meanwhile, and belongs to another queue now
            await self._messages.recover(note)
            return
        target = await self._where(run, found, served)
        if target is None or target == note.queue:
            return
        decision = reroute(
            found.item, found.turn, target, services.now_ms(), services.name, (LeaveMessage(note.queue, note.entry),)
        )
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            _log.info(
                "work_item.rerouted", run_id=note.run_id, item_id=found.item.item_id, node=found.item.node,
                queue=note.queue, to=target,
            )  # fmt: skip
            await publish(services, run.header, decision.effects.publish)

    async def _where(self, run: StoredRun, found: StoredItem, served: frozenset[str]) -> str | None:
        """Return a served queue in which an item goes on; None where this process knows of none.

        Where a run is to be raised to a version that lacks the node, whoever takes its item in any queue of that
        version does so.
        """
        header, registry = run.header, self._services.registry
        if not await may_run(self._services, header.workflow, header.version, found.item.node):
            return None
        graph = registry.find(header.workflow, header.version)
        if graph is None:
            newer = registry.newer(header.workflow, header.version)
            graph = None if newer is None else newer.graph
        if graph is None:
            return None
        node = graph.nodes.get(found.item.node)
        fitting = (node,) if node is not None else (graph.nodes[graph.start], *graph.nodes.values())
        return next((q for each in fitting if (q := graph.queue_of(each.name, header)) in served), None)

    def _own(self) -> set[str]:
        return {*self._queues, *self._services.registry.queues()}

    def _tell(self, found: dict[str, int]) -> None:
        for queue in found.keys() - self._since.keys():
            _log.warning(
                "task_queue.unserved", queue=queue, labels=",".join(sorted(labels_needed(queue))),
                since_ms=found[queue],
            )  # fmt: skip
        for queue in self._since.keys() - found.keys():
            _log.info("task_queue.served_again", queue=queue)


def _published_at(note: MessageNote) -> int:
    at_ms = note.entry.partition(":")[0]
    return int(at_ms) if at_ms.isdecimal() else 0
