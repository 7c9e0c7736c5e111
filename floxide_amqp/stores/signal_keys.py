"""Where signals to a run lie: values that nobody has taken, who waits for one, and what was accepted."""

from __future__ import annotations

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import Mail
from floxide_amqp.ports.key_value import Key
from floxide_amqp.stores.keys import MAIL, WAITS, arrivals

MAIL_PREFIX = "ml:"
"""What the names of the cells of values begin with that nobody has taken."""


def mail_of(run_id: RunId) -> str:
    """The index of values that signals brought to a run and no item has taken: by name, then the oldest first."""
    return arrivals(run_id, MAIL)


def mail_entry(mail: Mail) -> str:
    """The entry of such a value."""
    return f"{mail.name}/{mail.sent_at_ms:014d}.{mail.number:06d}:{mail.signal_id}"


def waits_of(run_id: RunId) -> str:
    """The index of a run's items that wait for signals: by name, then those that wait longest first."""
    return arrivals(run_id, WAITS)


def wait_entry(name: str, since_ms: int, item_id: WorkItemId) -> str:
    """The entry of such an item."""
    return f"{name}/{since_ms:014d}:{item_id}"


def of_signal(name: str) -> tuple[str, str]:
    """Return `after` and `before` of a signal's entries in these two indexes."""
    return f"{name}/", f"{name}{chr(ord('/') + 1)}"


def waiter_of(entry: str) -> WorkItemId:
    """The item that an entry of the index of waiting items is about."""
    return WorkItemId(entry.rpartition(":")[2])


def signal_mark(run_id: RunId, signal_id: str) -> Key:
    """What marks a signal that a run has accepted."""
    return Key(run_id, f"sm:{signal_id}")


def mail(run_id: RunId, signal_id: str) -> Key:
    """The cell that is there while nobody has taken a value that was kept."""
    return Key(run_id, f"{MAIL_PREFIX}{signal_id}")


def mailbox(run_id: RunId) -> Key:
    """The cell whose version rises with each value that is kept."""
    return Key(run_id, "mailbox")


def waiters(run_id: RunId, name: str) -> Key:
    """The cell whose version rises whenever an item begins to wait for a signal."""
    return Key(run_id, f"w:{name}")


def unread(run_id: RunId) -> Key:
    """The counter of values that are kept."""
    return Key(run_id, "unread")
