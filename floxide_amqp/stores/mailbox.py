"""A run's mailbox: what a signal finds when it comes, and what values nobody has taken yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.records import Mail, RunHeader, RunState
from floxide_amqp.ports.key_value import Entry, IndexRange, Key, Read
from floxide_amqp.stores import keys, signal_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.runs import read_header
from floxide_amqp.stores.session import Session

PAGE = 200
"""Values read in one round trip; most runs have none."""

SOME_MAIL = 16
"""Values read with an admission."""

SOME_WAITERS = 16
"""Waiting items that a signal looks at: several that come at once need not choose the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalPlace:
    """What a signal finds.

    Attributes:
        epoch: The version of `state`.
        mark: The digest of the signal that has its id already; None where none has.
        waiters: Items that wait for a signal of its name, those that wait longest first; only the first few.
        waiters_version: Rises whenever an item begins to wait.
        unread: How many values nobody has taken.
    """

    header: RunHeader
    state: RunState
    epoch: int
    mark: str | None
    waiters: tuple[WorkItemId, ...]
    waiters_version: int
    unread: int


class Waiter(NamedTuple):
    """An item that waits for a signal, and its entry on the list of those that do."""

    entry: str
    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class Unread:
    """The values that nobody has taken, those of a signal together, and the version of the mailbox."""

    version: int
    mail: tuple[Mail, ...] = ()


class MailboxStore:
    """Reads mailboxes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def look(self, run_id: RunId, name: str, signal_id: str) -> SignalPlace | None:
        """Return what a signal finds as of one moment; None where there is no such run.

        Raises:
            UnreadableRecordError: The run's header or state cannot be read.
        """
        after, before = signal_keys.of_signal(name)
        cells = (
            keys.header(run_id), keys.state(run_id), signal_keys.waiters(run_id, name),
            signal_keys.signal_mark(run_id, signal_id),
        )  # fmt: skip
        wanted = IndexRange(signal_keys.waits_of(run_id), after=after, before=before, limit=SOME_WAITERS)
        snapshot = await self._session.read(
            Read(slot=slot_of(run_id), cells=cells, counters=(signal_keys.unread(run_id),), indexes=(wanted,))
        )
        header, state, waiters, mark = snapshot.cells
        if not (header.version and state.version):
            return None
        return SignalPlace(
            header=read_header(run_id, header.value),
            state=read_record(codec.decode_state, state.value, keys.state(run_id)),
            epoch=state.version,
            mark=read_record(codec.decode_signal_mark, mark.value, cells[3]) if mark.version else None,
            waiters=tuple([signal_keys.waiter_of(entry.entry) for entry in snapshot.indexes[0]]),
            waiters_version=waiters.version,
            unread=snapshot.counters[0],
        )

    async def waiters(self, run_id: RunId, name: str, *, after: str = "", limit: int = PAGE) -> list[Waiter]:
        """Return items that wait for a signal, those that wait longest first.

        Args:
            run_id: The run.
            name: The signal's.
            after: The entry of the last one seen.
            limit: How many at most.
        """
        first, before = signal_keys.of_signal(name)
        wanted = IndexRange(signal_keys.waits_of(run_id), after=after or first, before=before, limit=limit)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))
        return [Waiter(each.entry, signal_keys.waiter_of(each.entry)) for each in snapshot.indexes[0]]

    async def oldest(self, run_id: RunId, name: str) -> Mail | None:
        """Return the oldest value of a signal that nobody has taken; None where there is none.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        after, before = signal_keys.of_signal(name)
        wanted = IndexRange(signal_keys.mail_of(run_id), after=after, before=before, limit=1)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))
        return next((_mail(run_id, each) for each in snapshot.indexes[0]), None)

    @staticmethod
    def asked(run_id: RunId) -> tuple[Key, IndexRange]:
        """Return what tells what nobody has taken, for whoever reads it with something else: see `told`."""
        return signal_keys.mailbox(run_id), IndexRange(signal_keys.mail_of(run_id), limit=SOME_MAIL)

    @staticmethod
    def told(run_id: RunId, version: int, entries: Sequence[Entry]) -> Unread | None:
        """Return what nobody has taken, by what was `asked`; None where there is more of it.

        Raises:
            UnreadableRecordError: A value cannot be read.
        """
        if len(entries) == SOME_MAIL:
            return None
        return Unread(version, tuple(_mail(run_id, each) for each in entries))

    async def unread(self, run_id: RunId) -> Unread:
        """Return what nobody has taken.

        Raises:
            UnreadableRecordError: A value cannot be read.
        """
        index, after, found = signal_keys.mail_of(run_id), "", list[Mail]()
        version: int | None = None
        while True:
            wanted = IndexRange(index, after=after, limit=PAGE)
            read = Read(slot=slot_of(run_id), cells=(signal_keys.mailbox(run_id),), indexes=(wanted,))
            snapshot = await self._session.read(read)
            page = snapshot.indexes[0]
            if version is None:  # what later pages have besides, a hold is told of by its check
                version = snapshot.cells[0].version
            found += (_mail(run_id, each) for each in page)
            if len(page) < PAGE:
                return Unread(version, tuple(found))
            after = page[-1].entry


def _mail(run_id: RunId, entry: Entry) -> Mail:
    return read_record(codec.decode_mail, entry.value, Key(signal_keys.mail_of(run_id), entry.entry))
