"""What is written of messages: their envelope, probes, and those that nobody could deliver or read."""

from __future__ import annotations

import dataclasses

from floxide_amqp.core.fast_dataclasses import dataclass, maker
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import ScopePath


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a work item message says: where to look, never what is true.

    Attributes:
        turn: The turn of the item when the message was written.
        position: How far into the context log its sender had read; None where it had not. Nobody decides by it: whoever
            takes the message reads on from where he stands.
        entry: The message's own entry in the index of messages, deleted when its chain ends.
        store: Id of the store that knows the item; empty where nobody said.
        recovered: Whether it replaces a message that was lost, so that somebody may have died running the item.
        trace: Trace context of the causing step (W3C ``traceparent``), may be empty.
    """

    run_id: RunId
    item_id: WorkItemId
    node: str
    workflow: str
    version: str
    queue: str
    turn: int
    scope: ScopePath = ()
    position: int | None = None
    entry: str = ""
    recovered: bool = False
    store: str = ""
    trace: str = ""


make_envelope = maker(Envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A numbered message that shows that a queue delivers what was put before it.

    Attributes:
        queue: The task queue it goes through.
        number: Tells a sender's probes apart, for people.
        before: The store's time when it was sent, in milliseconds, as 14 digits: as message entries begin.
        store: The store whose messages it is about.
        shard: The one of its servers whose messages it is about; empty where there is one.
    """

    queue: str
    number: int
    before: str
    store: str = ""
    shard: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)  # users get it: see `fast_dataclasses`
class Quarantined:
    """A message nobody could read: its bytes and why.

    Attributes:
        cut_from: How many bytes the message had, where `body` is only its beginning; 0 where it is all of it.
        source: The source whose queue it came from, where it is a message of somebody else's: `body` is then what
            `floxide_amqp.stores.source_messages` made of it.
    """

    quarantine_id: str
    queue: str
    reason: str
    body: bytes
    at_ms: int
    cut_from: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that the broker gave up on, of an item that still waits for it.

    Attributes:
        letter_id: Sorts by the time of the first.
        queue: The task queue that gave it up.
        reason: Why the last time, in the broker's word; empty where it did not say.
        count: How often in a row the broker gave up on this item's messages.
        turn: The item's turn that this is about; with another turn, the item has gone on.
        first_at_ms, last_at_ms: When the first and the last of them arrived, store time.
        due_ms: When the item is published again by a timer, store time; 0 if that has been done, or will not be.
        is_kept: Whether nothing happens to the item before somebody requeues or drops the letter.
        body: The last message's bytes.
    """

    letter_id: str
    run_id: RunId
    item_id: WorkItemId
    node: str
    queue: str
    reason: str
    count: int
    turn: int
    first_at_ms: int
    last_at_ms: int
    due_ms: int = 0
    is_kept: bool = False
    body: bytes = b""
