"""What a commit checks and changes of a run's mailbox: the values that were sent to it, and the items that wait.

Invariant: where a run has a value that nobody has taken, no item of it waits for a signal of that name. Whoever keeps
a value checks that nobody began to wait meanwhile (`WaitersAre`), and whoever begins to wait that nothing was kept
meanwhile (`MailboxIs`); whoever takes a value checks that it is still there (`MailIsThere`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.records import Mail


@dataclass(frozen=True, slots=True)
class SignalIsNew:
    """The run has accepted no signal of this id; goes with `NoteSignal`."""

    signal_id: str


@dataclass(frozen=True, slots=True)
class MailIsThere:
    """Nobody has taken a value that was kept."""

    signal_id: str


@dataclass(frozen=True, slots=True)
class MailboxIs:
    """No value was kept since this version of the mailbox; 0 where none ever was."""

    version: int


@dataclass(frozen=True, slots=True)
class WaitersAre:
    """No item began to wait for a signal since this version of the list of those that do; 0 where none ever did."""

    name: str
    version: int


SignalCondition: TypeAlias = SignalIsNew | MailIsThere | MailboxIs | WaitersAre


@dataclass(frozen=True, slots=True)
class NoteSignal:
    """Note that a signal was accepted, as long as the run is: sent again, it is not accepted a second time.

    Attributes:
        digest: Tells whether it is the same that is sent again.
    """

    signal_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class KeepMail:
    """Keep a value until an item takes it."""

    mail: Mail


@dataclass(frozen=True, slots=True)
class TakeMail:
    """Take a value that was kept; goes with `MailIsThere`."""

    mail: Mail


@dataclass(frozen=True, slots=True)
class EnterWait:
    """List an item among those that wait for a signal; the longest waiting first."""

    name: str
    since_ms: int
    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class LeaveWait:
    """Take an item off that list."""

    name: str
    since_ms: int
    item_id: WorkItemId


SignalChange: TypeAlias = NoteSignal | KeepMail | TakeMail | EnterWait | LeaveWait
