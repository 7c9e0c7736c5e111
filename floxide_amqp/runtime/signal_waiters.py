"""Who gets a signal: an item that waits for it, and a value that came back offered to one.

An item of a fan-out that was closed waits no more, although it is on the list until it is cancelled: a value given to
it would be lost with it. That a fan-out is closed is learnt from the conflict, so that nobody else pays for it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from floxide_amqp.core.ids import ScopeId
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.records import Mail
from floxide_amqp.core.signal_moves import OFFER, give_kept
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.ports.key_value import Check, Conflict
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.mailbox import PAGE, SignalPlace
from floxide_amqp.stores.writes import BatchWriter

MAX_TRIES: Final = 20
"""Conflicts in a row before an offer is left for later: somebody else is at the same records all the time."""


class Gone(Enum):
    """What stands for an item that waits no more."""

    GONE = "gone"


GONE: Final = Gone.GONE


async def find_waiter(
    services: Services, name: str, place: SignalPlace, closed: set[ScopeId], *, is_first: bool
) -> StoredItem | Literal[Gone.GONE] | None:
    """Return the item that gets a signal, `GONE` where it has just stopped to wait, None where nobody waits.

    Args:
        services: The process's parts.
        name: The signal's.
        place: What the signal found.
        closed: Scopes that are known to be closed: nothing in them waits any more.
        is_first: Whether it gets the one that has waited longest; else any of the first few, since others are at that.
    """
    run_id = place.header.run_id
    if not place.waiters:
        return None
    if not closed:
        item_id = place.waiters[0] if is_first else services.random.choice(place.waiters)
        found = (await services.items.find(run_id, (item_id,)))[0]
        return found if found is not None and found.item.status is WorkItemStatus.HELD else GONE
    after = ""
    while page := await services.mailbox.waiters(run_id, name, after=after):
        for found in await services.items.find(run_id, [each.item_id for each in page]):
            is_held = found is not None and found.item.status is WorkItemStatus.HELD
            if found is not None and is_held and closed.isdisjoint(found.item.scope):
                return found
        if len(page) < PAGE:
            break
        after = page[-1].entry
    return None


def note_closed(conflict: Conflict, closed: set[ScopeId]) -> bool:
    """Note the scope that a conflict says is closed; return whether it says so."""
    check = conflict.check
    if not isinstance(check, Check) or not check.key.name.startswith(keys.SCOPE_PREFIX):
        return False
    closed.add(ScopeId(check.key.name.removeprefix(keys.SCOPE_PREFIX)))
    return True


class OfferSignal:
    """A run's letter to itself: a value that came back goes to an item that waits for one by now.

    It may be delivered twice: the value is there or it is not.
    """

    name: str = OFFER

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Give kept values of the signal to items that wait for it, until there are no more of the one or the other."""
        name, closed, conflicts = letter.body.decode(), set[ScopeId](), 0
        while conflicts < MAX_TRIES:
            place = await services.mailbox.look(letter.to_run, name, "")
            if place is None or (place.state.status.is_terminal and place.state.status is not RunStatus.FAILED):
                return True
            waiter = await find_waiter(services, name, place, closed, is_first=conflicts == 0)
            mail = None if waiter is None else await services.mailbox.oldest(letter.to_run, name)
            if mail is None or waiter is None:
                return True
            if waiter is GONE or not await self._give(services, place, mail, waiter, closed):
                conflicts += 1
        return False

    async def _give(
        self, services: Services, place: SignalPlace, mail: Mail, waiter: StoredItem, closed: set[ScopeId]
    ) -> bool:
        header = place.header
        decision = give_kept(
            mail, waiter.item, waiter.turn, place.state, place.epoch, now_ms=services.now_ms(header.run_id),
            publisher=services.name, run_id=header.run_id,
        )  # fmt: skip
        writer = BatchWriter(header.run_id, header.created_at_ms, header.workflow)
        outcome = await services.commit(writer, decision)
        if isinstance(outcome, Conflict):
            return note_closed(outcome, closed)
        await publish(services, header, decision.effects.publish)
        return True
