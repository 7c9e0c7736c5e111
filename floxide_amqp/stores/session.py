"""One process's conversation with a store: natural batching, patience, and the store's clock.

Commits that arrive while a round trip is in flight go together in the next one; the same for reads. Nothing is added
to the latency when idle, and groups grow when busy. A group that fails as a whole is split until the faulty batch
fails alone, and a commit whose reply was lost is settled by reading its witness.

Invariant: a batch handed to `commit` is applied at most once, and `commit` returns only what it knows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from floxide_amqp.core.ids import RunId, Slot
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    StoreDataLostError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import (
    Batch,
    Committed,
    Durability,
    Entry,
    IndexRange,
    KeyValueStore,
    Outcome,
    Read,
    RecordPage,
    Snapshot,
)
from floxide_amqp.stores.figures import StoreFigures
from floxide_amqp.stores.tokens import Tokens

MAX_GROUP = 256
"""Batches or reads in one round trip: large enough to amortise a sync, small enough to bound a lock's time."""

FIRST_PAUSE_SECONDS = 0.05
"""Pause before the first repeat of a call the store could not take; doubles, with jitter."""

LONGEST_PAUSE_SECONDS = 2.0
"""Longest pause between repeats."""

_NOT_APPLIED = (StoreUnavailableError, StoreFullError)
"""What a call that changed nothing is repeated after."""

WAITED_FOR = (*_NOT_APPLIED, CommitOutcomeUnknownError)
"""What time may cure. A step whose outcome waits in hand need not run its body again."""

DEFAULT_PATIENCE_SECONDS = 60.0
"""How long an unreachable store is waited for before its error is raised."""

A = TypeVar("A")
R = TypeVar("R")


