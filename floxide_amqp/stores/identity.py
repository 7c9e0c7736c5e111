"""Who a store is: a random id written when it is first used, so that messages about another store are noticed.

Where a store has several servers, each has the id, and knows which of them it is: a server under another's name would
look for runs where they are not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.exceptions import ConfigurationError, StoreError
from floxide_amqp.ports.key_value import ABSENT, Batch, Cell, Check, Key, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import Session

_IDENTITY: Final = Key(keys.SYSTEM, "identity")
_SHARD: Final = Key(keys.SYSTEM, "shard")

OTHERS_SECONDS: Final = 5.0
"""Longest wait for the other servers of a store once one has answered: one that is down is not waited for."""


async def identity_of(session: Session) -> str:
    """Return the store's id, 32 hexadecimal characters; the first to ask makes it.

    Raises:
        ConfigurationError: A server belongs to another store, or has another shard's name.
        StoreError: The store could not be read or written; of several servers the first by name, which is asked first
            when none has an id, or all.
    """
    parts = {part.shard: part for part in session.parts}
    found = await _ask(parts)
    for shard, (_, place) in found.items():
        _check_place(shard, place, tuple(parts))
    ids = {shard: cell.value.decode() for shard, (cell, _) in found.items() if cell.version != ABSENT}
    if len(set(ids.values())) > 1:
        places = ", ".join(f"{shard!r} has {identity[:8]}…" for shard, identity in ids.items())
        raise ConfigurationError(
            f"These servers do not belong to one store: {places}. Name the servers of one store, or begin with empty "
            "ones."
        )
    identity = next(iter(ids.values())) if ids else await _make(next(iter(parts.values())))
    for shard in found:
        if shard not in ids or (shard and found[shard][1].version == ABSENT):
            await _write(parts[shard], identity, tuple(parts))
    return identity


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
    cells = (await part.read(Read(slot=SYSTEM_SLOT, cells=(_IDENTITY, _SHARD)))).cells
    return cells[0], cells[1]


async def _make(first: Session) -> str:
    """Make the id on the first server by name, so that of two who make one at once both get the same."""
    made = secrets.token_hex(16).encode()
    await first.commit(Batch(slot=SYSTEM_SLOT, checks=(Check(_IDENTITY, ABSENT),), writes=(Put(_IDENTITY, made),)))
    return (await _read(first))[0].value.decode()


async def _write(part: Session, identity: str, shards: Sequence[str]) -> None:
    """Let a server know which store it belongs to, and as which shard; what it knows already stays."""
    place = _place_of(part.shard, shards)
    for key, value in ((_IDENTITY, identity), (_SHARD, place)):
        if value:
            await part.commit(Batch(slot=SYSTEM_SLOT, checks=(Check(key, ABSENT),), writes=(Put(key, value.encode()),)))


def _place_of(shard: str, shards: Sequence[str]) -> str:
    return "\n".join((shard, *sorted(shards))) if shard else ""


def _check_place(shard: str, place: Cell, shards: Sequence[str]) -> None:
    """Refuse a server that is another shard than it is taken for, or one of other shards."""
    known = place.value.decode(errors="replace")
    if place.version == ABSENT or known == _place_of(shard, shards):
        return
    name, *others = known.split("\n")
    given = f"shard {shard!r} of {', '.join(sorted(shards))}" if shard else "a store of its own"
    raise ConfigurationError(
        f"This server is shard {name!r} of {', '.join(others)}, and it was named as {given}. Runs would be looked for "
        "where they are not: name all the shards as before."
    )
