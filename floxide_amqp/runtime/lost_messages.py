"""Finds messages that are lost, and brings the items they were about on their way again.

A probe that came back tells what its queue has delivered (`Probes`); what was put before it and is still untouched,
once steps begun meanwhile show, was lost. Messages of the in-process queue are lost when the process that holds them
is.

A message may also come late behind a probe: one that a consumer gave back goes to the end of its queue. A second
message then does no harm, but each costs a delivery, so an item whose message counts as lost again and again gets the
next one after ever longer pauses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from floxide_amqp.core import moves, publish_moves
from floxide_amqp.core.decisions import message_entry
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.message_records import Probe
from floxide_amqp.core.place_changes import LeaveMessage
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.deaths import DeathWatch, Verdict
from floxide_amqp.runtime.frontier import find_frontier
from floxide_amqp.runtime.owners import verdict_on_owner
from floxide_amqp.runtime.probes import Probes, distrust
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.runtime.unreadable import fail_unreadable, put_aside
from floxide_amqp.stores.indexes import MessageNote
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.maintenance")

PAGE = 500
"""Message entries read at a time."""

PAGES_PER_ROUND = 4
"""Pages that one round looks at per queue, so that it stays short and what it publishes comes in bounded bursts."""

MOST_DOUBLINGS = 6
"""The pause before a repeated message may count as lost again doubles so often: from one probe interval to 64."""


@dataclass(slots=True)
class _Sweep:
    """A look at what was put into a queue before a probe: up to where it goes, and where it stands."""

    before: str
    after: str = ""


class LostMessages:
    """One process's part in finding lost messages.

    Args:
        services: The process's parts.
        deaths: Tells dead workers from slow ones.
        queues: The task queues this worker serves; their probes return here.
    """

    def __init__(self, services: Services, deaths: DeathWatch, queues: Sequence[str]) -> None:
        self._services = services
        self._deaths = deaths
        self._probes = Probes(services, queues)
        self._returned: list[Probe] = []
        self._waiting: deque[tuple[float, Probe]] = deque()
        self._next: dict[str, str] = {}
        self._sweeps: dict[str, _Sweep] = {}
        self._next_probe = 0.0

    def probe_returned(self, probe: Probe, came_from: str) -> None:
        """A probe came through a queue: look for what should have come before it, once steps begun then show."""
        services = self._services
        reason = distrust(probe, came_from, store_id=services.store_id, now_ms=services.now_ms())
        if reason:
            ignore_probe(came_from, reason)
        else:
            self._returned.append(probe)

    async def look(self) -> None:
        """The leader's part: send probes, or look through the in-process queue's messages, now and then."""
        now = asyncio.get_running_loop().time()
        if now < self._next_probe:
            return
        self._next_probe = now + self._services.timeouts.probe
        if self._services.queue.is_durable:
            await self._probes.send()
        else:
            await self._find_lost_in_process()

    async def sweep(self) -> None:
        """Everybody's part: look at what probes that came back here say was lost, a bounded number per round."""
        now = asyncio.get_running_loop().time()
        await self._note_returns(now + 2 * self._services.timeouts.early_acknowledge)
        while self._waiting and self._waiting[0][0] <= now:
            _, probe = self._waiting.popleft()
            self._next[probe.queue] = max(probe.before, self._next.get(probe.queue, ""))
        for queue in self._next.keys() - self._sweeps.keys():
            self._sweeps[queue] = _Sweep(self._next.pop(queue))
        for queue, sweep in list(self._sweeps.items()):
            if await self._sweep_on(queue, sweep):
                del self._sweeps[queue]

    async def _note_returns(self, due_at: float) -> None:
        returned, self._returned = self._returned, []
        self._waiting += ((due_at, probe) for probe in returned)
        for queue, before in {probe.queue: probe.before for probe in returned}.items():
            await self._services.probes.note_return(queue, before)

    async def _sweep_on(self, queue: str, sweep: _Sweep) -> bool:
        """Go on with a sweep; return whether it is through."""
        for _ in range(PAGES_PER_ROUND):
            notes = await self._services.indexes.messages(queue, after=sweep.after, before=sweep.before, limit=PAGE)
            await work_off(self.recover, notes)
            if len(notes) < PAGE:
                return True
            sweep.after = notes[-1].entry
        return False

    async def _find_lost_in_process(self) -> None:
        """The in-process queue dies with its process: look at messages that a dead process published.

        Of the living, those that are old although nothing waits in the queue never reached it.
        """
        services = self._services
        verdicts: dict[str, Verdict] = {services.name: Verdict.ALIVE}
        grace_ms = round(2000 * services.timeouts.early_acknowledge)
        for queue in await self._probes.queues(of_the_dead=True):
            after = ""
            is_empty = await services.queue.depth(queue) == 0
            never_came = message_entry(services.now_ms() - grace_ms, WorkItemId(""), 0) if is_empty else ""
            while True:
                notes = await services.indexes.messages(queue, after=after, limit=PAGE)
                for publisher in {note.publisher for note in notes} - verdicts.keys():
                    verdicts[publisher] = await self._deaths.verdict(publisher)
                lost = [
                    note for note in notes if verdicts[note.publisher] is not Verdict.ALIVE or note.entry < never_came
                ]
                await work_off(self.recover, lost)
                if len(notes) < PAGE:
                    break
                after = notes[-1].entry

    # --- one message

    async def recover(self, note: MessageNote) -> None:
        """A message is lost: bring the frontier of its chain on its way again, or forget the message."""
        if note.damage is not None:
            await put_aside(self._services, note)
            return
        try:
            await self._recover(note)
        except UnreadableRecordError as error:
            if not await fail_unreadable(self._services, note.run_id, note.item_id, error):
                raise
            await self._forget(note)

    async def _recover(self, note: MessageNote) -> None:
        services = self._services
        run, first = await services.runs.find_with_item(note.run_id, note.item_id)
        found = await find_frontier(services.items, note.run_id, first)
        if run is None or found is None or run.state.status.is_terminal:
            await self._forget(note)
        elif found.item.status is WorkItemStatus.IN_PROGRESS:  # also of a paused run: resuming it does not look for it
            await self._recover_owned(run, found, note)
        elif found.item.status is WorkItemStatus.PENDING and run.state.is_at_work_on(found.item):
            await self._republish(run, found, note)
        else:
            await self._forget(note)

    async def _republish(self, run: StoredRun, found: StoredItem, note: MessageNote) -> None:
        services = self._services
        pause_ms = round(1000 * services.timeouts.probe) << min(note.tries, MOST_DOUBLINGS)
        decision = publish_moves.republish(
            found.item, found.turn, services.now_ms() + pause_ms, services.name, (_leave(note),), tries=note.tries + 1
        )
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            _log.info("message.republished", run_id=run.header.run_id, item_id=found.item.item_id, tries=note.tries + 1)
            services.figures.republished += 1
            await publish(services, run.header, decision.effects.publish)

    async def _recover_owned(self, run: StoredRun, found: StoredItem, note: MessageNote) -> None:
        """The chain's frontier is claimed: give it back if its owner is no more, else leave it alone."""
        services, item = self._services, found.item
        verdict = await verdict_on_owner(services, self._deaths, run.header.run_id, item)
        if verdict is Verdict.ALIVE:
            if item.anchored:
                await self._forget(note)
            return
        decision = moves.give_back(
            item, found.turn, run.state, run.epoch, services.now_ms(), services.name,
            died=verdict is Verdict.DEAD, forget=(_leave(note),),
        )  # fmt: skip
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            await publish(services, run.header, decision.effects.publish)

    async def _forget(self, note: MessageNote) -> None:
        await self._services.session.commit(BatchWriter(note.run_id, 0).batch((), (_leave(note),)))


def _leave(note: MessageNote) -> LeaveMessage:
    return LeaveMessage(note.queue, note.entry)


def ignore_probe(came_from: str, reason: str) -> None:
    """Say that a probe out of a task queue is not believed, and why."""
    _log.warning("probe.ignored", queue=came_from, reason=reason)
