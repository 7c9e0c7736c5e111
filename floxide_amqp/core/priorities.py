"""Levels of priority: each has a task queue of its own beside the normal one, and the queue's name says which.

An item keeps the name of its task queue, so whatever moves, saves or finds it again keeps its level without knowing of
levels. Quorum queues know no priorities before RabbitMQ 4, and then two classes alone; queues beside each other need
nothing of the broker.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from floxide_amqp.exceptions import DefinitionError

MARK: Final = "!"
"""Between a queue and its level; no name that a user gives a queue contains one."""

LONGEST_LEVEL: Final = 7
"""Characters that a level adds to the name of a queue on the broker, where the mark takes three."""


class Priority(Enum):
    """Who comes first where not all can: workers take nine of ten messages from the highest level that has one."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def number(self) -> int:
        """As a number: the higher comes first; 0 for `NORMAL`."""
        return _NUMBERS[self]

    @classmethod
    def numbered(cls, number: int) -> Priority:
        """Return the level of a number."""
        return cls.NORMAL if number == 0 else cls.HIGH if number > 0 else cls.LOW


LEVELS: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)
"""The highest first."""

_NUMBERS: Final = {Priority.HIGH: 1, Priority.NORMAL: 0, Priority.LOW: -1}
_BY_NAME: Final = {level.value: level for level in Priority}


TICKET_PRIORITIES: Final = {Priority.HIGH: 8, Priority.NORMAL: 5, Priority.LOW: 2}
"""Of tickets for concurrency keys, by the level of the item or of the run."""


def leveled(task_queue: str, priority: Priority) -> str:
    """Return the task queue of a level beside another one; that one itself where it is of a level, or none is asked."""
    if priority is Priority.NORMAL or MARK in task_queue:
        return task_queue
    queue, slash, labels = task_queue.partition("/")
    return f"{queue}{MARK}{priority.value}{slash}{labels}"


def level_of(task_queue: str) -> Priority:
    """Return the level of a task queue."""
    if MARK not in task_queue:
        return Priority.NORMAL
    name = task_queue.partition("/")[0].rpartition(MARK)[2]
    return _BY_NAME.get(name, Priority.NORMAL)


def is_lower(task_queue: str, other: str) -> bool:
    """Whether the level of a task queue is below that of another one."""
    return task_queue != other and level_of(task_queue).number < level_of(other).number


def check_priority(given: object, *, where: str) -> Priority | None:
    """Return a level; the error names `where`.

    Raises:
        DefinitionError: It is no level.
    """
    if given is None or isinstance(given, Priority):
        return given
    raise DefinitionError(f"{where}: priority={given!r} must be Priority.HIGH, Priority.NORMAL or Priority.LOW.")
