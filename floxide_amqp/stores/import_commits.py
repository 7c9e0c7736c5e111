"""The commits of an import: everything is written under a mark, and one commit at the end makes it a run.

Until then the id is taken by a tombstone, so nobody can start a run under it, and by a mark that every commit checks
and raises, so of two who import it at once one stops. An import that died is cleared by the next one of the same id.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.ids import slot_of
from floxide_amqp.core.records import RunHeader, Tombstone
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import RunImportError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Batch,
    Check,
    Clear,
    Committed,
    Delete,
    Precondition,
    Put,
    Read,
    Write,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.own_entries import own_entries
from floxide_amqp.stores.session import Session

MOST_WRITES: Final = 500
"""Writes in one commit, about."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes that one commit writes, about, unless one record has more."""


class ImportCommits:
    """Writes the records of one run, many with each commit.

    Args:
        session: The store.
        header: The run's.
        status: How it ended, or that it is paused.
    """

    def __init__(self, session: Session, header: RunHeader, status: RunStatus) -> None:
        self._session = session
        self._header = header
        self._status = status
        self._run_id = header.run_id
        self._slot = slot_of(header.run_id)
        self._mark = keys.imported(header.run_id)
        self._version = ABSENT
        self._tombstone = keys.tombstone(header.run_id)
        self._tombstone_version = ABSENT
        self._writes: list[Write] = []
        self._bytes = 0

    async def begin(self) -> None:
        """Take the id, and clear what an import that died has left.

        Raises:
            RunImportError: It is taken.
        """
        cells = (keys.header(self._run_id), keys.state(self._run_id), self._tombstone, self._mark)
        header, state, tombstone, mark = (await self._session.read(Read(slot=self._slot, cells=cells))).cells
        if header.version or state.version:
            raise self._refused("this store has a run of this id", "Delete that one first (`floxide delete`).")
        if tombstone.version and not mark.version:
            raise self._refused(
                "a run of this id was deleted here not long ago",
                "Its id is free once Retention(tombstone=…) is over, a week by default.",
            )
        self._version, self._tombstone_version = mark.version, tombstone.version
        now = self._session.now_ms()
        taken = Tombstone(
            run_id=self._run_id, workflow=self._header.workflow, version=self._header.version,
            input_digest=self._header.input_digest, status=self._status, ended_at_ms=now, deleted_at_ms=now,
        )  # fmt: skip
        await self._commit((Put(self._tombstone, codec.encode_tombstone(taken)),), self._nothing_there())
        self._tombstone_version += 1
        if mark.version:
            await self._clear()

    async def add(self, *writes: Write, size: int = 0) -> None:
        """Write something with the next full commit; `size` is how many bytes it has, about."""
        self._writes += writes
        self._bytes += size
        while len(self._writes) >= MOST_WRITES or self._bytes >= MOST_BYTES:
            some, self._writes, self._bytes = self._writes[:MOST_WRITES], self._writes[MOST_WRITES:], 0
            await self._commit(tuple(some))

    async def flush(self) -> None:
        """Write what was added."""
        writes, self._writes, self._bytes = self._writes, [], 0
        if writes:
            await self._commit(tuple(writes))

    async def conclude(self, writes: tuple[Write, ...]) -> None:
        """Write what was added, and then, in one commit, what makes it a run; take mark and tombstone away."""
        await self.flush()
        checks = (Check(self._mark, self._version), *self._nothing_there())
        everything = (*writes, Delete(self._tombstone), Delete(self._mark))
        outcome = await self._session.commit(Batch(slot=self._slot, checks=checks, writes=everything))
        if not isinstance(outcome, Committed) and not await self._is_there():
            raise self._overtaken()

    async def _is_there(self) -> bool:
        """Whether the last commit stands: if its reply is lost, it is repeated and conflicts with itself."""
        cells = (keys.header(self._run_id), self._mark)
        header, mark = (await self._session.read(Read(slot=self._slot, cells=cells))).cells
        return header.version > 0 and mark.version == 0 and codec.decode_header(header.value) == self._header

    def _nothing_there(self) -> tuple[Precondition, ...]:
        return (
            Check(keys.header(self._run_id), ABSENT),
            Check(keys.state(self._run_id), ABSENT),
            Check(self._tombstone, self._tombstone_version),
        )

    async def _clear(self) -> None:
        """Remove what is there under the mark."""
        async for leaves in own_entries(self._session, self._run_id):
            await self._commit(leaves)
        clear = Clear(self._run_id, MOST_WRITES, (self._mark.name, self._tombstone.name))
        while True:
            checks = (Check(self._mark, self._version),)
            outcome = await self._session.commit(Batch(slot=self._slot, checks=checks, writes=(clear,)))
            if not isinstance(outcome, Committed):
                raise self._overtaken()
            if outcome.cleared < MOST_WRITES:
                return

    async def _commit(self, writes: tuple[Write, ...], checks: tuple[Precondition, ...] = ()) -> None:
        """Write something under the mark, which tells whether it was, should the reply be lost."""
        token = self._session.new_token()
        batch = Batch(
            slot=self._slot, checks=(Check(self._mark, self._version), *checks),
            writes=(*writes, Put(self._mark, token)), token=token, witness=self._mark,
        )  # fmt: skip
        if not isinstance(await self._session.commit(batch), Committed):
            raise self._overtaken()
        self._version += 1

    def _overtaken(self) -> RunImportError:
        reason = "somebody else imports, starts or deletes a run of this id"
        return self._refused(reason, "See what is there (`floxide status`), or repeat.")

    def _refused(self, reason: str, cure: str) -> RunImportError:
        return RunImportError(run_id=self._run_id, reason=reason, cure=cure)
