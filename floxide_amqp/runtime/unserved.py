"""Task queues that no worker serves though messages lie in them.

Either they wait for a worker with their labels, or for one that serves a queue of that name: then nothing can be done
but to say so, in the log, in a metric and where a run is shown. Or a deploy has given their nodes another queue or
other labels: as long as a worker serves the old queue its items go on there, and once none does, whoever has the
workflow moves them to where their nodes belong now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from floxide_amqp.core.changes import LeaveMessage
from floxide_amqp.core.rerouting import reroute
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.task_queues import labels_needed
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.frontier import find_frontier
from floxide_amqp.runtime.lost_messages import LostMessages
from floxide_amqp.runtime.parked import ParkedItems
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.queue_waits import served_by
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.stores.indexes import MessageNote
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun

_log = get_logger("floxide_amqp.maintenance")

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
        self._is_noted = False
        self._next_look: float | None = None
        self._after: dict[str, str] = {}
        self._since: dict[str, int] = {}

    @property
    def since_ms(self) -> Mapping[str, int]:
        """Task queues in which messages lie and that nobody serves, and since when the oldest does, store time."""
        return self._since

    async def note(self) -> None:
        """Enter the task queues that this worker and its workflows use among those that are known, once."""
        if not self._is_noted:
            await self._services.task_queues.note((*self._queues, *self._services.registry.queues()))
            self._is_noted = True

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
        for queue in await self._services.task_queues.known():
            if queue in served:
                continue
            await ParkedItems(self._services, (queue,)).take()
            oldest = await self._move(queue, served)
            if oldest is not None:
                found[queue] = oldest
        if tells:
            self._tell(found)
        self._since = found

    async def _move(self, queue: str, served: frozenset[str]) -> int | None:
        """Move what belongs elsewhere; return since when the first of the rest lies there, None where nothing does."""
        indexes = self._services.indexes
        notes = await indexes.messages(queue, after=self._after.pop(queue, ""), limit=PAGE)
        await work_off(lambda note: self._move_one(note, served), [note for note in notes if note.damage is None])
        if len(notes) == PAGE:
            self._after[queue] = notes[-1].entry
        left = await indexes.messages(queue, limit=1)
        return _published_at(left[0]) if left else None

    async def _move_one(self, note: MessageNote, served: frozenset[str]) -> None:
        services = self._services
        try:
            run, first = await services.runs.find_with_item(note.run_id, note.item_id)
            found = await find_frontier(services.items, note.run_id, first)
        except UnreadableRecordError:
            await self._messages.recover(note)
            return
        if run is None or found is None or found.item.status is not WorkItemStatus.PENDING:
            await self._messages.recover(note)  # what is over is forgotten; what a dead worker holds is given back
            return
        target = self._where(run, found)
        if target is None or target == note.queue or target not in served or not run.state.is_at_work_on(found.item):
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

    def _where(self, run: StoredRun, found: StoredItem) -> str | None:
        graph = self._services.registry.find(run.header.workflow, run.header.version)
        node = None if graph is None else graph.nodes.get(found.item.node)
        return None if node is None else run.header.queue_for(node.options.queue)

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
