"""Probes: numbered messages through each task queue that tell what the queue has delivered.

How old is too old for a message cannot be known by time, because a backlog is not a loss. When a probe comes back,
whatever was put before it and is still untouched was lost.

One probe per queue is under way. Behind a backlog it takes its time; lost with its broker it never comes back. The two
are told apart where the queue is seen empty; otherwise a probe is repeated ever more rarely, so that probes do not
pile up in a queue that nobody serves. One that may not have reached its queue at all counts for nothing: the broker was
away, and when it is back the next one goes out at once.

Anybody who can publish can make up a probe, and one that is believed tells what was lost: only those are that this
store can have sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from floxide_amqp.core.message_records import Probe
from floxide_amqp.exceptions import FloxideError
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.runtime.deaths import is_gone
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.liveness import DEAD
from floxide_amqp.stores.record_codec import encode_probe

REPEAT_AFTER = (3, 6, 12, 30, 360)
"""Probe intervals after which a probe that has not come back is repeated: the last one again and again. With an
interval of 10 s those are 30 s, 1, 2 and 5 minutes, then every hour."""

DEPTH_SECONDS = 2.0
"""Longest wait for the broker to say how long a queue is."""

MOST_AHEAD_MS = 5_000
"""How far a probe's time may lie ahead of this process's: each knows the store's time no better than to a round trip.
Less than the grace that messages get after a probe, so that a made-up one gains nothing by it."""

MAX_SHOWN = 100
"""Characters shown of what a probe that is not believed claims."""

DIGITS = 14
"""Of a probe's time in milliseconds, as of the time that a message's entry begins with."""


@dataclass(slots=True)
class _UnderWay:
    """The latest probe of a queue that has not come back."""

    before: str
    sent_at: float
    repeats: int


class Probes:
    """Sends probes, for the leader.

    Args:
        services: The process's parts.
        queues: The task queues this worker serves itself.
    """

    def __init__(self, services: Services, queues: Sequence[str]) -> None:
        self._services = services
        self._queues = tuple(queues)
        self._under_way: dict[str, _UnderWay] = {}
        self._number = 0

    async def send(self) -> None:
        """Send a probe through each queue of which messages are known and none is under way."""
        queues = await self.queues(of_the_dead=False)
        self._under_way = {queue: self._under_way[queue] for queue in queues if queue in self._under_way}
        due: list[str] = []
        for queue in queues:
            if not await self._services.indexes.messages(queue, limit=1) or not await self._may_send(queue):
                continue
            due.append(queue)
        if due:
            await self._send(due)

    async def queues(self, *, of_the_dead: bool) -> Sequence[str]:
        """The task queues of every worker: the leader need not serve them itself, a probe returns where one does.

        Nobody takes a probe out of a queue that only dead workers served; a message there waits for a worker.
        """
        records = await self._services.liveness.all()
        alive = (record for record in records if of_the_dead or (record.status != DEAD and not is_gone(record)))
        return list(dict.fromkeys((*self._queues, *(queue for record in alive for queue in record.queues))))

    async def _may_send(self, queue: str) -> bool:
        probe = self._under_way.get(queue)
        if probe is None:
            return True
        if await self._services.probes.returned(queue) >= probe.before:
            del self._under_way[queue]
            return True
        waited, interval = asyncio.get_running_loop().time() - probe.sent_at, self._services.timeouts.probe
        if waited >= REPEAT_AFTER[min(probe.repeats, len(REPEAT_AFTER) - 1)] * interval:
            return True
        return waited >= (1 + probe.repeats) * interval and await self._is_empty(queue)

    async def _is_empty(self, queue: str) -> bool:
        """Whether nothing waits in a queue: then a probe that has not come back is lost. False where nobody says."""
        try:
            async with asyncio.timeout(DEPTH_SECONDS):
                return await self._services.queue.depth(queue) == 0
        except (FloxideError, TimeoutError):
            return False

    async def _send(self, queues: Sequence[str]) -> None:
        """Send a probe through each queue, all at once: while the broker is away each publish takes its deadline."""
        services, now = self._services, asyncio.get_running_loop().time()
        before = f"{services.now_ms():0{DIGITS}d}"
        shard, probes = services.session.shard, list[Probe]()
        for queue in queues:
            self._number += 1
            probe = Probe(queue=queue, number=self._number, before=before, store=services.store_id, shard=shard)
            probes.append(probe)
        messages = [Message(queue=probe.queue, body=encode_probe(probe)) for probe in probes]
        for queue, outcome in zip(queues, await services.queue.publish(messages), strict=True):
            last = self._under_way.pop(queue, None)
            if outcome is PublishOutcome.CONFIRMED:
                self._under_way[queue] = _UnderWay(before, now, 0 if last is None else last.repeats + 1)


def distrust(probe: Probe, came_from: str, *, store_id: str, now_ms: int) -> str:
    """Return why a probe cannot be one that this store sent through a task queue; empty where it can.

    Args:
        probe: What was delivered.
        came_from: The task queue it was delivered from.
        store_id: This process's store; empty not to ask.
        now_ms: The store's time.
    """
    if store_id and probe.store != store_id:
        return "it is of another store"
    if probe.queue != came_from:
        return f"it was sent through task queue {probe.queue[:MAX_SHOWN]!r}"
    if len(probe.before) != DIGITS or not (probe.before.isascii() and probe.before.isdecimal()):
        return "its position is no time"
    if int(probe.before) > now_ms + MOST_AHEAD_MS:
        return "its position lies in the future"
    return ""
