"""Letters between runs and concurrency keys: an item waits for one, has got it, gives it back; a run gives all back."""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.kin_letters import RELEASE_ALL
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.limit_moves import (
    GRANT,
    LIMIT_PREFIX,
    RELEASE,
    WAIT,
    granted,
    has_turn,
    put_back,
    release_tickets,
)
from floxide_amqp.core.limits import Ticket, noted, number_and_limit, release, wait
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.run_key_moves import RUN_TICKET, run_key_granted, waits_for_run_key
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun

PAGE: Final = 100
"""Tickets looked at in one round trip."""

MAX_TRIES: Final = 20
"""Conflicts in a row before a letter is left for later: somebody else is at the same records all the time."""


class WaitForKey:
    """Puts a ticket on the list of those who wait. It is there, or holds the key, where that was done before.

    Where the ticket has been given back meanwhile, it comes to hold the key once more: that is told to its run, which
    knows nothing of it, so that it is given back again.
    """

    name: str = WAIT

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Put the ticket on the list, or make it a holder where there is room.

        Raises:
            UnreadableRecordError: It names no limit.
        """
        declared, _, rest = letter.body.decode(errors="replace").partition(":")
        if not declared.isdecimal() or int(declared) < 1:
            raise UnreadableRecordError(place=f"letter {letter.letter_id}", problem="It names no limit.")
        ticket = _ticket(letter, rest, letter.from_run)
        changed = await services.limit_keys.change(
            _limit_of(letter.to_run), lambda state, waiting: wait(state, waiting, ticket, int(declared))
        )
        services.on_letters(changed.letters)
        return True


class ReleaseKey:
    """Takes a ticket back. It is neither held nor waits where that was done before."""

    name: str = RELEASE

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Take the ticket back, and let the next have the key."""
        ticket = _ticket(letter, letter.body.decode(errors="replace"), letter.from_run)
        await _release(services, _limit_of(letter.to_run), ticket)
        return True


