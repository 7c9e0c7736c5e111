"""From which of its task queues a consumer takes next: the higher levels first, those of one level in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from floxide_amqp.core.priorities import LEVELS, level_of

LOWEST_FIRST_EVERY: Final = 10
"""One message of so many is taken from the lowest level that has one, so that no level starves."""


class QueueTurns:
    """The order of a consumer's task queues.

    Args:
        queues: Their names.
    """

    def __init__(self, queues: Iterable[str]) -> None:
        names = tuple(dict.fromkeys(queues))
        of_levels = (deque(name for name in names if level_of(name) is level) for level in LEVELS)
        self._levels = tuple(turns for turns in of_levels if turns)
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
        is_lowest_first = len(self._levels) > 1 and self._taken % LOWEST_FIRST_EVERY == LOWEST_FIRST_EVERY - 1
        for turns in reversed(self._levels) if is_lowest_first else self._levels:
            for _ in range(len(turns)):
                name = turns[0]
                turns.rotate(-1)
                if has_some(name):
                    self._taken += 1
                    return name
        return None
