"""The key-value store in Redis or Valkey: one server, or a Redis Cluster.

Each call to `commit` or `read` is one script per tag, which the server runs as one step: so what one of them sees and
does is consistent by itself, and any number of processes take turns. What a commit that was reported survives is the
server's own setting; it is checked when the store is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.redis.address import Address, address_of
from floxide_amqp.drivers.redis.calls import Call, Reply, is_said
from floxide_amqp.drivers.redis.group import Group
from floxide_amqp.drivers.redis.heads import open_heads
from floxide_amqp.drivers.redis.layout import Layout
from floxide_amqp.drivers.redis.links import ReplyLostError
from floxide_amqp.drivers.redis.listing import page_asked, page_of
from floxide_amqp.drivers.redis.lives import Lives
from floxide_amqp.drivers.redis.reading import Reading, entries_of, scan_asked
from floxide_amqp.drivers.redis.scanning import Page, merged
from floxide_amqp.drivers.redis.scripts import COMMIT, LIST, READ, Script
from floxide_amqp.drivers.redis.servers import Servers, raised, servers_of
from floxide_amqp.drivers.redis.settings_check import durability_of
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    StoreClosedError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import (
    Batch,
    CommitReply,
    Durability,
    Entry,
    IndexRange,
    Outcome,
    Read,
    ReadReply,
    RecordPage,
    Snapshot,
)


class RedisKeyValueStore:
    """A key-value store in Redis; make one with `open`."""

    def __init__(
        self, address: Address, servers: Servers, *, layout: Layout, lives: Lives, durability: Durability
    ) -> None:
        self._address = address
        self._servers = servers
        self._layout = layout
        self._lives = lives
        self._durability = durability
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._is_closed = False

    @classmethod
    async def open(cls, url: str) -> RedisKeyValueStore:
        """Open the store at a URL, making it where there is none.

        Args:
            url: ``redis://[user:password@]host[:port][/database]``, ``rediss://…`` for TLS, or
                ``redis+cluster://host:port,host:port``. Parameters: ``prefix`` of all its keys, ``timeout`` in seconds
                for one reply, ``durability=none`` to accept a server that may lose what it reported as committed,
                and redis-py's ``ssl_…``.

        Raises:
            ConfigurationError: The URL cannot be understood.
            StoreUnavailableError: The server cannot be reached or is still loading.
            StoreError: It refuses the login, may lose data, or holds a store that this release cannot read.
        """
        address = address_of(url)
        servers = servers_of(address)
        try:
            durability = await durability_of(servers, address)
            layout, incarnation = await open_heads(servers, address)
        except BaseException:
            await servers.aclose()
            raise
        lives = Lives(incarnation, store=address.shown)
        return cls(address, servers, layout=layout, lives=lives, durability=durability)

    @property
    def durability(self) -> Durability:
        """What the server's settings promised when the store was opened."""
        return self._durability

    @property
    def is_shared(self) -> bool:
        """Other processes can open the same data."""
        return True

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches, those of one tag in order and in one step.

        On a server of its own that is all of them. On a cluster, slots are committed side by side: where only some of
        them failed, the outcome is unknown as a whole.

        Raises:
            StoreUnavailableError: The server cannot be reached or cannot serve now; nothing was applied.
            CommitOutcomeUnknownError: The reply was lost, or only a part of the cluster replied.
            StoreError: The group is faulty, or the memory or the disk is full; nothing was applied.
        """
        async with self._calling():
            parts = self._parts([batch.slot for batch in batches])
            groups = {
                tag: Group([batches[n] for n in numbers], layout=self._layout, store=self._address.shown)
                for tag, numbers in parts.items()
            }
            if len(groups) > 1 and any(group.is_large for group in groups.values()):
                await self._try(groups)
            replies = await self._run_commit(groups, b"apply")
            now_ms = 0
            outcomes: list[Outcome | None] = [None] * len(batches)
            for tag, reply in self._judged(replies).items():
                now_ms = max(now_ms, _now_ms(reply))
                for number, outcome in zip(parts[tag], groups[tag].outcomes(reply[3]), strict=True):
                    outcomes[number] = outcome
            return CommitReply(tuple([one for one in outcomes if one is not None]), now_ms)

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Return what each read asks for, those of one tag as of one moment.

        Raises:
            StoreUnavailableError: The server cannot be reached or cannot serve now.
            StoreError: The server failed.
        """
        async with self._calling():
            parts = self._parts([read.slot for read in reads])
            readings = {
                tag: Reading([reads[n] for n in numbers], layout=self._layout, store=self._address.shown)
                for tag, numbers in parts.items()
            }
            found = await self._run_read([(tag, reading.packed) for tag, reading in readings.items()])
            snapshots: list[Snapshot | None] = [None] * len(reads)
            for (tag, numbers), reply in zip(parts.items(), found, strict=True):
                for number, snapshot in zip(numbers, readings[tag].snapshots(reply[3]), strict=True):
                    snapshots[number] = snapshot
            return ReadReply(tuple([one for one in snapshots if one is not None]), max(map(_now_ms, found)))

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Return a range of an index over all slots, in the order of the entry keys.

        Raises:
            StoreUnavailableError: The server cannot be reached or cannot serve now.
            StoreError: The server failed.
        """

        async def fetch(pages: Sequence[Page]) -> list[list[Entry]]:
            asked = [
                (page.tag, scan_asked(
                    self._layout, page.tag, index_range, limit=page.limit, beyond=page.beyond, store=self._address.shown
                ))
                for page in pages
            ]  # fmt: skip
            return [entries_of(reply[3][0][2][0]) for reply in await self._run_read(asked)]

        async with self._calling():
            if self._layout.tags == 1:
                (entries,) = await fetch([Page(0, index_range.limit, None)])
                return entries
            return await merged(index_range, self._layout.tags, fetch)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List the cells, counters and logs of a slot, in an order of Redis's own.

        To find the partitions of a slot it passes over all keys of the server that has it. The size of a log of more
        than a hundred entries is estimated from a hundred of them.

        Raises:
            StoreUnavailableError: The server cannot be reached or cannot serve now.
            StoreError: The server failed.
        """
        async with self._calling():
            asked = page_asked(self._layout, slot, partition, after, limit, store=self._address.shown)
            (reply,) = await self._run_read([(self._layout.tag_of(slot), asked)], LIST)
            return page_of(self._layout, slot, reply[3])

    async def aclose(self) -> None:
        """Wait for the calls under way, then close the connections; a second call does nothing."""
        self._is_closed = True
        await self._quiet.wait()
        await self._servers.aclose()

    @asynccontextmanager
    async def _calling(self) -> AsyncGenerator[None]:
        if self._is_closed:
            raise StoreClosedError(store=self._address.shown)
        if self._lives.lost is not None:
            raise self._lives.lost
        self._calls += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._quiet.set()

    def _parts(self, slots: Sequence[int]) -> dict[int, list[int]]:
        """Return which positions belong to which tag; an empty group asks the first tag for the time."""
        parts: dict[int, list[int]] = {}
        for number, slot in enumerate(slots):
            parts.setdefault(self._layout.tag_of(slot), []).append(number)
        return parts or {0: []}

    async def _try(self, groups: dict[int, Group]) -> None:
        """Find out beforehand whether a part of a group would be faulty, so that no other part is applied."""
        for reply in (await self._run_commit(groups, b"try")).values():
            try:
                raised(reply)
            except ReplyLostError as error:
                raise StoreUnavailableError(store=self._address.shown, reason=str(error)) from error

    async def _run_commit(self, groups: dict[int, Group], mode: bytes) -> dict[int, Reply]:
        calls = [self._call(tag, mode, group.packed) for tag, group in groups.items()]
        replies = await self._run(COMMIT, calls)
        return {
            tag: group.overflow(int(reply[2])) if is_said(reply, b"OVERFLOW") else reply
            for (tag, group), reply in zip(groups.items(), replies, strict=True)
        }

    async def _run(self, script: Script, calls: Sequence[Call]) -> list[Reply]:
        """Run a script; a server that is a replica by now is no error of the store's, but one to connect anew for."""
        replies = await self._servers.run(script, calls, self._lives)
        if any(isinstance(reply, StoreReadOnlyError) for reply in replies):
            await self._servers.drop()  # another has taken over, and the name may lead there by now
        return [
            StoreUnavailableError(store=self._address.shown, reason=reply.reason)
            if isinstance(reply, StoreReadOnlyError)
            else reply
            for reply in replies
        ]

    def _call(self, tag: int, *arguments: bytes) -> Call:
        return Call(self._layout.names[tag], self._layout.head(tag), arguments)

    def _judged(self, replies: dict[int, Reply]) -> dict[int, Reply]:
        """Return the replies of a commit, unless one is an error."""
        failures = [reply for reply in replies.values() if isinstance(reply, StoreError | ReplyLostError)]
        if not failures:
            return replies
        first = next((failure for failure in failures if isinstance(failure, ReplyLostError)), failures[0])
        if len(failures) < len(replies) or isinstance(first, ReplyLostError):
            raise CommitOutcomeUnknownError(store=self._address.shown, reason=str(first)) from first
        raise first

    async def _run_read(self, asked: Sequence[tuple[int, bytes]], script: Script = READ) -> list[Any]:
        calls = [self._call(tag, packed) for tag, packed in asked]
        replies = await self._run(script, calls)
        if any(isinstance(reply, ReplyLostError) and reply.was_closed for reply in replies):
            # A connection closed while nobody asked is noticed by asking; a read may be asked again.
            replies = await self._run(script, calls)
        try:
            return [raised(reply) for reply in replies]
        except ReplyLostError as error:
            raise StoreUnavailableError(store=self._address.shown, reason=str(error)) from error


def _now_ms(reply: Any) -> int:
    seconds, microseconds, *_ = reply
    return int(seconds) * 1_000 + int(microseconds) // 1_000
