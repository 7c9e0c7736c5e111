"""What this process has seen of a store, so that it notices a store that has forgotten something.

A Redis that is started again may have lost the end of its append-only file, and one that takes over from another may
never have had it; a flushed one has lost everything. What this process still has in memory would then be of a past that
never was. Two marks in the head of each tag tell:

* the **incarnation**, made with the store: where it is missing or another, the store is not the one that was opened;
* the **sequence** of its commits together with the server's **life** (its run id): a tag notes with which sequence each
  life began, and who saw a later one in the life before knows that something is gone.

Invariant: a script is sent to a server only after its life was noted in the tag, and compared with what was seen here.
"""

from __future__ import annotations

from typing import Any

from floxide_amqp.exceptions import StoreDataLostError, StoreError


class Lives:
    """What was seen of each tag.

    Args:
        incarnation: Of the store that was opened.
        store: What errors call it.

    Attributes:
        lost: What to raise from now on, since the store has lost something; None as long as it has not.
    """

    def __init__(self, incarnation: bytes, *, store: str) -> None:
        self.incarnation = incarnation
        self.lost: StoreError | None = None
        self._store = store
        self._seen: dict[bytes, tuple[bytes, int]] = {}

    def knows(self, tag: bytes, life: bytes) -> bool:
        """Tell whether this server was the last to be asked for this tag."""
        seen = self._seen.get(tag)
        return seen is not None and seen[0] == life

    def last(self, tag: bytes) -> tuple[bytes, int]:
        """Return the life that was last asked for a tag, empty for none, and the greatest sequence it told."""
        return self._seen.get(tag, (b"", 0))

    def saw(self, tag: bytes, sequence: int, life: bytes | None = None) -> None:
        """Note a sequence, of another life than before where one is given."""
        known, greatest = self.last(tag)
        if life is None or life == known:
            self._seen[tag] = (known, max(greatest, sequence))
        else:
            self._seen[tag] = (life, sequence)

    def verdict(self, tag: bytes, said: Any) -> StoreError | None:
        """Return what a script's complaint means, and keep it; None where it is none of these."""
        if said[0] == b"WIPED":
            found = f"a store made at another time ({said[1].decode()[:8]}…)" if said[1] else "nothing"
            reason = f"where the store was that this process has opened is {found}"
        elif said[0] == b"LOST":
            _, greatest = self.last(tag)
            reason = f"its server went on with commit {said[1]}, and had reported commit {greatest} before"
        else:
            return None
        self.lost = StoreDataLostError(store=self._store, reason=reason)
        return self.lost