class Grouper(Generic[A, R]):
    """Sends what arrives while a round trip is in flight together in the next.

    Args:
        send: Sends a group; returns a reply, or an error, for each request.
        limit: Requests in a group at most.
        name: Of the task that sends.
    """

    def __init__(
        self, send: Callable[[list[A]], Awaitable[Sequence[R | BaseException]]], *, limit: int = MAX_GROUP,
        name: str = "floxide.store.group",
    ) -> None:  # fmt: skip
        self._send = send
        self._name = name
        self._limit = limit
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._pump: asyncio.Task[None] | None = None

    def submit(self, request: A) -> asyncio.Future[R]:
        """Send one request with the next group, and return its reply to come.

        Whoever stops waiting for that, or never does, takes nothing out of the group.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((request, future))
        if self._pump is None:
            self._pump = loop.create_task(self._run(), name=self._name)
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._send_group(group)
        finally:
            self._pump = None

    async def _send_group(self, group: list[tuple[A, asyncio.Future[R]]]) -> None:
        replies: Sequence[R | BaseException]
        try:
            replies = await self._send([request for request, _ in group])
        except asyncio.CancelledError:
            for _, future in [*group, *self._waiting]:
                future.cancel()
            self._waiting.clear()
            raise
        except Exception as error:  # noqa: BLE001 - each caller gets it; the pump serves the next group
            replies = [error] * len(group)
        for (_, future), reply in zip(group, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, BaseException):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        while self._pump is not None:
            await asyncio.wait({self._pump})


class Session:
    """One process's conversation with a store.

    Args:
        store: The driver.
        clock: This process's clock: the store's time is what the store said last and what has passed since.
        patience_seconds: How long an unreachable store is waited for; 0 or more.
        chance: Draws the jitter between repeats; by default unlike every other session's.
        token_prefix: What its commit tokens begin with: 8 bytes that no other session has; by default random ones.
        whole: The session that this one is a part of: it counts and makes tokens for both.
        shard: The name of the one server it speaks with, where the store has several.

    Attributes:
        figures: What it counts of its conversation.
        shard: As given.
        on_data_lost: Called whenever the store says that it has lost what it had reported; of a part, the whole's is.
    """

    def __init__(
        self,
        store: KeyValueStore,
        clock: Clock,
        *,
        patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
        chance: random.Random | None = None,
        token_prefix: bytes | None = None,
        whole: Session | None = None,
        shard: str = "",
    ) -> None:
        self.shard = shard
        self.on_data_lost: Callable[[StoreDataLostError], None] | None = None
        self._whole = whole or self
        self._store = store
        self._clock = clock
        self._patience = patience_seconds
        self._offset_ms: int | None = None
        self._answered_at: float | None = None
        self._failing_since: float | None = None
        self.figures: StoreFigures = StoreFigures() if whole is None else whole.figures
        self._tokens: Tokens = Tokens(token_prefix) if whole is None else whole._tokens
        self._commits: Grouper[Batch, Outcome] = Grouper(self._commit_group)
        self._reads: Grouper[Read, Snapshot] = Grouper(self._read_group)
        self._random = chance or random.Random()

    @property
    def durability(self) -> Durability:
        """What the store's commits survive."""
        return self._store.durability

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open the same store."""
        return self._store.is_shared

    @property
    def parts(self) -> Sequence[Session]:
        """The conversations this one consists of, one with each server of the store: mostly itself alone."""
        return (self,)

    def beside(self, run_id: RunId) -> Session:
        """Return the part in which a run's records are, and the system's records that stand beside them."""
        del run_id
        return self

    def now_ms(self) -> int:
        """The store's time, as well as this process knows it; before the store's first answer, this machine's."""
        return self._clock.now_ms() if self._offset_ms is None else self._clock.elapsed_ms() + self._offset_ms

    async def learn_times(self, run_ids: Iterable[RunId]) -> None:
        """Ask servers for their time that have not said it yet, before something is written about these runs.

        One that does not answer soon is not waited for: it gets this machine's time. A store of one server has said it
        before anything is begun.
        """
        del run_ids

    @property
    def has_time(self) -> bool:
        """Whether the store has said its time."""
        return self._offset_ms is not None

    def silent_seconds(self) -> float | None:
        """How long ago the store last answered; None before it did for the first time."""
        return None if self._answered_at is None else asyncio.get_running_loop().time() - self._answered_at

    def failing_seconds(self) -> float:
        """How long the store has been out of reach; 0 while it answers."""
        return 0.0 if self._failing_since is None else asyncio.get_running_loop().time() - self._failing_since

    def new_token(self) -> bytes:
        """A commit token that no other commit has: 16 bytes."""
        return self._tokens.new()

    def made(self, token: bytes) -> bool:
        """Whether a token is of this session, not of another process or of an earlier life of this one."""
        return self._tokens.made(token)

    async def commit(self, batch: Batch) -> Outcome:
        """Apply one batch with the next group.

        Raises:
            StoreUnavailableError: The store was out of reach for longer than the patience; nothing was applied.
            StoreFullError: It had no space for longer than the patience; nothing was applied.
            CommitOutcomeUnknownError: It may have been applied: its reply was lost, and the store was out of reach
                afterwards for longer than the patience.
            StoreError: The batch is faulty; nothing of it was applied.
        """
        return await self._commits.submit(batch)

    async def read(self, read: Read) -> Snapshot:
        """Read one consistent snapshot with the next group.

        Raises:
            StoreUnavailableError: The store was out of reach for longer than the patience.
        """
        return await self._reads.submit(read)

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Read one index over all slots.

        Raises:
            StoreUnavailableError: The store was out of reach for longer than the patience.
        """
        return await self._patiently("scan", 1, lambda: self._store.scan(index_range))

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List some of what a slot holds, as `KeyValueStore.records` does.

        Raises:
            StoreUnavailableError: The store was out of reach for longer than the patience.
        """
        return await self._patiently(
            "scan", 1, lambda: self._store.records(slot, partition=partition, after=after, limit=limit)
        )

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        await self._commits.drain()
        await self._reads.drain()

    async def _read_group(self, reads: list[Read]) -> Sequence[Snapshot]:
        reply = await self._patiently("read", len(reads), lambda: self._store.read(reads))
        self._offset_ms = reply.now_ms - self._clock.elapsed_ms()
        return reply.snapshots

    async def _commit_group(self, batches: list[Batch]) -> Sequence[Outcome | BaseException]:
        try:
            return await self._patiently("commit", len(batches), lambda: self._commit_once(batches))
        except CommitOutcomeUnknownError:
            return await self._settle_group(batches)
        except _NOT_APPLIED:
            raise
        except StoreError as error:
            if len(batches) == 1:
                return [error]
        outcomes: list[Outcome | BaseException] = []
        for batch in batches:
            try:
                outcomes += await self._commit_group([batch])
            except _NOT_APPLIED as error:  # of this one; those before it are applied
                outcomes.append(error)
        return outcomes

    async def _commit_once(self, batches: list[Batch]) -> Sequence[Outcome]:
        reply = await self._store.commit(batches)
        self._offset_ms = reply.now_ms - self._clock.elapsed_ms()
        return reply.outcomes

    async def _settle_group(self, batches: list[Batch]) -> Sequence[Outcome | BaseException]:
        """Find out what became of batches whose reply was lost; of those that nobody can tell of, that is said."""
        outcomes: list[Outcome | BaseException] = []
        for batch in batches:
            try:
                outcomes.append(await self._settle(batch))
            except CommitOutcomeUnknownError as error:  # of this one: its replies are lost again and again
                outcomes.append(error)
            except _NOT_APPLIED as error:  # the patience is over, for those behind it too
                unknown = CommitOutcomeUnknownError(store=error.store, reason=error.reason)
                outcomes += [unknown] * (len(batches) - len(outcomes))
                break
            except StoreError as error:
                outcomes.append(error)
        return outcomes

    async def _settle(self, batch: Batch) -> Outcome:
        """Find out what became of a batch whose reply was lost: its own token in the witness means applied."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._patience, FIRST_PAUSE_SECONDS
        while True:
            if batch.witness is not None:
                found = await self._read_group([Read(slot=batch.slot, cells=(batch.witness,))])
                if batch.token in found[0].cells[0].value:
                    return Committed()
            # Not applied, or applied and overwritten since: then its checks conflict, and the caller reads again.
            try:
                (outcome,) = await self._patiently("commit", 1, lambda: self._commit_once([batch]))
            except CommitOutcomeUnknownError:
                if loop.time() + pause > until:
                    raise
            else:
                return outcome
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _patiently(self, kind: str, size: int, call: Callable[[], Awaitable[R]]) -> R:
        """Repeat a call that the store could not take, with growing pauses, until the patience is over."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._patience, FIRST_PAUSE_SECONDS
        while True:
            began = loop.time()
            try:
                reply = await call()
            except StoreDataLostError as error:
                if self._whole.on_data_lost is not None:
                    self._whole.on_data_lost(error)
                raise
            except _NOT_APPLIED:
                self.figures.failures[kind] += 1
                if self._failing_since is None:
                    self._failing_since = loop.time()
                if loop.time() + pause > until:
                    raise
            else:
                self._answered_at, self._failing_since = loop.time(), None
                self.figures.answered(kind, size, self._answered_at - began)
                return reply
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
