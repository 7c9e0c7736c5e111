"""What workers hold without a message, and what becomes of it when they die, drain, or let go of it."""

from __future__ import annotations

from floxide_amqp.core import moves
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.place_changes import LeaveOwner
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.deaths import DeathWatch, gave_up
from floxide_amqp.runtime.letting_go import OVER
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.runtime.unreadable import fail_unreadable
from floxide_amqp.stores.indexes import ItemPlace
from floxide_amqp.stores.liveness import DEAD, HUNG
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.maintenance")

PAGE = 500
"""Owner entries read at a time."""

REMEMBER_DEAD_MS = 24 * 3600 * 1000
"""How long a dead worker stays listed: a day, within which its unacknowledged messages have come back."""


class DeadWorkers:
    """Gives back what workers hold that cannot end it.

    Args:
        services: The process's parts.
        deaths: Tells dead workers from slow ones.
    """

    def __init__(self, services: Services, deaths: DeathWatch) -> None:
        self._services = services
        self._deaths = deaths
        self._has_taken_back = False

    async def bury(self) -> None:
        """Give back what dead workers held without a message, and remember for a day that they died."""
        services = self._services
        records = await services.liveness.all()
        self._deaths.forget_all_but(record.worker_id for record in records)
        for record in records:
            if record.worker_id == services.name:
                continue
            if not self._deaths.has_died(record):
                await self._take_what_it_gave_up(record)
                continue
            all_given_back = await self._give_back_all(record.worker_id, died=True)
            await self._note_death(record, all_given_back=all_given_back)

    async def _note_death(self, record: WorkerRecord, *, all_given_back: bool) -> None:
        services = self._services
        if record.status == HUNG:  # it still beats, so a grave would not last
            return
        if record.status != DEAD and all_given_back:
            _log.warning("worker.died", worker_id=record.worker_id, host=record.host, pid=record.pid)
            await services.liveness.bury(record)
        elif all_given_back and services.now_ms() - record.at_ms > REMEMBER_DEAD_MS:
            await services.liveness.forget(record.worker_id)

    async def _take_what_it_gave_up(self, record: WorkerRecord) -> None:
        """Items whose bodies do not end: their worker lives and does not vouch for them."""
        places = [ItemPlace(body.run_id, body.item_id) for body in record.stuck if body.is_given_up]
        await work_off(lambda place: self._give_back_given_up(record, place), places)

    async def _give_back_given_up(self, record: WorkerRecord, place: ItemPlace) -> None:
        found = (await self._services.items.find(place.run_id, (place.item_id,)))[0]
        is_held = found is not None and found.item.owner == record.worker_id
        if found is not None and is_held and gave_up(record, place.run_id, found.item):
            await self._give_back(record.worker_id, place, died=True)

    async def hand_over(self) -> None:
        """Give back what this worker still holds without a message: once it has said goodbye, nobody looks for it."""
        await self._give_back_all(self._services.name, died=False)

    async def take_back_own(self) -> None:
        """Items this worker holds in the store but not in its hands: their chain broke off.

        What it is said to hold when it begins, an earlier process of its name died with.
        """
        services = self._services
        died = not self._has_taken_back
        after: ItemPlace | None = None
        while True:
            places = await services.indexes.owned(services.name, after=after, limit=PAGE)
            let_go = [place for place in places if not services.inflight.has(place.run_id, place.item_id)]
            await work_off(lambda place: self._give_back(services.name, place, died=died), let_go)
            if len(places) < PAGE:
                break
            after = places[-1]
        self._has_taken_back = True

    async def _give_back_all(self, worker: WorkerId, *, died: bool) -> bool:
        """Give back what a worker held; return whether that was all. What cannot be given back holds up no other."""
        was_all = True
        after: ItemPlace | None = None
        while True:
            places = await self._services.indexes.owned(worker, after=after, limit=PAGE)
            was_all &= await work_off(lambda place: self._give_back(worker, place, died=died), places)
            if len(places) < PAGE:
                return was_all
            after = places[-1]

    async def _give_back(self, worker: WorkerId, place: ItemPlace, *, died: bool) -> None:
        services = self._services
        leave = LeaveOwner(worker, place.item_id)
        try:
            run, found = await services.runs.find_with_item(place.run_id, place.item_id)
        except UnreadableRecordError as error:
            if not await fail_unreadable(services, place.run_id, place.item_id, error):
                raise
            run, found = None, None
        is_held = found is not None and found.item.owner == worker
        if run is None or found is None or not is_held or run.state.status in OVER:
            await services.session.commit(BatchWriter(place.run_id, 0).batch((), (leave,)))
            return
        decision = moves.give_back(
            found.item, found.turn, run.state, run.epoch, services.now_ms(), services.name, died=died
        )
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            _log.info("work_item.given_back", run_id=place.run_id, item_id=place.item_id, owner=worker, died=died)
            services.figures.given_back += 1
            await publish(services, run.header, decision.effects.publish)
