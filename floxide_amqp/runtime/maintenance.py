"""Maintenance: what each worker does for all, and what the maintenance leader does besides.

Every worker is a candidate; a lease in the store, renewed by each finished round, names the leader. The lease only
saves work: every action is a checked commit, so two leaders do no harm.

The parts have names of their own: `DueTimers` fires what is due, `LeftLetters` delivers what nobody has delivered,
`DeadWorkers` returns what the dead held, `LostMessages` finds what a broker lost, `ParkedItems` takes what waited for
this worker, `DeclaredSchedules` puts what the application declares, `UnservedQueues` sees to queues that nobody serves,
`DeadLetterDesk` deals with what a broker gave up on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence

from floxide_amqp.core.message_records import Probe
from floxide_amqp.runtime.dead_letters import DeadLetterDesk
from floxide_amqp.runtime.dead_workers import DeadWorkers
from floxide_amqp.runtime.deaths import DeathWatch, DeathWatches
from floxide_amqp.runtime.described import DescribedVersions
from floxide_amqp.runtime.due_timers import DueTimers
from floxide_amqp.runtime.lease import Lease
from floxide_amqp.runtime.letter_kinds import KINDS
from floxide_amqp.runtime.letters import LeftLetters
from floxide_amqp.runtime.lost_messages import LostMessages, ignore_probe
from floxide_amqp.runtime.parked import ParkedItems
from floxide_amqp.runtime.retention import Pruning
from floxide_amqp.runtime.schedules import DeclaredSchedules
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import raise_first, report
from floxide_amqp.runtime.unserved import UnservedQueues
from floxide_amqp.stores.indexes import MessageNote
from floxide_amqp.stores.session import WAITED_FOR

PRUNING_PAUSE_SECONDS = 0.1
"""Longest pause while there are more runs to clear than a round takes: steps go first, and still they go."""


class Maintenance:
    """One process's part in maintenance: of the one server that most stores have, or of each where there are several.

    Args:
        services: The process's parts.
        deaths: Tells dead workers from slow ones.
        queues: The task queues this worker serves; their probes return here.

    Attributes:
        dead_letters: Reads what the broker gave up on while this process leads; run beside the rounds.
    """

    def __init__(self, services: Services, deaths: DeathWatches, queues: Sequence[str]) -> None:
        self._session = services.session
        self._parts = {
            part.shard: ShardMaintenance(services.with_part(part), services, watch, queues)
            for part, watch in zip(services.session.parts, deaths.parts, strict=True)
        }
        self.dead_letters = DeadLetterDesk(services, services.dead_letters, self._recover, lambda: self.is_leader)

    @property
    def is_leader(self) -> bool:
        """Whether this process led the last round, of any server."""
        return any(part.is_leader for part in self._parts.values())

    @property
    def unserved_since_ms(self) -> dict[str, int]:
        """Task queues in which messages lie and that nobody serves, and since when the oldest does, store time."""
        since: dict[str, int] = {}
        for part in self._parts.values():
            for queue, at_ms in part.unserved.since_ms.items():
                since[queue] = min(at_ms, since.get(queue, at_ms))
        return since

    async def run(self) -> None:
        """Do rounds until cancelled, those of each server for themselves: one that is down holds up no other."""
        async with asyncio.TaskGroup() as rounds:
            for part in self._parts.values():
                rounds.create_task(part.run(), name="floxide.worker.maintenance")

    async def round(self) -> None:
        """Do one round: the own part, and the leader's part if the lease can be had."""
        for part in self._parts.values():
            await part.round()

    def probe_returned(self, probe: Probe, came_from: str) -> None:
        """A probe came through a task queue that this worker serves."""
        part = self._parts.get(probe.shard)
        if part is None:
            ignore_probe(came_from, "it is about no server of this store")
        else:
            part.messages.probe_returned(probe, came_from)

    async def hand_over(self) -> None:
        """Give back what this worker still holds without a message: once it has said goodbye, nobody looks for it.

        Raises:
            FloxideError: Something could not be given back; the rest was. Of several errors the others are logged.
        """
        hand_overs = [part.workers.hand_over() for part in self._parts.values()]
        raise_first(await asyncio.gather(*hand_overs, return_exceptions=True))

    async def _recover(self, note: MessageNote) -> None:
        """A message is known to be lost: what that means is decided beside its run."""
        await self._parts[self._session.beside(note.run_id).shard].messages.recover(note)


class ShardMaintenance:
    """One process's part in the maintenance of one server.

    Args:
        services: The process's parts, with this server's part of the session.
        whole: The same with the whole session.
        deaths: Watches the heartbeats on this server.
        queues: The task queues this worker serves.

    Attributes:
        unserved: Finds task queues that nobody serves.
        workers: Gives back what workers hold.
        messages: Finds lost messages.
        is_leader: Whether this process led the last round.
    """

    def __init__(self, services: Services, whole: Services, deaths: DeathWatch, queues: Sequence[str]) -> None:
        self._services = services
        self._deaths = deaths
        self._lease = Lease(services, deaths)
        self._timers = DueTimers(services)
        self._letters = LeftLetters(services, whole, KINDS)
        self.workers = DeadWorkers(services, deaths)
        self.messages = LostMessages(services, deaths, queues)
        self._pruning = Pruning(services)
        self._parked = ParkedItems(services, queues)
        self._declared = DeclaredSchedules(services)
        self._described = DescribedVersions(services)
        self.unserved = UnservedQueues(services, self.messages, queues)
        self.is_leader = False

    async def run(self) -> None:
        """Do rounds until cancelled."""
        while True:
            pause = self._services.timeouts.maintenance
            try:
                await self.round()
                if self.is_leader:
                    pause = await self._timers.pause_seconds()
                    if self._pruning.has_more:
                        pause = min(pause, PRUNING_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - the supervisor of maintenance: the next round tries again
                self.is_leader = False
                report(error)
            await asyncio.sleep(pause)

    async def round(self) -> None:
        """Do one round: the own part, and the leader's part if the lease can be had.

        Before the own name stands on the server, what it has under that name may be another worker's.
        """
        if not self._deaths.has_own_beat:
            return
        own = (self._parked.take, self.workers.take_back_own, self.messages.sweep, self._declared.put)
        await _each(*own, self.unserved.note, self._described.put)
        self.is_leader = await self._lease.take()
        await _each(functools.partial(self.unserved.look, tells=self.is_leader))
        if self.is_leader:
            await _each(
                self._timers.fire, self.workers.bury, self.messages.look, self._letters.deliver, self._pruning.prune,
                self._described.prune, self.unserved.prune,
            )  # fmt: skip


async def _each(*parts: Callable[[], Awaitable[None]]) -> None:
    """Do parts of a round; one that meets what it cannot handle does not keep the others from being done."""
    for part in parts:
        try:
            await part()
        except WAITED_FOR:
            raise
        except Exception as error:  # noqa: BLE001 - a supervisor: the next round tries again
            report(error)
