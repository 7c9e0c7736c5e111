"""The task queues that workers of a store have known: where items may lie that nobody serves any more.

A worker enters those that it and its workflows use, again and again; who starts runs does the same. Names stay for
long: an item that comes back from a hold may still have one that no program names. One is forgotten when nobody has
noted it since the oldest run began that may go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, WorkItemId, slot_of
from floxide_amqp.ports.key_value import Batch, Enter, IndexRange, Leave, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import Session

MOST_KNOWN: Final = 2_000
"""Task queues looked at; RabbitMQ does not take more quorum queues than a few thousand."""

RENEWED_AFTER_SECONDS: Final = 1_800.0
"""Who uses a task queue notes it anew when so much time has passed."""

SPARED: Final = 4
"""A name is not forgotten before it could have been noted so often."""

MOST_NOTED: Final = 1_000
"""Messages of a slot looked through for those of one run."""


class TaskQueueStore:
    """Reads and writes the names of task queues."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def known(self) -> list[str]:
        """Return the task queues that are known, sorted."""
        return list(await self._noted())

    async def note(self, queues: Iterable[str]) -> None:
        """Enter task queues; those that were noted not long ago cost nothing more."""
        noted, now_ms = await self._noted(), self._session.now_ms()
        old_ms = now_ms - round(1000 * RENEWED_AFTER_SECONDS)
        due = [queue for queue in sorted(set(queues)) if queue not in noted or noted[queue] <= old_ms]
        if due:
            writes = tuple(Enter(keys.TASK_QUEUES, queue, b"%d" % now_ms) for queue in due)
            await self._session.commit(Batch(slot=SYSTEM_SLOT, writes=writes))

    async def unneeded(self, oldest_run_ms: int) -> list[str]:
        """Return the task queues that nobody has noted for long, and that no item has.

        Args:
            oldest_run_ms: When the oldest run was started that may go on, store time: what an item of it has was noted
                by a process that lived since.
        """
        before_ms = min(oldest_run_ms, self._session.now_ms()) - round(1000 * SPARED * RENEWED_AFTER_SECONDS)
        return [queue for queue, at_ms in (await self._noted()).items() if 0 < at_ms < before_ms]

    async def forget(self, queue: str) -> None:
        """Take a task queue out of those that are known."""
        await self._session.commit(Batch(slot=SYSTEM_SLOT, writes=(Leave(keys.TASK_QUEUES, queue),)))

    async def _noted(self) -> dict[str, int]:
        """Return when each task queue was noted last, sorted; 0 where that is not said."""
        entries = await self._session.scan(IndexRange(keys.TASK_QUEUES, limit=MOST_KNOWN))
        return {entry.entry: int(entry.value) if entry.value.isdigit() else 0 for entry in entries}

    async def take_over(self, other: TaskQueueStore) -> None:
        """Enter what another server knows, as it was noted there; what was noted here later stays."""
        noted, theirs = await self._noted(), await other._noted()
        new = [(queue, at_ms) for queue, at_ms in theirs.items() if noted.get(queue, -1) < at_ms]
        if new:
            writes = tuple(Enter(keys.TASK_QUEUES, queue, b"%d" % at_ms) for queue, at_ms in new)
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
