"""The key-value port: the one place where anything lasts.

A store holds five kinds of things, each addressed by a `Key` (a partition, normally a run id, and a name) except
index entries, which live in a named, ordered index:

* **cells**: bytes with a version. An absent cell has version 0; the first put makes it 1, every put adds 1, a delete
  brings it back to 0.
* **counters**: integers; absent is 0.
* **logs**: append-only sequences with absolute positions 0, 1, 2, … that survive trimming.
* **indexes**: ordered sets of (entry key, value); entry keys sort by their Unicode code points. One index spans all
  slots of the store; an entry belongs to the slot of the batch that entered it.

Invariants every driver keeps, and `floxide_amqp.testing` checks:

* A batch is atomic: its checks, all evaluated before its first write, hold and everything is written, or nothing is.
* `commit` applies batches in order, each atomic on its own, each seeing those before it.
* `When` is evaluated after all other operations of its batch, in the order written.
* One `Read` is one consistent snapshot; what a commit reported as committed is visible to every later read,
  from every process.
* Keys, index names and values are opaque: a driver never looks into them.
* Cells, counters and logs can be listed (`records`), in the driver's own order; index entries only by their index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import Slot


class Key(NamedTuple):
    """The address of a cell, a counter or a log."""

    partition: str
    name: str


ABSENT = 0
"""The version of a cell that is not there."""

PRESENT = -1
"""`Check` with this version asks only that the cell is there."""


@dataclass(frozen=True, slots=True)
class Check:
    """The batch applies only if the cell has this version (`ABSENT`, `PRESENT`, or a number >= 1)."""

    key: Key
    version: int


@dataclass(frozen=True, slots=True)
class CheckLength:
    """The batch applies only if the log's next position is `length` (0 for a log never appended to)."""

    log: Key
    length: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a cell; its version rises by one."""

    key: Key
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a cell, a counter and a log of this key, whichever exist; nothing happens where none does."""

    key: Key


@dataclass(frozen=True, slots=True)
class Add:
    """Add to a counter; any integer that fits 64 bits signed."""

    counter: Key
    amount: int


@dataclass(frozen=True, slots=True)
class Append:
    """Append entries to a log; `Committed.positions` tells where the first of them went."""

    log: Key
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Trim:
    """Forget the entries of a log before this absolute position; positions of the others do not change."""

    log: Key
    before: int


@dataclass(frozen=True, slots=True)
class Enter:
    """Put an entry into an index, or replace its value."""

    index: str
    entry: str
    value: bytes = b""


@dataclass(frozen=True, slots=True)
class Leave:
    """Take an entry out of an index; nothing happens where it is not there."""

    index: str
    entry: str


@dataclass(frozen=True, slots=True)
class When:
    """After the batch's own adds: if the counter equals `equals`, apply `then`, else `otherwise`. Both may nest."""

    counter: Key
    equals: int
    then: tuple[Write, ...]
    otherwise: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove up to `limit` records of a partition, within the batch's slot, and tell how many went.

    A record is a cell, a counter or a whole log. Which go first is the driver's choice; where fewer went than `limit`
    (`Committed.cleared`), nothing is left but what `keep` names. Index entries belong to no partition and stay. A large
    log is trimmed beforehand, page by page, since it goes in one piece.

    It is the only write of its batch, which may have checks: so a driver may do it as one statement of its own.
    """

    partition: str
    limit: int
    keep: tuple[str, ...] = ()


Write: TypeAlias = Put | Delete | Add | Append | Trim | Enter | Leave | When | Clear
Precondition: TypeAlias = Check | CheckLength


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step writes, all or nothing, within one slot.

    Attributes:
        slot: The slot of every key and entry in it.
        checks: Evaluated first, in order; the first that fails is the conflict reported.
        writes: Applied in order, `When`s after all others.
        token: Unique per attempt to commit; with `witness` it settles a commit whose reply was lost.
        witness: A cell this batch puts whose value contains `token`, if any.
    """

    slot: Slot
    checks: tuple[Precondition, ...] = ()
    writes: tuple[Write, ...] = ()
    token: bytes = b""
    witness: Key | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The batch was applied and is as durable as the driver's `durability` says.

    Attributes:
        positions: For each `Append` applied, by log: the position of its first entry.
        counters: The value after the batch of every counter it added to or tested at top level or in an applied branch.
        cleared: How many records its `Clear` removed; 0 without one.
    """

    positions: dict[Key, int] = field(default_factory=dict[Key, int])
    counters: dict[Key, int] = field(default_factory=dict[Key, int])
    cleared: int = 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing of the batch was applied, because of this check."""

    check: Precondition


Outcome: TypeAlias = Committed | Conflict


@dataclass(frozen=True, slots=True)
class CommitReply:
    """One outcome per batch, in order, and the store's clock when it replied (milliseconds since 1970, UTC)."""

    outcomes: tuple[Outcome, ...]
    now_ms: int