class KeyGranted:
    """Tells an item that it holds a key. It goes on already where that was done before.

    Each ticket that comes to hold a key is told so, also that of a step which takes it at once: so one that its run
    knows nothing of any more, since it has ended meanwhile, is taken back in any case.
    """

    name: str = GRANT

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Make the item pending if it waits for the key, or take back the ticket of one that has no use for it."""
        ticket = _ticket(letter, letter.body.decode(errors="replace"), letter.to_run)
        if ticket.item_id == RUN_TICKET:
            return await self._run(services, letter, ticket)
        for _ in range(MAX_TRIES):
            run, found = await services.runs.find_with_item(letter.to_run, ticket.item_id)
            if run is None or found is None or not _has_use(run, found, ticket):
                await _release(services, _limit_of(letter.from_run), ticket)
                return True
            if found.item.status is not WorkItemStatus.HELD or await self._wake(services, run, found):
                return True
        return False

    async def _run(self, services: Services, letter: Letter, ticket: Ticket) -> bool:
        """Make the items pending that waited until their run has its key, or take the ticket of one that is over.

        One that is over may be resumed any moment, and count on its ticket: both are decided by the run's epoch.
        """
        run_id, limit_id = letter.to_run, _limit_of(letter.from_run)
        for _ in range(MAX_TRIES):
            noted_as, run = await services.limit_keys.run_ticket(run_id), await services.runs.find(run_id)
            if run is None or noted_as != noted(ticket.number, limit_id):
                await _release(services, limit_id, ticket)
                return True
            if not run.state.status.is_terminal:
                return await self._wake_all(services, run_id, limit_id)
            given_back = release_tickets([(RUN_TICKET, noted_as)], run_id, run.epoch, services.now_ms(run_id))
            if not isinstance(await services.commit(run.writer, given_back), Conflict):
                return True
        return False

    async def _wake_all(self, services: Services, run_id: RunId, limit_id: str) -> bool:
        after, tries = "", 0
        while tries < MAX_TRIES:
            page = await services.limit_keys.tickets_of(run_id, after=after, limit=PAGE)
            if not page:
                return True
            waiting = dict(each for each in page if not each[1])  # the others have tickets of their own
            if not waiting or await self._wake_page(services, run_id, waiting, limit_id):
                after, tries = page[-1][0], 0
            else:
                tries += 1
        return False

    async def _wake_page(self, services: Services, run_id: RunId, page: dict[WorkItemId, str], limit_id: str) -> bool:
        """Return whether nobody else was faster with any of them."""
        run, is_done = await services.runs.find(run_id), True
        for found in await services.items.find(run_id, list(page)):
            if run is None or found is None or run.state.is_over_for(found.item):
                continue
            item, now_ms = found.item, services.now_ms(run_id)
            if not waits_for_run_key(item, page[item.item_id], limit_id):
                continue
            decision = run_key_granted(item, found.turn, run.state, run.epoch, now_ms, services.name)
            if isinstance(await services.commit(run.writer, decision), Conflict):
                is_done = False
            else:
                await publish(services, run.header, decision.effects.publish)
        return is_done

    async def _wake(self, services: Services, run: StoredRun, found: StoredItem) -> bool:
        run_id = run.header.run_id
        decision = granted(found.item, found.turn, run.state, run.epoch, run_id, services.now_ms(run_id), services.name)
        if isinstance(await services.commit(run.writer, decision), Conflict):
            return False
        await publish(services, run.header, decision.effects.publish)
        return True


class ReleaseKeys:
    """A letter of a run to itself that is over, undoes what it did, or is paused: its items give their tickets back.

    What is at work while a run is paused keeps its key until it has ended.
    """

    name: str = RELEASE_ALL

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Write a letter to each key, page by page; a second time there are no tickets any more."""
        run_id, after, tries = letter.to_run, "", 0
        while tries < MAX_TRIES:
            run = await services.runs.find(run_id)
            if run is None:
                return True
            page = await services.limit_keys.tickets_of(run_id, after=after, limit=PAGE)
            if not page:
                return True
            if await self._give_back(services, run, page):
                after, tries = page[-1][0], 0
            else:
                tries += 1
        return False

    async def _give_back(self, services: Services, run: StoredRun, page: list[tuple[WorkItemId, str]]) -> bool:
        run_id, status = run.header.run_id, run.state.status
        now_ms = services.now_ms(run_id)
        if status.is_terminal or status is RunStatus.COMPENSATING:
            kept = () if status.is_terminal else (RUN_TICKET,)  # a run that undoes what it did is under way
            decision = release_tickets([each for each in page if each[0] not in kept], run_id, run.epoch, now_ms)
        elif status is RunStatus.PAUSED:
            items = await services.items.find(run_id, [item_id for item_id, _ in page])
            idle = [(each.item, each.turn) for each in items if each is not None and _is_idle(each.item)]
            if not idle:
                return True
            decision = put_back(idle, run.state, run.epoch, run_id, now_ms, services.name)
        else:
            return True  # it goes on
        return not isinstance(await services.commit(run.writer, decision), Conflict)


async def _release(services: Services, limit_id: str, ticket: Ticket) -> None:
    changed = await services.limit_keys.change(limit_id, lambda state, waiting: release(state, waiting, ticket))
    services.on_letters(changed.letters)


def _has_use(run: StoredRun, found: StoredItem, ticket: Ticket) -> bool:
    item = found.item
    is_its_own = number_and_limit(item.ticket)[0] == ticket.number
    return is_its_own and has_turn(item) and not run.state.is_over_for(item)


def _is_idle(item: WorkItem) -> bool:
    return bool(item.ticket) and has_turn(item) and item.status is not WorkItemStatus.IN_PROGRESS


def _limit_of(place: RunId) -> str:
    return place.removeprefix(LIMIT_PREFIX)


def _ticket(letter: Letter, text: str, run_id: RunId) -> Ticket:
    number, _, item_id = text.partition(":")
    if not number or not item_id:
        raise UnreadableRecordError(place=f"letter {letter.letter_id}", problem="It names no ticket.")
    return Ticket(number, WorkItemId(item_id), run_id)
