"""What is kept of dead letters: nobody forgets one that was written anew since they looked at it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.message_records import DeadLetter
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.ports.key_value import Batch, Enter, Put
from floxide_amqp.stores import keys
from floxide_amqp.stores.dead_letters import DeadLetterStore, LetterPlace, encode_letter, encode_place
from floxide_amqp.stores.session import Session
from floxide_amqp.testing.virtual_time import VirtualClock

RUN, ITEM = RunId("run"), WorkItemId("item")
PLACE = LetterPlace("1-a", RUN, ITEM)
LETTER = DeadLetter(
    letter_id="1-a", run_id=RUN, item_id=ITEM, node="node", queue="default", reason="expired", count=1, turn=1,
    first_at_ms=1, last_at_ms=1,
)  # fmt: skip


async def write(session: Session, letter: DeadLetter) -> None:
    cell = Put(keys.dead_letter(RUN, ITEM), encode_letter(letter))
    entry = Enter(keys.DEAD_LETTERS, letter.letter_id, encode_place(RUN, ITEM))
    await session.commit(Batch(slot=slot_of(RUN), writes=(cell, entry)))


@pytest.mark.fault(21)
async def test_a_letter_that_is_kept_since_somebody_looked_at_it_is_not_forgotten() -> None:
    session = Session(MemoryKeyValueStore(VirtualClock()), VirtualClock())
    letters = DeadLetterStore(session)
    await write(session, LETTER)
    looked_at = await letters.find(RUN, ITEM)
    kept = replace(LETTER, count=2, turn=2, is_kept=True)
    await write(session, kept)
    await letters.remove(PLACE, looked_at)
    assert await letters.page() == [kept]
    await letters.remove(PLACE, kept)
    assert (await letters.page(), await letters.places()) == ([], [])
