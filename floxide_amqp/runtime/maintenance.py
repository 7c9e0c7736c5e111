"""The maintenance leader: fires what is due, returns what the dead held, finds messages that are lost.

Every worker is a candidate; a lease in the store, renewed by each finished round, names the leader. The lease only
saves work: every action is a checked commit, so two leaders do no harm.

How old is too old for a message cannot be known by time, because a backlog is not a loss. So numbered probes go
through each durable task queue: when one returns, whatever was put before it and is still untouched was lost. Messages
of the in-process queue are lost when the process that holds them is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from floxide_amqp.core import moves
from floxide_amqp.core.changes import LeaveMessage, LeaveOwner, LeaveParked
from floxide_amqp.core.decisions import message_entry
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.records import Probe
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import FloxideError, StoreUnavailableError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.runtime import timers
from floxide_amqp.runtime.deaths import DeathWatch, Verdict
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.stores.indexes import ItemPlace, MessageNote
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.liveness import DEAD
from floxide_amqp.stores.record_codec import encode_probe
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.maintenance")

PAGE = 500
"""Entries handled per round and kind, so that a round stays short."""

REMEMBER_DEAD_MS = 24 * 3600 * 1000
"""How long a dead worker stays listed: a day, within which its unacknowledged messages have come back."""

ENDED = (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED)


class Maintenance:
    """One process's part in maintenance.

    Args:
        services: The process's parts.
        deaths: Tells dead workers from slow ones.
        queues: The task queues this worker serves; their probes return here.
    """

    def __init__(self, services: Services, deaths: DeathWatch, queues: Sequence[str]) -> None:
        self._services = services
        self._deaths = deaths
        self._queues = tuple(queues)
        self._seen_lease: tuple[int, float] = (-1, 0.0)
        self._probe_number = 0
        self._next_probe = 0.0
        self._sweeps: asyncio.Queue[tuple[float, Probe]] = asyncio.Queue()
        self._parked_seen: dict[tuple[str, str, str], ItemPlace] = {}
        self._has_taken_back = False
        self.is_leader = False

    async def run(self) -> None:
        """Do rounds until cancelled."""
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - the supervisor of maintenance: the next round tries again
                self.is_leader = False
                _report(error)
            await asyncio.sleep(self._services.timeouts.maintenance)

    async def round(self) -> None:
        """Do one round: the own part, and the leader's part if the lease can be had."""
        await self._each(self._take_parked, self._take_back_own, self._run_sweeps)
        self.is_leader = await self._lead()
        if self.is_leader:
            await self._each(self._fire_timers, self._bury_the_dead, self._look_for_lost)

    async def _each(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Do parts of a round; one that meets what it cannot handle does not keep the others from being done."""
        for part in parts:
            try:
                await part()
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - a supervisor: the next round tries again
                _report(error)

    async def _look_for_lost(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_probe:
            return
        self._next_probe = now + self._services.timeouts.probe
        if self._services.queue.is_durable:
            await self._send_probes()
        else:
            await self._find_lost_in_process()

    def probe_returned(self, probe: Probe) -> None:
        """A probe came through its queue: look for what should have come before it, once steps begun then show."""
        grace = 2 * self._services.timeouts.early_acknowledge
        self._sweeps.put_nowait((asyncio.get_running_loop().time() + grace, probe))

    # --- the lease

    async def _lead(self) -> bool:
        """Take or renew the lease; nobody's, the own one, a dead leader's, or one that has stood still too long."""
        services, now = self._services, asyncio.get_running_loop().time()
        holder, version = await services.liveness.lease_holder()
        if holder and holder != services.name:
            if self._seen_lease[0] != version:
                self._seen_lease = (version, now)
            stood_still = now - self._seen_lease[1] >= services.timeouts.dead_after
            if not stood_still and await self._deaths.verdict(WorkerId(holder)) is Verdict.ALIVE:
                return False
        return await services.liveness.take_lease(services.name, version)

    # --- due timers

    async def _fire_timers(self) -> None:
        due = await self._services.indexes.due_timers(self._services.now_ms(), limit=PAGE)
        await _page(timers.fire(self._services, timer) for timer in due)

    # --- the dead

    async def _bury_the_dead(self) -> None:
        """Give back what dead workers held without a message, and remember for a day that they died."""
        services = self._services
        records = await services.liveness.all()
        self._deaths.forget_all_but(record.worker_id for record in records)
        for record in records:
            if record.worker_id == services.name or not self._deaths.has_died(record):
                continue
            all_given_back = await self._give_back_all(record.worker_id, died=True)
            if record.status != DEAD and all_given_back:
                _log.warning("worker.died", worker_id=record.worker_id, host=record.host, pid=record.pid)
                await services.liveness.bury(record)
            elif services.now_ms() - record.at_ms > REMEMBER_DEAD_MS:
                await services.liveness.forget(record.worker_id)

    async def _give_back_all(self, worker: WorkerId, *, died: bool) -> bool:
        """Give back a page of what a worker held; return whether that was all."""
        places = await self._services.indexes.owned(worker, limit=PAGE)
        await _page(self._give_back(worker, place, died=died) for place in places)
        return len(places) < PAGE

    async def _give_back(self, worker: WorkerId, place: ItemPlace, *, died: bool) -> None:
        services = self._services
        run = await services.runs.find(place.run_id)
        found = (await services.items.find(place.run_id, (place.item_id,)))[0]
        leave = LeaveOwner(worker, place.item_id)
        is_held = found is not None and found.item.owner == worker
        if run is None or found is None or not is_held or run.state.status.is_terminal:
            await services.session.commit(BatchWriter(place.run_id, 0).batch((), (leave,)))
            return
        decision = moves.give_back(
            found.item, found.turn, run.state, run.epoch, services.now_ms(), services.name, died=died
        )
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            _log.info("work_item.given_back", run_id=place.run_id, item_id=place.item_id, owner=worker, died=died)
            await publish(services, run.header, decision.effects.publish)

    async def hand_over(self) -> None:
        """Give back what this worker still holds without a message: once it has said goodbye, nobody looks for it."""
        is_all = False
        while not is_all:
            is_all = await self._give_back_all(self._services.name, died=False)

    async def _take_back_own(self) -> None:
        """Items this worker holds in the store but not in its hands: their chain broke off.

        What it is said to hold when it begins, an earlier process of its name died with.
        """
        services = self._services
        after: ItemPlace | None = None
        while True:
            places = await services.indexes.owned(services.name, after=after, limit=PAGE)
            for place in places:
                if not services.inflight.has(place.run_id, place.item_id):
                    await self._give_back(services.name, place, died=not self._has_taken_back)
            if len(places) < PAGE:
                break
            after = places[-1]
        self._has_taken_back = True

    # --- parked items

    async def _take_parked(self) -> None:
        """Make pending what waited for a workflow that this worker has, a page per round.

        A page may hold nothing for this worker, whose workflow lacks those items' nodes: the next round looks further.
        """
        services = self._services
        for workflow, version in services.registry.graphs:
            for queue in self._queues:
                kind = (queue, workflow, version)
                places = await services.indexes.parked(*kind, after=self._parked_seen.pop(kind, None), limit=PAGE)
                if len(places) == PAGE:
                    self._parked_seen[kind] = places[-1]
                await _page(
                    self._unpark(place, LeaveParked(queue, workflow, version, place.item_id)) for place in places
                )

    async def _unpark(self, place: ItemPlace, leave: LeaveParked) -> None:
        services = self._services
        run = await services.runs.find(place.run_id)
        found = (await services.items.find(place.run_id, (place.item_id,)))[0]
        if (
            run is None
            or found is None
            or found.item.status is not WorkItemStatus.PARKED
            or run.state.status.is_terminal
        ):
            await services.session.commit(BatchWriter(place.run_id, 0).batch((), (leave,)))
            return
        graph = services.registry.find(run.header.workflow, run.header.version)
        if graph is None or found.item.node not in graph.nodes:
            return
        decision = moves.unpark(found.item, found.turn, run.state, run.epoch, services.now_ms(), services.name, leave)
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            await publish(services, run.header, decision.effects.publish)

    # --- lost messages

    async def _all_queues(self) -> Sequence[str]:
        """The task queues of every worker: the leader need not serve them itself, a probe returns where one does."""
        others = [queue for record in await self._services.liveness.all() for queue in record.queues]
        return list(dict.fromkeys((*self._queues, *others)))

    async def _send_probes(self) -> None:
        for queue in await self._all_queues():
            if not await self._services.indexes.messages(queue, limit=1):
                continue
            self._probe_number += 1
            probe = Probe(queue=queue, number=self._probe_number, before=f"{self._services.now_ms():014d}")
            await self._services.queue.publish([Message(queue=queue, body=encode_probe(probe))])

    async def _run_sweeps(self) -> None:
        """Sweep for the probes whose grace is over; once per queue, however many came back together."""
        now = asyncio.get_running_loop().time()
        latest: dict[str, str] = {}
        for _ in range(self._sweeps.qsize()):
            due, probe = self._sweeps.get_nowait()
            if due > now:
                self._sweeps.put_nowait((due, probe))
            else:
                latest[probe.queue] = max(probe.before, latest.get(probe.queue, ""))
        for queue, before in latest.items():
            await self._sweep(queue, before=before)

    async def _sweep(self, queue: str, *, before: str) -> None:
        after = ""
        while True:
            notes = await self._services.indexes.messages(queue, after=after, before=before, limit=PAGE)
            await _page(self.recover(note) for note in notes)
            if len(notes) < PAGE:
                return
            after = notes[-1].entry

    async def _find_lost_in_process(self) -> None:
        """The in-process queue dies with its process: look at messages that a dead process published.

        Of the living, those that are old although nothing waits in the queue never reached it.
        """
        services = self._services
        verdicts: dict[str, Verdict] = {services.name: Verdict.ALIVE}
        grace_ms = round(2000 * services.timeouts.early_acknowledge)
        for queue in await self._all_queues():
            after = ""
            is_empty = await services.queue.depth(queue) == 0
            never_came = message_entry(services.now_ms() - grace_ms, WorkItemId(""), 0) if is_empty else ""
            while True:
                notes = await services.indexes.messages(queue, after=after, limit=PAGE)
                for publisher in {note.publisher for note in notes} - verdicts.keys():
                    verdicts[publisher] = await self._deaths.verdict(publisher)
                await _page(
                    self.recover(note)
                    for note in notes
                    if verdicts[note.publisher] is not Verdict.ALIVE or note.entry < never_came
                )
                if len(notes) < PAGE:
                    break
                after = notes[-1].entry

    async def recover(self, note: MessageNote) -> None:
        """A message is lost: bring the frontier of its chain on its way again, or forget the message."""
        services = self._services
        leave = LeaveMessage(note.queue, note.entry)
        run = await services.runs.find(note.run_id)
        found = await self._frontier(note.run_id, note.item_id)
        if run is None or found is None or run.state.status.is_terminal:
            await self._forget(note, leave)
        elif found.item.status is WorkItemStatus.IN_PROGRESS:  # also of a paused run: resuming it does not look for it
            await self._recover_owned(run, found, note, leave)
        elif found.item.status is WorkItemStatus.PENDING and run.state.status is not RunStatus.PAUSED:
            await self._republish(run, found, leave)
        else:
            await self._forget(note, leave)

    async def _republish(self, run: StoredRun, found: StoredItem, leave: LeaveMessage) -> None:
        services = self._services
        decision = moves.republish(found.item, found.turn, services.now_ms(), services.name, (leave,))
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            _log.info("message.republished", run_id=run.header.run_id, item_id=found.item.item_id)
            await publish(services, run.header, decision.effects.publish)

    async def _recover_owned(self, run: StoredRun, found: StoredItem, note: MessageNote, leave: LeaveMessage) -> None:
        """The chain's frontier is claimed: give it back if its owner is no more, else leave it alone."""
        services, item = self._services, found.item
        if item.owner == services.name:
            is_here = services.inflight.has(run.header.run_id, item.item_id)
            verdict = Verdict.ALIVE if is_here else Verdict.DEAD if services.died_with(item) else Verdict.GONE
        else:
            verdict = await self._deaths.verdict(item.owner)
        if verdict is Verdict.ALIVE:
            if item.anchored:
                await self._forget(note, leave)
            return
        decision = moves.give_back(
            item, found.turn, run.state, run.epoch, services.now_ms(), services.name,
            died=verdict is Verdict.DEAD, forget=(leave,),
        )  # fmt: skip
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            await publish(services, run.header, decision.effects.publish)

    async def _frontier(self, run_id: RunId, item_id: WorkItemId) -> StoredItem | None:
        """Return the item at which a chain stands; None where it has ended."""
        found = (await self._services.items.find(run_id, (item_id,)))[0]
        while found is not None and found.item.status in ENDED:
            kept = found.item.kept
            found = (await self._services.items.find(run_id, (kept,)))[0] if kept else None
        return found

    async def _forget(self, note: MessageNote, leave: LeaveMessage) -> None:
        await self._services.session.commit(BatchWriter(note.run_id, 0).batch((), (leave,)))


async def _page(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do a page of work at once; what one record does not let be done keeps no other page from being done."""
    try:
        await side_by_side(works)
    except StoreUnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - a supervisor: the next round tries again
        _report(error)


def _report(error: Exception) -> None:
    _log.warning("maintenance.round_failed", error=str(error), exc_info=not isinstance(error, FloxideError))
