"""From which of its task queues a consumer takes next: the higher levels first, those of one level in turn.

One of some messages is for the levels below the highest that has one, each of which begins in turn: so none starves,
whatever lies in the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from floxide_amqp.core.priorities import LEVELS, level_of

LOWER_FIRST_EVERY: Final = 10
"""One message of so many is taken from a level below the highest, so that no level starves."""


class QueueTurns:
    """The order of a consumer's task queues.

    Args:
        queues: Their names.
    """

    def __init__(self, queues: Iterable[str]) -> None:
        names = tuple(dict.fromkeys(queues))
        of_levels = (deque(name for name in names if level_of(name) is level) for level in LEVELS)
        self._levels = tuple(turns for turns in of_levels if turns)
        self._lower = deque(reversed(self._levels[1:]))
        self._taken = 0

    def __iter__(self) -> Iterator[str]:
        """Go through all names."""
        for turns in self._levels:
            yield from turns

    def next(self, has_some: Callable[[str], object]) -> str | None:
        """Return the queue to take a message from; None where none has any.

        Args:
            has_some: Whether a queue has messages.
        """
        is_lower_first = bool(self._lower) and self._taken % LOWER_FIRST_EVERY == LOWER_FIRST_EVERY - 1
        levels = (*self._lower, self._levels[0]) if is_lower_first else self._levels
        for turns in levels:
            for _ in range(len(turns)):
                name = turns[0]
                turns.rotate(-1)
                if has_some(name):
                    self._taken += 1
                    if is_lower_first and turns in self._lower:
                        self._note_turn(turns)
                    return name
        return None

    def _note_turn(self, turns: deque[str]) -> None:
        """A lower level has had its turn: it comes last among them the next time."""
        self._lower.remove(turns)
        self._lower.append(turns)
