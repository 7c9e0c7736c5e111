"""The task queues that workers of a store have known: where items may lie that nobody serves any more.

A worker enters those that it and its workflows use when it begins. Names stay: they are few, and an item that comes
back from a long hold may still have one that no program names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, WorkItemId, slot_of
from floxide_amqp.ports.key_value import Batch, Enter, IndexRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import Session

MOST_KNOWN: Final = 2_000
"""Task queues looked at; RabbitMQ does not take more quorum queues than a few thousand."""

MOST_NOTED: Final = 1_000
"""Messages of a slot looked through for those of one run."""


class TaskQueueStore:
    """Reads and writes the names of task queues."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def known(self) -> list[str]:
        """Return the task queues that are known, sorted."""
        entries = await self._session.scan(IndexRange(keys.TASK_QUEUES, limit=MOST_KNOWN))
        return [entry.entry for entry in entries]

    async def note(self, queues: Iterable[str]) -> None:
        """Enter task queues; those that are known already cost nothing more."""
        new = sorted(set(queues) - set(await self.known()))
        if new:
            writes = tuple(Enter(keys.TASK_QUEUES, queue) for queue in new)
            await self._session.commit(Batch(slot=SYSTEM_SLOT, writes=writes))

    async def published_at_ms(self, run_id: RunId, queue: str) -> dict[WorkItemId, int]:
        """Return since when items of a run have a message in a task queue, of the oldest that its slot notes."""
        wanted = IndexRange(keys.messages(queue), limit=MOST_NOTED)
        entries = (await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0]
        since: dict[WorkItemId, int] = {}
        for entry in entries:
            at_ms, _, rest = entry.entry.partition(":")
            if at_ms.isdecimal():
                since.setdefault(WorkItemId(rest.rpartition(":")[0]), int(at_ms))
        return since
