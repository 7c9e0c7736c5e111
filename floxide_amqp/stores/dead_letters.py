"""Dead letters: messages that the broker gave up on while their item still waits for them.

An item has one letter at most. It lies in the partition of its run, so that it changes together with the item; the
index spans all runs, oldest letters first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.records import DeadLetter
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import ABSENT, Batch, Check, Delete, IndexRange, Leave, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.session import Session

FIELDS = 13
"""Of a stored letter; one that is added later goes to the end and needs a default."""


@dataclass(frozen=True, slots=True)
class LetterPlace:
    """Where a letter lies: with its item."""

    letter_id: str
    run_id: RunId
    item_id: WorkItemId


class DeadLetterStore:
    """Reads dead letters, which are written with their items, and forgets those whose item has gone on."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, run_id: RunId, item_id: WorkItemId) -> DeadLetter | None:
        """Return the letter of an item, or None where there is none."""
        cells = (keys.dead_letter(run_id, item_id),)
        (cell,) = (await self._session.read(Read(slot=slot_of(run_id), cells=cells))).cells
        return decode_letter(cell.value) if cell.version else None

    async def get(self, letter_id: str) -> DeadLetter | None:
        """Return a letter by its id, or None where there is none."""
        wanted = IndexRange(keys.DEAD_LETTERS, after=letter_id[:-1], before=f"{letter_id}\0", limit=10)
        for entry in await self._session.scan(wanted):
            if entry.entry == letter_id:
                return await self.find(*_place(entry.value))
        return None

    async def page(self, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return letters, oldest first, after the id `after`."""
        found: list[DeadLetter] = []
        while len(found) < limit:
            places = await self.places(after=after, limit=limit)
            for place in places:
                letter = await self.find(place.run_id, place.item_id)
                if letter is not None and letter.letter_id == place.letter_id:
                    found.append(letter)
            if len(places) < limit:
                break
            after = places[-1].letter_id
        return found[:limit]

    async def places(self, *, after: str = "", limit: int = 100) -> list[LetterPlace]:
        """Return where letters lie, oldest first, after the id `after`."""
        entries = await self._session.scan(IndexRange(keys.DEAD_LETTERS, after=after, limit=limit))
        return [LetterPlace(entry.entry, *_place(entry.value)) for entry in entries]

    async def remove(self, place: LetterPlace) -> None:
        """Forget a letter, unless somebody writes it anew meanwhile."""
        key = keys.dead_letter(place.run_id, place.item_id)
        (cell,) = (await self._session.read(Read(slot=slot_of(place.run_id), cells=(key,)))).cells
        is_this = cell.version != 0 and decode_letter(cell.value).letter_id == place.letter_id
        await self._session.commit(
            Batch(
                slot=slot_of(place.run_id),
                checks=(Check(key, cell.version or ABSENT),),
                writes=(*((Delete(key),) if is_this else ()), Leave(keys.DEAD_LETTERS, place.letter_id)),
            )
        )


def encode_letter(letter: DeadLetter) -> bytes:
    """Encode a dead letter."""
    return pack([
        letter.letter_id, letter.run_id, letter.item_id, letter.node, letter.queue, letter.reason, letter.count,
        letter.turn, letter.first_at_ms, letter.last_at_ms, letter.due_ms, letter.is_kept, letter.body,
    ])  # fmt: skip


def decode_letter(data: bytes) -> DeadLetter:
    """Decode a dead letter.

    Raises:
        CodecError: The bytes are none.
    """
    values = unpack(data)
    if not isinstance(values, list | tuple) or len(cast("list[object]", values)) < FIELDS:
        raise CodecError("This is not a dead letter.")
    v = cast("tuple[str, RunId, WorkItemId, str, str, str, int, int, int, int, int, bool, bytes]", values)
    return DeadLetter(
        letter_id=v[0], run_id=v[1], item_id=v[2], node=v[3], queue=v[4], reason=v[5], count=v[6], turn=v[7],
        first_at_ms=v[8], last_at_ms=v[9], due_ms=v[10], is_kept=v[11], body=v[12],
    )  # fmt: skip


def encode_place(run_id: RunId, item_id: WorkItemId) -> bytes:
    """Encode where a letter lies, for its entry in the index."""
    return pack([run_id, item_id])


def _place(data: bytes) -> tuple[RunId, WorkItemId]:
    run_id, item_id = cast("tuple[RunId, WorkItemId]", unpack(data))
    return run_id, item_id
