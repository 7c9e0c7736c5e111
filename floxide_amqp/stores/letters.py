"""Letters as stored: each in an index of its sender, and on a list of all that nobody has delivered yet.

The sender's index is the truth; the list only says where to look, and when. Whoever delivers a letter takes it off
both. An entry of the list whose letter is gone is forgotten by whoever meets it.

Invariant: each letter has at least one entry on the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.letters import Letter
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import Batch, Enter, Entry, IndexRange, Key, Leave, Read, Write
from floxide_amqp.stores import keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import BYTES, INT, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.session import Session

LETTER: Final = Shape("letter", 6, kind=STR, to_run=STR, from_run=STR, posted_at_ms=INT, body=BYTES, payload=BYTES)
DUE: Final = Shape("entry of a letter", 3, max_bytes=16 * 1024, from_run=STR, failures=INT, reason=STR)

GRACE_MS: Final = 5_000
"""Time that the writer of a letter has to deliver it before others do: longer than a commit takes on a busy store."""

MAX_REASON: Final = 500
"""Characters kept of why a letter could not be delivered."""

MOST_BETWEEN: Final = 100
"""Entries read to find one by its name: few lie between its neighbour and itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueLetter:
    """An entry on the list of letters that nobody has delivered yet.

    Attributes:
        entry: The entry itself.
        from_run: Whose letter it is.
        failures, reason: How often delivering it failed, and why the last time.
        damaged: Whether the entry could not be read.
    """

    entry: str
    letter_id: str
    from_run: RunId
    failures: int = 0
    reason: str = ""
    damaged: bool = False


class LetterStore:
    """Reads letters and takes those away that were delivered; they are written with what causes them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def due(self, now_ms: int | None, *, after: str = "", limit: int = 500) -> list[tuple[Entry, DueLetter]]:
        """Return entries of letters to look at by now, earliest first; all of them where no time is given."""
        before = None if now_ms is None else keys.timers_until(now_ms)
        found = await self._session.scan(IndexRange(keys.LETTERS, after=after, before=before, limit=limit))
        return [(entry, _due(entry)) for entry in found]

    async def find(self, from_run: RunId, letter_id: str) -> Letter | None:
        """Return a letter, its payload still sealed; None where there is none, since it was delivered.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        found = await self.stored(from_run, letter_id)
        return None if found is None else read_letter(from_run, found)

    async def stored(self, from_run: RunId, letter_id: str) -> Entry | None:
        """Return a letter as it lies in the store, whether it can be read or not; None where there is none."""
        just_before = letter_id[:-1] + chr(ord(letter_id[-1]) - 1)
        wanted = IndexRange(keys.letters_of(from_run), after=just_before, before=f"{letter_id}\0", limit=MOST_BETWEEN)
        found = (await self._session.read(Read(slot=slot_of(from_run), indexes=(wanted,)))).indexes[0]
        return next((each for each in found if each.entry == letter_id), None)

    async def of_run(self, run_id: RunId, *, after: str = "", limit: int = 100) -> list[Letter]:
        """Return letters that a run has written and nobody has delivered yet, in the order of their ids.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        wanted = IndexRange(keys.letters_of(run_id), after=after, limit=limit)
        found = (await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0]
        return [read_letter(run_id, entry) for entry in found]

    async def has_any(self, run_id: RunId) -> bool:
        """Whether a run has written letters that nobody has delivered yet."""
        wanted = IndexRange(keys.letters_of(run_id), limit=1)
        return bool((await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0])

    async def take_away(self, letter: Letter, due: DueLetter | None = None) -> None:
        """Forget a letter that was delivered; `due` is its entry on the list where it is not the first one."""
        first = keys.due_letter(letter.posted_at_ms + GRACE_MS, letter.letter_id)
        await self.remove(letter.from_run, letter.letter_id, *({first} if due is None else {first, due.entry}))

    async def remove(self, from_run: RunId, letter_id: str, *entries: str) -> None:
        """Forget a letter and these of its entries on the list."""
        writes = (Leave(keys.letters_of(from_run), letter_id), *(Leave(keys.LETTERS, each) for each in sorted(entries)))
        await self._session.commit(Batch(slot=slot_of(from_run), writes=writes))

    async def forget(self, entry: Entry) -> None:
        """Take an entry off the list whose letter is gone."""
        await self._session.commit(Batch(slot=entry.slot, writes=(Leave(keys.LETTERS, entry.entry),)))

    async def put_off(self, entry: Entry, due: DueLetter, again_at_ms: int, *, reason: str, failures: int) -> None:
        """Look at a letter again later."""
        again = keys.due_letter(again_at_ms, due.letter_id)
        value = entry.value if due.damaged else encode_due(due.from_run, failures, reason[:MAX_REASON])
        writes: tuple[Write, ...] = (Leave(keys.LETTERS, entry.entry), Enter(keys.LETTERS, again, value))
        await self._session.commit(Batch(slot=entry.slot, writes=writes))


def letter_writes(letter: Letter) -> tuple[Write, ...]:
    """Return what writes a letter, in the batch of its sender that causes it."""
    return (
        Enter(keys.letters_of(letter.from_run), letter.letter_id, encode_letter(letter)),
        Enter(keys.LETTERS, *due_entry(letter.from_run, letter.letter_id, letter.posted_at_ms + GRACE_MS)),
    )


def due_entry(from_run: RunId, letter_id: str, look_at_ms: int = 0) -> tuple[str, bytes]:
    """Return a letter's entry on the list of all that are not delivered, and its value."""
    return keys.due_letter(look_at_ms, letter_id), encode_due(from_run)


