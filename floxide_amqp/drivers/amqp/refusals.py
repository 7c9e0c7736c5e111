"""Telling a queue that refuses messages from a channel that does.

A queue over its limit refuses; so does, for some seconds, one that elects a leader. But RabbitMQ (3.10, measured in a
cluster) also has channels that refuse for ever: one whose first message for a quorum queue came while its leader
had just died goes on asking the dead node. Only another channel helps, so refusals that go on for long cost the
connection; the less often, the longer they go on in spite of it.
"""

from __future__ import annotations

from typing import Final

FIRST_PATIENCE_SECONDS: Final = 2.0
"""A leader is elected in about that time."""

MAX_PATIENCE_SECONDS: Final = 60.0
"""What a queue that is full for days costs: one connection a minute."""


class Refusals:
    """Since when each task queue has refused everything."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._since: dict[str, float] = {}
        self._patience: dict[str, float] = {}

    def note_confirmed(self, queue: str) -> None:
        """Begin anew, for the queue has taken a message."""
        if self._since:
            self._since.pop(queue, None)
        if self._patience:
            self._patience.pop(queue, None)

    def note_refused(self, queue: str, now: float) -> bool:
        """Return whether the queue has refused for so long that the channel is to blame; doubles the patience then."""
        since = self._since.setdefault(queue, now)
        patience = self._patience.get(queue, FIRST_PATIENCE_SECONDS)
        if now - since < patience:
            return False
        del self._since[queue]
        self._patience[queue] = min(2 * patience, MAX_PATIENCE_SECONDS)
        return True
