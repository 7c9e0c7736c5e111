"""Who a store is: a random id written when it is first used, so that messages about another store are noticed.

Where a store has several servers, each has the id, and knows which of them it is: a server under another's name would
look for runs where they are not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.exceptions import ConfigurationError, StoreError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import ABSENT, Batch, Cell, Check, Key, KeyValueStore, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.places import PLACE, LeftPlace, MovingPlace, ShardPlace, decode_place, encode_place, in_words
from floxide_amqp.stores.session import Session

IDENTITY: Final = Key(keys.SYSTEM, "identity")
"""Where a server keeps the id of its store."""

OTHERS_SECONDS: Final = 5.0
"""Longest wait for the other servers of a store once one has answered: one that is down is not waited for."""


async def identity_of(session: Session) -> str:
    """Return the store's id, 32 hexadecimal characters; the first to ask makes it.

    Raises:
        ConfigurationError: A server belongs to another store, or has another shard's name; or the store is being
            resharded.
        StoreError: The store could not be read or written; of several servers the first by name, which is asked first
            when none has an id, or all.
    """
    parts = {part.shard: part for part in session.parts}
    found = await _ask(parts)
    for shard, (known, place) in found.items():
        _check_place(shard, known, place, tuple(parts))
    ids = {shard: cell.value.decode() for shard, (cell, _) in found.items() if cell.version != ABSENT}
    _check_one_store(ids)
    identity = next(iter(ids.values())) if ids else await _make(next(iter(parts.values())), tuple(parts))
    for shard in found:
        if shard not in ids:
            await _write(parts[shard], identity, tuple(parts))
    return identity


class Membership:
    """Makes sure of each server of a store, whenever it is opened, that it is the one it is named as.

    `identity_of` does so for the servers that answer when a process starts. One that is opened later is asked here,
    before it is used.

    Args:
        shards: The names of all shards.
        clock: This process's clock.
    """

    def __init__(self, shards: Sequence[str], clock: Clock) -> None:
        self._shards = shards
        self._clock = clock
        self._members: dict[str, Session] = {}
        self._ids: dict[str, str] = {}

    async def admit(self, shard: str, store: KeyValueStore) -> None:
        """Make sure of a server; a new one is told who it is, where another one of the store knows that.

        Raises:
            ConfigurationError: It belongs to another store, or has another shard's name; or the store is being
                resharded.
            StoreError: It could not be asked.
        """
        part = Session(store, self._clock, patience_seconds=0.0, shard=shard)
        identity, place = await _read(part)
        _check_place(shard, identity, place, self._shards)
        if not self._ids:
            await self._learn()
        if identity.version != ABSENT:
            ids = {**self._ids, shard: identity.value.decode()}
            _check_one_store(ids)
            self._ids = ids
        elif self._ids:
            await _write(part, next(iter(self._ids.values())), self._shards)
        self._members[shard] = part

    async def _learn(self) -> None:
        """Ask the servers that were new when they were opened for the id that they have by now."""
        for shard, member in tuple(self._members.items()):
            try:
                identity, _ = await _read(member)
            except StoreError:
                continue
            if identity.version != ABSENT:
                self._ids = {**self._ids, shard: identity.value.decode()}
                return


async def _ask(parts: dict[str, Session]) -> dict[str, tuple[Cell, Cell]]:
    """Return what each server says of itself; those that do not answer are left out, unless none does."""
    asked = {shard: asyncio.ensure_future(_read(part)) for shard, part in parts.items()}
    await asyncio.wait(asked.values(), return_when=asyncio.FIRST_COMPLETED)
    if len(parts) > 1:
        await asyncio.wait(asked.values(), timeout=OTHERS_SECONDS)
    for each in asked.values():
        if not each.done():
            each.cancel()
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    found = {
        shard: answer for shard, answer in zip(asked, answers, strict=True) if not isinstance(answer, BaseException)
    }
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in errors:
        if not found or not isinstance(error, StoreError | asyncio.CancelledError):
            raise error
    return found


async def _read(part: Session) -> tuple[Cell, Cell]:
    cells = (await part.read(Read(slot=SYSTEM_SLOT, cells=(IDENTITY, PLACE)))).cells
    return cells[0], cells[1]


async def _make(first: Session, shards: Sequence[str]) -> str:
    """Make the id on the first server by name, so that of two who make one at once both get the same."""
    await _write(first, secrets.token_hex(16), shards)
    return (await _read(first))[0].value.decode()


async def _write(part: Session, identity: str, shards: Sequence[str]) -> None:
    """Let a server know as which shard it belongs to which store; what it knows already stays.

    The shard comes first: a server that knows its store and no shard is a store of its own.
    """
    known = {IDENTITY: identity.encode()}
    if part.shard:
        known = {PLACE: encode_place(_place_of(part.shard, shards)), **known}
    for key, value in known.items():
        await part.commit(Batch(slot=SYSTEM_SLOT, checks=(Check(key, ABSENT),), writes=(Put(key, value),)))


def _check_one_store(ids: Mapping[str, str]) -> None:
    """Refuse servers of several stores, by the ids that they have."""
    if len(set(ids.values())) > 1:
        places = ", ".join(f"{shard!r} has {identity[:8]}…" for shard, identity in ids.items())
        raise ConfigurationError(
            f"These servers do not belong to one store: {places}. Name the servers of one store, or begin with empty "
            "ones."
        )


def _place_of(shard: str, shards: Sequence[str]) -> ShardPlace:
    return ShardPlace(shard, tuple(sorted(shards)))


def _check_place(shard: str, identity: Cell, place: Cell, shards: Sequence[str]) -> None:
    """Refuse a server that is another shard than it is taken for, one of other shards, or of a store that is moving."""
    known = decode_place(place)
    match known:
        case None if shard and identity.version != ABSENT:
            raise ConfigurationError(
                f"This server is a store of its own, and it was named as shard {shard!r} of "
                f"{', '.join(sorted(shards))}. Runs would be looked for where they are not: name it alone as before, "
                "or spread it over several servers with `floxide store reshard`."
            )
        case MovingPlace():
            raise ConfigurationError(
                f"The runs of this store are being moved from {in_words(known.sources)} to {in_words(known.targets)}, "
                "and nobody can use it before that is done: run `floxide store reshard` again to finish."
            )
        case LeftPlace():
            raise ConfigurationError(
                f"`floxide store reshard` has emptied this server: its runs are on {in_words(known.shards)} of their "
                "store. Name those; to begin a new store on this server, remove what is left on it."
            )
        case ShardPlace() if not shard or known != _place_of(shard, shards):
            given = f"shard {shard!r} of {', '.join(sorted(shards))}" if shard else "a store of its own"
            raise ConfigurationError(
                f"This server is shard {known.shard!r} of {', '.join(known.shards)}, and it was named as {given}. Runs "
                "would be looked for where they are not: name all the shards as before, or move the runs with "
                "`floxide store reshard`."
            )
        case _:
            return
