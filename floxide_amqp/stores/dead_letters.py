"""Dead letters: messages that the broker gave up on while their item still waits for them.

An item has one letter at most. It lies in the partition of its run, so that it changes together with the item; the
index spans all runs, oldest letters first.
"""

from __future__ import annotations

from dataclasses import dataclass

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.message_records import DeadLetter
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import ABSENT, Batch, Check, Delete, Entry, IndexRange, Key, Leave, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import BOOL, BYTES, INT, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.session import Session

LETTER = Shape(
    "dead letter", 13, max_bytes=256 * 1024, letter_id=STR, run_id=STR, item_id=STR, node=STR, queue=STR, reason=STR,
    count=INT, turn=INT, first_at_ms=INT, last_at_ms=INT, due_ms=INT, is_kept=BOOL, body=BYTES,
)  # fmt: skip
PLACE = Shape("place of a dead letter", 2, max_bytes=4 * 1024, run_id=STR, item_id=STR)

DAMAGED = -1
"""The turn of a letter that cannot be read."""


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
        """Return the letter of an item, or None where there is none.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        key = keys.dead_letter(run_id, item_id)
        (cell,) = (await self._session.read(Read(slot=slot_of(run_id), cells=(key,)))).cells
        return read_record(decode_letter, cell.value, key) if cell.version else None

    async def get(self, letter_id: str) -> DeadLetter | None:
        """Return a letter by its id, or None where there is none.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        wanted = IndexRange(keys.DEAD_LETTERS, after=letter_id[:-1], before=f"{letter_id}\0", limit=10)
        for entry in await self._session.scan(wanted):
            if entry.entry == letter_id:
                place = _place(entry)
                return await self.find(place.run_id, place.item_id)
        return None

    async def page(self, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Return letters, oldest first, after the id `after`; of what cannot be read, why, with the turn `DAMAGED`."""
        found: list[DeadLetter] = []
        while len(found) < limit:
            places = await self.places(after=after, limit=limit)
            for place in places:
                try:
                    letter = await self.find(place.run_id, place.item_id)
                except UnreadableRecordError as error:
                    letter = _damaged(place, error)
                if letter is not None and letter.letter_id == place.letter_id:
                    found.append(letter)
            if len(places) < limit:
                break
            after = places[-1].letter_id
        return found[:limit]

    async def places(self, *, after: str = "", limit: int = 100) -> list[LetterPlace]:
        """Return where letters lie, oldest first, after the id `after`."""
        entries = await self._session.scan(IndexRange(keys.DEAD_LETTERS, after=after, limit=limit))
        return [_place(entry) for entry in entries]

    async def remove(self, place: LetterPlace, looked_at: DeadLetter | None) -> None:
        """Forget a letter, unless somebody has written it anew since.

        Args:
            place: Where it lies.
            looked_at: The letter of the item as it was when it was found to be of no use; None where there was none.
        """
        key = keys.dead_letter(place.run_id, place.item_id)
        (cell,) = (await self._session.read(Read(slot=slot_of(place.run_id), cells=(key,)))).cells
        found = read_record(decode_letter, cell.value, key) if cell.version else None
        if found != looked_at:
            return
        is_this = found is not None and found.letter_id == place.letter_id
        await self._session.commit(
            Batch(
                slot=slot_of(place.run_id),
                checks=(Check(key, cell.version or ABSENT),),
                writes=(*((Delete(key),) if is_this else ()), Leave(keys.DEAD_LETTERS, place.letter_id)),
            )
        )


def encode_letter(letter: DeadLetter) -> bytes:
    """Encode a dead letter."""
    return pack_record(
        LETTER, letter.letter_id, letter.run_id, letter.item_id, letter.node, letter.queue, letter.reason, letter.count,
        letter.turn, letter.first_at_ms, letter.last_at_ms, letter.due_ms, letter.is_kept, letter.body,
    )  # fmt: skip


def decode_letter(data: bytes) -> DeadLetter:
    """Decode a dead letter.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(LETTER, data)
    return DeadLetter(
        letter_id=v[0], run_id=v[1], item_id=v[2], node=v[3], queue=v[4], reason=v[5], count=v[6], turn=v[7],
        first_at_ms=v[8], last_at_ms=v[9], due_ms=v[10], is_kept=v[11], body=v[12],
    )  # fmt: skip


def encode_place(run_id: RunId, item_id: WorkItemId) -> bytes:
    """Encode where a letter lies, for its entry in the index."""
    return pack_record(PLACE, run_id, item_id)


def _place(entry: Entry) -> LetterPlace:
    run_id, item_id = read_record(_decode_place, entry.value, Key(keys.DEAD_LETTERS, entry.entry))
    return LetterPlace(entry.entry, run_id, item_id)


def _decode_place(data: bytes) -> tuple[RunId, WorkItemId]:
    v = unpack_record(PLACE, data)
    return RunId(v[0]), WorkItemId(v[1])


def _damaged(place: LetterPlace, error: UnreadableRecordError) -> DeadLetter:
    """What stands for a letter that cannot be read, so that those beside it are shown all the same."""
    return DeadLetter(
        letter_id=place.letter_id, run_id=place.run_id, item_id=place.item_id, node="", queue="", reason=str(error),
        count=0, turn=DAMAGED, first_at_ms=0, last_at_ms=0, is_kept=True,
    )  # fmt: skip
