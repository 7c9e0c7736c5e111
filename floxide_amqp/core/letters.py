"""Letters: how one run causes a change that is not in its own slot, without a commit over two servers.

A letter is written in the batch that causes it, in the sender's slot; so it exists exactly if the cause stands. It is
delivered afterwards, by whoever wrote it or by the maintenance leader, with one commit in the receiver's slot, and then
taken away. Between these two commits anybody may die, so a letter is delivered once *or more often*, and what it asks
for must be such that doing it again changes nothing: see `LetterIsNew`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from floxide_amqp.core.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Something to be done in another slot.

    Attributes:
        letter_id: Tells it from all others, however often its cause is committed: see `derive_letter_id`.
        kind: What it asks for: the name of a `floxide_amqp.runtime.letters.LetterKind`.
        to_run: The run in whose slot it acts.
        from_run: The run in whose slot it lies until it has been delivered.
        body: What the kind needs to know besides, packed by it; never what users carry.
        payload: What users carry, encoded; sealed in the store where the application has codecs.
        posted_at_ms: When it was written, store time of the sender.
    """

    letter_id: str
    kind: str
    to_run: RunId
    from_run: RunId
    posted_at_ms: int
    body: bytes = b""
    payload: bytes = b""


def derive_letter_id(kind: str, from_run: RunId, *cause: str | int) -> str:
    """Return the id of the letter of a kind that follows from a cause in a run: 32 hexadecimal characters.

    Args:
        kind: The letter's kind.
        from_run: The sender.
        cause: What tells this cause from every other one in the run, such as an item and its turn.
    """
    text = "\x1f".join((kind, from_run, *map(str, cause)))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
