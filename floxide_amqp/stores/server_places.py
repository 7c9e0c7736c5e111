"""What servers say of their places while a store is moved to others: looked at, marked, and at last written anew."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.exceptions import ReshardingError
from floxide_amqp.ports.key_value import ABSENT, Batch, Cell, Check, Committed, Delete, IndexRange, Leave, Put, Read
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.identity import IDENTITY
from floxide_amqp.stores.places import (
    ALONE,
    PLACE,
    LeftPlace,
    MovingPlace,
    Place,
    ShardPlace,
    decode_place,
    encode_place,
    in_words,
)
from floxide_amqp.stores.quarantine import QuarantineStore
from floxide_amqp.stores.servers import Server, names_of
from floxide_amqp.stores.slot_moves import clear
from floxide_amqp.stores.task_queues import TaskQueueStore
from floxide_amqp.stores.versions import copy_versions

PAGE: Final = 100
"""Entries, and quarantined messages, moved at a time."""

OF_A_SERVER: Final = (keys.WORKERS, keys.QUARANTINE, keys.VERSIONS, keys.TASK_QUEUES)
"""Indexes that belong to a server, not to runs."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a server says of itself."""

    identity: str
    cell: Cell
    place: Place | None


class ServerPlaces:
    """The places of all servers.

    Args:
        servers: The servers of both sets.

    Attributes:
        store_id: The store's id, once checked.
        since_ms: When the move began, store time, once marked.
        is_begun: Whether servers are marked, or were before.
        is_finishing: Whether everything was moved, and servers say so.
        is_done: Whether all do.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._sources, self._targets = names_of(servers)
        self._said: dict[Server, _Said] = {}
        self._by = ""
        self.store_id = ""
        self.since_ms = 0
        self.is_begun = self.is_finishing = self.is_done = False

    async def check(self) -> None:
        """Look at what the servers say of themselves.

        Raises:
            ReshardingError: One of them is not what it was named as.
        """
        for server in self._servers:
            identity, place = await self._read(server)
            self._said[server] = said = _Said(identity.value.decode(errors="replace"), place, decode_place(place))
            problem = self._problem(server, said)
            if problem is None and server.was is None and said.place is None and await _has_runs(server):
                problem = "holds runs already", "Name an empty one."
            if problem is not None:
                raise ReshardingError(reason=f"server {server.name!r} {problem[0]}", cure=problem[1])
        self.is_done = all(map(self._is_final, self._servers))
        self.is_finishing = any(self._is_final(server) and not self._is_as_before(server) for server in self._servers)
        marks = [said.place for said in self._said.values() if isinstance(said.place, MovingPlace)]
        self.is_begun = bool(marks) or self.is_finishing
        self.since_ms = marks[0].since_ms if marks else 0
        ids = {said.identity for said in self._said.values() if said.identity} | {mark.store for mark in marks}
        if len(ids) > 1:
            raise ReshardingError(
                reason="the servers do not belong to one store", cure="Name the servers of one store, and empty ones."
            )
        self.store_id = next(iter(ids), "") or secrets.token_hex(16)

    async def mark(self, now_ms: int) -> None:
        """Say on every server that the store is being moved, by this process.

        Raises:
            ReshardingError: Somebody else wrote a place meanwhile; as far as it was not begun before, it is not.
        """
        self.since_ms = self.since_ms or now_ms
        self._by = secrets.token_hex(16)
        marked: list[Server] = []
        for server in self._servers:
            place = MovingPlace(
                store=self.store_id, sources=self._sources, targets=self._targets, was=server.was,
                becomes=server.becomes, since_ms=self.since_ms, by=self._by,
            )  # fmt: skip
            batch = Batch(
                slot=SYSTEM_SLOT, checks=(Check(PLACE, self._said[server].cell.version),),
                writes=(Put(PLACE, encode_place(place)),), token=self._by.encode(), witness=PLACE,
            )  # fmt: skip
            if not isinstance(await server.session.commit(batch), Committed):
                await self._unmark(marked)
                raise ReshardingError(
                    reason=f"server {server.name!r} is taken by somebody else, or is another one of them",
                    cure="Let one process do it, and name each server once.",
                )
            marked.append(server)
        self.is_begun = True

    async def check_still_ours(self) -> None:
        """Make sure that nobody else goes on with it.

        Raises:
            ReshardingError: Somebody does.
        """
        if not self._by:
            return
        for server in self._servers:
            place = decode_place((await self._read(server))[1])
            if not isinstance(place, MovingPlace) or place.by != self._by:
                raise ReshardingError(
                    reason="another `floxide store reshard` of this store has begun", cure="Leave it to that one."
                )

    async def finish(self) -> None:
        """Empty the servers that leave, and write the new places: of those that leave first.

        What each server knows of versions and task queues all others are told before, for its runs may be on any.
        """
        await self._share()
        for server in self._servers:
            if server.becomes is None and not self._is_final(server):
                await self._empty(server)
        for server in self._servers:
            if server.becomes is not None and not self._is_final(server):
                place = ShardPlace(server.becomes, self._targets)
                writes = (Put(PLACE, encode_place(place)), Put(IDENTITY, self.store_id.encode()))
                await server.session.commit(Batch(slot=SYSTEM_SLOT, writes=writes))

    # --- what a server says

    async def _read(self, server: Server) -> Sequence[Cell]:
        return (await server.session.read(Read(slot=SYSTEM_SLOT, cells=(IDENTITY, PLACE)))).cells

    def _is_final(self, server: Server) -> bool:
        place = self._said[server].place
        if server.becomes is None:
            return place == LeftPlace(self._targets)
        return place == ShardPlace(server.becomes, self._targets)

    def _is_as_before(self, server: Server) -> bool:
        return bool(server.was) and self._said[server].place == ShardPlace(server.was or ALONE, self._sources)

    def _problem(self, server: Server, said: _Said) -> tuple[str, str] | None:
        """Return what is wrong with a server and how to cure it; None where it is what it was named as."""
        place, name_as_before = said.place, "Name all servers as they were named before."
        if self._is_final(server):
            return None
        match place:
            case None if server.was == ALONE or not said.identity:
                return None
            case None:
                return "is a store of its own", "Name it without a shard name, as --store, or name an empty one."
            case MovingPlace():
                ours = (self._sources, self._targets, server.was, server.becomes)
                if (place.sources, place.targets, place.was, place.becomes) == ours:
                    return None
                own = f", and it was {place.was!r} and becomes {place.becomes!r}"
                return f"is being moved from {in_words(place.sources)} to {in_words(place.targets)}{own}", (
                    "Finish that first, with the same --store and --to."
                )
            case LeftPlace() if server.was is None:
                return None
            case LeftPlace():
                return f"was left by its store, which is on {in_words(place.shards)} now", name_as_before
            case ShardPlace() if server.was and place == ShardPlace(server.was, self._sources):
                return None
            case ShardPlace():
                return f"is shard {place.shard!r} of {', '.join(place.shards)}", name_as_before

    async def _unmark(self, marked: Sequence[Server]) -> None:
        for server in marked:
            cell = self._said[server].cell
            write = Delete(PLACE) if cell.version == ABSENT else Put(PLACE, cell.value)
            await server.session.commit(Batch(slot=SYSTEM_SLOT, writes=(write,)))

    async def _share(self) -> None:
        """Let every server that stays or is new have the descriptions and the task queues that any server has."""
        for target in self._servers:
            if target.becomes is None:
                continue
            for source in self._servers:
                if source is not target:
                    await copy_versions(source.session, target.session)
                    await TaskQueueStore(target.session).take_over(TaskQueueStore(source.session))

    # --- a server that leaves

    async def _empty(self, server: Server) -> None:
        """Move its quarantine, remove everything but its place, and let that say that it has left."""
        first = next(each for each in self._servers if each.becomes == self._targets[0])
        here, there = QuarantineStore(server.session), QuarantineStore(first.session)
        while page := await here.list(limit=PAGE):
            for listed in page:
                message = await here.find(listed.quarantine_id)
                if message is not None:
                    await there.add(message)
                await here.remove(listed.quarantine_id)
        for index in OF_A_SERVER:
            while entries := await server.session.scan(IndexRange(index, limit=PAGE)):
                leaves = tuple(Leave(index, entry.entry) for entry in entries)
                await server.session.commit(Batch(slot=SYSTEM_SLOT, writes=leaves))
        await clear(server.session, SYSTEM_SLOT, keys.SYSTEM, (PLACE.name,))
        left = encode_place(LeftPlace(self._targets))
        await server.session.commit(Batch(slot=SYSTEM_SLOT, writes=(Put(PLACE, left),)))


async def _has_runs(server: Server) -> bool:
    for index in (run_list_keys.RUNS, keys.TOMBSTONES, keys.CONDEMNED):
        if await server.session.scan(IndexRange(index, limit=1)):
            return True
    return False
