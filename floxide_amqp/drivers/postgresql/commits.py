"""Committing a group: one call where it can be one, else a transaction of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from floxide_amqp.drivers.clearing import clear_of
from floxide_amqp.drivers.postgresql.connections import Connection, transaction_start
from floxide_amqp.drivers.postgresql.disjoint import DisjointProgram, NotDisjointError
from floxide_amqp.drivers.postgresql.given import BIG_INTEGERS, INTEGERS, TEXTS, parameters
from floxide_amqp.drivers.postgresql.program import Program, locks_of
from floxide_amqp.drivers.postgresql.settings import Settings
from floxide_amqp.ports.key_value import Batch, Clear, CommitReply, Committed, Outcome

_GROUP = parameters(BIG_INTEGERS, *(INTEGERS, TEXTS, TEXTS) * 4, TEXTS, BIG_INTEGERS)
_DISJOINT = parameters(BIG_INTEGERS, TEXTS, INTEGERS, *(BIG_INTEGERS,) * 4, *(INTEGERS,) * 6)


@dataclass(frozen=True, slots=True)
class _Part:
    """Batches that go in one call: a run of them without a clear, or the checks of one that clears."""

    program: Program
    slot: int = 0
    clear: Clear | None = None


class Group:
    """A group made ready for the server; it may be tried several times.

    Attributes:
        is_sent: Whether the server may have been told to commit by the last try.

    Raises:
        InvalidBatchError: A batch clears and does something else.
        UnicodeEncodeError: A key is not valid Unicode.
    """

    def __init__(self, batches: Sequence[Batch], settings: Settings) -> None:
        self.is_sent = False
        self._settings = settings
        self._space = settings.schema.encode()
        self._batches = batches
        schema = settings.quoted_schema
        self._commit_group = f"SELECT {schema}.commit_group_1({_GROUP})"
        self._commit_disjoint = f"SELECT {schema}.commit_disjoint_2({_DISJOINT})"
        self._clear_partition = f"SELECT {schema}.clear_partition_1($1::integer, $2::bytea, $3::bytea[], $4::bigint)"
        self._disjoint: DisjointProgram | None = None
        self._parts: list[_Part] = []
        try:
            self._disjoint = DisjointProgram(batches, space=self._space)
        except NotDisjointError:
            self._parts = self._apart(batches)

    async def commit(self, connection: Connection) -> CommitReply:
        """Apply the group."""
        self.is_sent = False
        if not (self._settings.has_pooler or any(part.clear for part in self._parts)):
            self.is_sent = True
            return await self._apply_all(connection)
        await connection.execute(transaction_start(self._settings))
        reply = await self._apply_all(connection)
        self.is_sent = True
        await connection.execute("COMMIT")
        return reply

    async def _apply_all(self, connection: Connection) -> CommitReply:
        if self._disjoint is not None:
            answer = await connection.fetchval(self._commit_disjoint, *self._disjoint.arguments())
            if answer is not None:
                now_ms, *numbers = answer
                return CommitReply(self._disjoint.outcomes(numbers), now_ms)
        self._parts = self._parts or self._apart(self._batches)  # a check failed, or it is of the other kind
        return await self._apply_parts(connection)

    async def _apply_parts(self, connection: Connection) -> CommitReply:
        if len(self._parts) > 1 or self._parts[0].clear is not None:
            # All at once and in order, before the first part takes some of them.
            await connection.fetch("SELECT pg_advisory_xact_lock(l) FROM unnest($1::bigint[]) AS l", self._all_locks())
        outcomes: list[Outcome] = []
        now_ms = 0
        for part in self._parts:
            found, now_ms = await self._apply(connection, part.program)
            if part.clear is not None and isinstance(found[0], Committed):
                found = (Committed(cleared=await self._clear(connection, part.slot, part.clear)),)
            outcomes += found
        return CommitReply(tuple(outcomes), now_ms)

    async def _apply(self, connection: Connection, program: Program) -> tuple[tuple[Outcome, ...], int]:
        now_ms, *answer = await connection.fetchval(self._commit_group, *program.arguments())
        return program.outcomes(answer), now_ms

    async def _clear(self, connection: Connection, slot: int, clear: Clear) -> int:
        kept = [name.encode() for name in clear.keep]
        arguments = (slot, clear.partition.encode(), kept, max(clear.limit, 0))
        return int(await connection.fetchval(self._clear_partition, *arguments))

    def _all_locks(self) -> list[int]:
        locks = {lock for part in self._parts for lock in part.program.locks}
        cleared = [(part.slot, part.clear.partition.encode()) for part in self._parts if part.clear is not None]
        return sorted(locks.union(locks_of(cleared, space=self._space)))

    def _apart(self, batches: Sequence[Batch]) -> list[_Part]:
        parts: list[_Part] = []
        together: list[Batch] = []
        for batch in batches:
            clear = clear_of(batch, store=self._settings.shown)
            if clear is None:
                together.append(batch)
                continue
            if together:
                parts.append(_Part(Program(together, space=self._space)))
                together = []
            parts.append(_Part(Program([replace(batch, writes=())], space=self._space), batch.slot, clear))
        if together or not parts:
            parts.append(_Part(Program(together, space=self._space)))
        return parts
