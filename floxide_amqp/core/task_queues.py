"""Task queues of nodes that need certain workers: the one place where a queue and labels become a queue's name.

A node names a queue and may ask for labels. The two together are its *effective* task queue, ``queue/label/label``: the
name that its items keep, that messages go to, that probes go through and under which parked items lie. So whatever
moves, saves or finds an item again keeps where it belongs without knowing of labels.

Invariants: two different pairs of queue and labels have different names, because neither contains a slash; a name can
be taken apart again; with a namespace before it, it stays within the 255 bytes that AMQP allows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, cast

from floxide_amqp.core.priorities import LONGEST_LEVEL, MARK
from floxide_amqp.exceptions import ConfigurationError, DefinitionError

SEPARATOR: Final = "/"
"""Between the queue and each label; no name of a queue contains one."""

MAX_LABELS_LENGTH: Final = 48 - LONGEST_LEVEL
"""Characters of all labels of a node, with a slash before each: 100 of a namespace, 6 of ``.work.``, 100 of a queue and
its level of priority leave so many of AMQP's 255."""

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")

NO_LABELS: Final[frozenset[str]] = frozenset()
"""Of a node that any worker may run, and of a worker that was given none."""


def effective_queue(queue: str, labels: AbstractSet[str] = NO_LABELS) -> str:
    """Return the task queue of nodes that name a queue and ask for labels."""
    return SEPARATOR.join((queue, *sorted(labels)))


def queue_named(task_queue: str) -> str:
    """Return the queue that a node names, of its effective task queue, whatever its level of priority."""
    return task_queue.partition(SEPARATOR)[0].partition(MARK)[0]


def labels_needed(task_queue: str) -> frozenset[str]:
    """Return the labels that a worker must have to serve an effective task queue."""
    return frozenset(task_queue.split(SEPARATOR)[1:])


def served_queues(
    used: Iterable[str], *, queues: Collection[str], labels: AbstractSet[str] | None, only_labelled: bool
) -> tuple[str, ...]:
    """Return the effective task queues that a worker serves, sorted.

    Args:
        used: Those that its workflows' nodes have.
        queues: Queues as nodes name them; empty for all. One that no node uses is served as well.
        labels: Of the worker; None to serve whatever labels are asked for.
        only_labelled: Leave what asks for no label to other workers.
    """
    wanted = frozenset(queues)
    chosen = {name for name in used if not wanted or queue_named(name) in wanted}
    chosen |= wanted - {queue_named(name) for name in chosen}
    return tuple(sorted(name for name in chosen if _is_for(name, labels, only_labelled=only_labelled)))


def _is_for(task_queue: str, labels: AbstractSet[str] | None, *, only_labelled: bool) -> bool:
    needed = labels_needed(task_queue)
    return (bool(needed) or not only_labelled) and (labels is None or needed <= labels)


def check_labels(given: object, *, where: str) -> frozenset[str] | None:
    """Return labels as a set, or None where none were given; the error names `where`.

    Raises:
        DefinitionError: They are no set of labels, or too long together.
    """
    found = None if given is None else _checked(given, where, DefinitionError)
    length = sum(len(label) + 1 for label in found or ())
    if found is not None and length > MAX_LABELS_LENGTH:
        raise DefinitionError(
            f"{where}: its labels {', '.join(sorted(found))} are too long for the name of a queue: at most "
            f"{MAX_LABELS_LENGTH} characters, with one more for each label. Use shorter words."
        )
    return found


def check_worker_labels(given: object) -> frozenset[str] | None:
    """Return a worker's labels as a set, or None where none were given.

    Raises:
        ConfigurationError: They are no set of labels.
    """
    return None if given is None else _checked(given, "A worker", ConfigurationError)


def _checked(given: object, where: str, error: type[DefinitionError | ConfigurationError]) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, AbstractSet | tuple | list):
        raise error(f"{where}: labels={given!r} must be a set of words, such as labels={{'gpu'}}.")
    labels = cast("Collection[object]", given)
    for label in labels:
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise error(
                f"{where}: the label {label!r} must consist of letters, digits, '-', '_', '.' and ':', and begin with "
                "a letter or a digit."
            )
    return frozenset(cast("Collection[str]", labels))


def queue_in_words(task_queue: str) -> str:
    """Return an effective task queue in words, for who looks for its workers."""
    needed = labels_needed(task_queue)
    if not needed:
        return f"task queue {task_queue!r}"
    which = "label" if len(needed) == 1 else "labels"
    return f"task queue {queue_named(task_queue)!r} with {which} {', '.join(sorted(needed))}"
