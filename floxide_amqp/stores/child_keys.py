"""Where a run keeps what it knows of the runs that it has started."""

from __future__ import annotations

from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import Key
from floxide_amqp.stores.keys import CHILDREN, arrivals

CHILD_PREFIX = "k:"
"""What the names of cells begin with in which a run keeps what it knows of its children."""


def child(run_id: RunId, child_id: RunId) -> Key:
    """The cell of what a run knows of a child."""
    return Key(run_id, f"{CHILD_PREFIX}{child_id}")


def children(run_id: RunId) -> str:
    """The index of a run's children."""
    return arrivals(run_id, CHILDREN)


def child_entry(epoch: int, started_at_ms: int, child_id: RunId) -> str:
    """A child's entry: those come first that were started in an earlier epoch of the parent, and earlier within it."""
    return f"{epoch:012d}:{started_at_ms:014d}:{child_id}"


def children_until(epoch: int) -> str:
    """An entry just after every child started up to an epoch of the parent."""
    return f"{epoch + 1:012d}"


def child_of(entry: str) -> RunId:
    """The child an entry is about."""
    return RunId(entry.split(":", 2)[2])
