"""Who a store is: a random id written when it is first used, so that messages about another store are noticed."""

from __future__ import annotations

import secrets

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.ports.key_value import ABSENT, Batch, Check, Key, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import Session

_IDENTITY = Key(keys.SYSTEM, "identity")


async def identity_of(session: Session) -> str:
    """Return the store's id, 32 hexadecimal characters; the first to ask makes it.

    Raises:
        StoreError: The store could not be read or written.
    """
    read = Read(slot=SYSTEM_SLOT, cells=(_IDENTITY,))
    cell = (await session.read(read)).cells[0]
    if cell.version == ABSENT:
        made = secrets.token_hex(16).encode()
        await session.commit(
            Batch(slot=SYSTEM_SLOT, checks=(Check(_IDENTITY, ABSENT),), writes=(Put(_IDENTITY, made),))
        )
        cell = (await session.read(read)).cells[0]
    return cell.value.decode()