class Cell(NamedTuple):
    """A cell as read: version 0 and empty bytes where absent."""

    version: int
    value: bytes


class LogPage(NamedTuple):
    """Entries of a log from `first` on.

    `length` is the log's next position, so `first + len(entries) < length` means there are more. `first` is larger
    than what was asked for where the log was trimmed.
    """

    first: int
    entries: tuple[bytes, ...]
    length: int


class Entry(NamedTuple):
    """An index entry as read."""

    entry: str
    value: bytes
    slot: Slot


@dataclass(frozen=True, slots=True)
class LogRange:
    """Ask for at most `limit` entries of a log from absolute position `start` on; limit 0 asks only for its length."""

    log: Key
    start: int = 0
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Ask for at most `limit` entries of an index with `after < entry < before`, in order (or backwards)."""

    index: str
    after: str = ""
    before: str | None = None
    limit: int = 1_000
    reverse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What to read of one slot, as one consistent snapshot."""

    slot: Slot
    cells: tuple[Key, ...] = ()
    counters: tuple[Key, ...] = ()
    logs: tuple[LogRange, ...] = ()
    indexes: tuple[IndexRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a `Read` found, in the order it asked."""

    cells: tuple[Cell, ...] = ()
    counters: tuple[int, ...] = ()
    logs: tuple[LogPage, ...] = ()
    indexes: tuple[tuple[Entry, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ReadReply:
    """One snapshot per read, in order, and the store's clock (milliseconds since 1970, UTC)."""

    snapshots: tuple[Snapshot, ...]
    now_ms: int


class RecordKind(Enum):
    """What a record is."""

    CELL = "cell"
    COUNTER = "counter"
    LOG = "log"


class RecordInfo(NamedTuple):
    """A record as listed, without what it holds.

    Attributes:
        key: Where it is. A cell, a counter and a log of one key are three records.
        kind: What it is.
        size: Bytes of the cell's value, or of the entries that the log still has; 8 for a counter. A driver that would
            have to read a long log to know may estimate it from some of its entries.
        number: The cell's version, the counter's value, or the log's next position.
    """

    key: Key
    kind: RecordKind
    size: int
    number: int


class RecordPage(NamedTuple):
    """Some of the records of a slot; `after` continues behind them, and is None at the end."""

    records: tuple[RecordInfo, ...]
    after: bytes | None


class Durability(Enum):
    """What a commit that was reported survives."""

    NOTHING = "nothing"
    """Lost with the process."""
    ORDERLY_STOP = "orderly stop"
    """Survives a server that is stopped and started; one that crashes may lose the last seconds."""
    PROCESS_CRASH = "process crash"
    """Survives the death of any process, not a power loss."""
    POWER_LOSS = "power loss"
    """Synced to disk before it is reported."""
    NODE_LOSS = "node loss"
    """Replicated before it is reported."""


class KeyValueStore(Protocol):
    """A store of cells, counters, logs and indexes with atomic batches.

    Methods may be called concurrently from one event loop. Cancelling a call leaves its outcome unknown, never
    partial. Every method raises `StoreUnavailableError` (retryable) when the server cannot be reached, and
    `CommitOutcomeUnknownError` (from `commit` only) when a commit was sent but its reply was lost.
    """

    @property
    def durability(self) -> Durability:
        """What this store's commits survive."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open the same data."""
        ...

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches in one round trip, in order, each atomic on its own, each seeing those before it.

        A conflict of one batch does not disturb the others.

        Raises:
            StoreUnavailableError: Nothing was applied; safe to repeat.
            CommitOutcomeUnknownError: Each batch may or may not be applied, as a prefix of the group; resolve each
                by its witness.
            StoreError: The group is faulty (a full disk, a type clash, a `Clear` among other writes); nothing was
                applied. Where slots are on several servers, that holds of a group that is for one of them; another may
                have been applied in part, and raises `CommitOutcomeUnknownError` then.
        """
        ...

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Read in one round trip; each `Read` is one consistent snapshot. Entries of other slots are not returned."""
        ...

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Read one index over all slots, in the order of the entry keys."""
        ...

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List what a slot holds, or one partition of it: its cells, counters and logs, without their values.

        The order is the driver's own, and need not be that of keys or partitions. What is there from the call for the
        first page to the reply with the last comes at least once, and may come twice; what is written or removed
        meanwhile may come or not. Each record is as of its page, and one page need not be one moment. A counter that
        is 0 may be left out; a log of which every entry was trimmed is listed, one that never had any is not.

        It passes over the whole slot (of one partition, at least over that), for looking after a store, not for steps.

        Args:
            slot: The slot, as in `Read`.
            partition: Only the records of this partition.
            after: Where to go on: `RecordPage.after` of the page before, of the same slot and partition; opaque.
            limit: About how many to return, at least 1. A page may have fewer, even none, before the end, and a few
                more; only `after` tells the end.
        """
        ...

    async def aclose(self) -> None:
        """Release what the store holds; a second call does nothing."""
        ...