def first_entry(from_run: RunId, letter_id: str, value: bytes) -> tuple[str, bytes]:
    """Return the entry that a letter of a run, as it lies in the store, has on the list when it is written."""
    with suppress(CodecError):
        return due_entry(from_run, letter_id, decode_letter(letter_id, value).posted_at_ms + GRACE_MS)
    return due_entry(from_run, letter_id)


def encode_letter(letter: Letter) -> bytes:
    """Encode a letter."""
    return pack_record(
        LETTER, letter.kind, letter.to_run, letter.from_run, letter.posted_at_ms, letter.body, letter.payload
    )  # fmt: skip


def decode_letter(letter_id: str, data: bytes) -> Letter:
    """Decode the letter of an id.

    Raises:
        CodecError: The bytes are none.
    """
    v: Sequence[Any] = unpack_record(LETTER, data)
    return Letter(
        letter_id=letter_id, kind=v[0], to_run=RunId(v[1]), from_run=RunId(v[2]), posted_at_ms=v[3], body=v[4],
        payload=v[5],
    )  # fmt: skip


def encode_due(from_run: RunId, failures: int = 0, reason: str = "") -> bytes:
    """Encode whose letter an entry on the list is about, and what became of it so far."""
    return pack_record(DUE, from_run, failures, reason)


def read_letter(from_run: RunId, entry: Entry) -> Letter:
    """Return what an entry of a run's letters says.

    Raises:
        UnreadableRecordError: It cannot be read.
    """
    key = Key(keys.letters_of(from_run), entry.entry)
    return read_record(lambda data: decode_letter(entry.entry, data), entry.value, key)


def _due(entry: Entry) -> DueLetter:
    letter_id = entry.entry.partition(":")[2]
    try:
        from_run, failures, reason = unpack_record(DUE, entry.value)[:3]
    except CodecError as error:
        return DueLetter(entry=entry.entry, letter_id=letter_id, from_run=RunId(""), reason=str(error), damaged=True)
    return DueLetter(
        entry=entry.entry, letter_id=letter_id, from_run=RunId(from_run), failures=failures, reason=reason
    )  # fmt: skip
