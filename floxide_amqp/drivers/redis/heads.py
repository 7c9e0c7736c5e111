"""The heads of a store's tags: what makes it one store, and the same one as yesterday.

The first tag is made first, so of many who open an empty store at the same time one decides what it is called. It is
marked whole when the others are made; from then on a tag without a head has lost its data.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from floxide_amqp.drivers.redis.address import Address
from floxide_amqp.drivers.redis.calls import Call
from floxide_amqp.drivers.redis.layout import CLUSTER_TAGS, FORMAT, Layout
from floxide_amqp.drivers.redis.links import ReplyLostError
from floxide_amqp.drivers.redis.scripts import MAKE
from floxide_amqp.drivers.redis.servers import Servers, raised
from floxide_amqp.exceptions import StoreCorruptError, StoreSchemaError, StoreUnavailableError

WHOLE: Final = b"1"
"""What the first head says once all are made."""


async def open_heads(servers: Servers, address: Address) -> tuple[Layout, bytes]:
    """Return where a store's things are and its incarnation, making it where there is none.

    Raises:
        StoreSchemaError: The store is of another release, or of another kind of server.
        StoreCorruptError: A part of it is gone.
        StoreError: It cannot be read or written.
    """
    layout = Layout(address.prefix, CLUSTER_TAGS if address.is_cluster else 1)
    heads = _Heads(servers, layout, address.shown)
    found = (await heads.make([0], secrets.token_hex(16).encode()))[0]
    incarnation, _, _, whole = found
    heads.check(found)
    others = await (heads.look if whole == WHOLE else heads.make)(range(1, layout.tags), incarnation)
    if any(other[0] != incarnation for other in others):
        missing = sum(other[0] != incarnation for other in others)
        reason = f"{missing} of its {layout.tags} parts are gone, or are of another store"
        raise StoreCorruptError(store=address.shown, reason=reason)
    if whole != WHOLE:
        await heads.mark_whole(incarnation)
    return layout, incarnation


async def look_at(servers: Servers, address: Address) -> str:
    """Return a sentence's end that says what is at an address, after trying the commands a store needs there.

    Raises:
        StoreSchemaError: The store is of another release, or of another kind of server.
        StoreError: The user's rights do not reach, or the server takes no writes.
    """
    layout = Layout(address.prefix, CLUSTER_TAGS if address.is_cluster else 1)
    heads = _Heads(servers, layout, address.shown)
    (found,) = await heads.look([0], b"")
    if not found[0]:
        return "nothing yet; opening it makes a store"
    heads.check(found)
    return f"a store of format {_text(FORMAT)}, {_text(found[0])[:8]}…"


class _Heads:
    def __init__(self, servers: Servers, layout: Layout, store: str) -> None:
        self._servers = servers
        self._layout = layout
        self._store = store

    async def make(self, tags: Sequence[int], incarnation: bytes) -> list[list[bytes]]:
        return await self._ask(tags, incarnation, b"make")

    async def look(self, tags: Sequence[int], incarnation: bytes) -> list[list[bytes]]:
        return await self._ask(tags, incarnation, b"look")

    async def mark_whole(self, incarnation: bytes) -> None:
        await self._ask([0], incarnation, b"whole")

    def check(self, found: Sequence[bytes]) -> None:
        """Make sure that a head is one that this release and this kind of server can have."""
        _, format_, tags, _ = found
        if format_ != FORMAT:
            was, is_ = f"format {_text(format_)}", f"format {_text(FORMAT)}"
        elif tags != b"%d" % self._layout.tags:
            was, is_ = f"a store of {_text(tags)} parts", f"{self._layout.tags} on a server of this kind"
        else:
            return
        raise StoreSchemaError(store=self._store, found=was, expected=is_)

    async def _ask(self, tags: Sequence[int], incarnation: bytes, mode: bytes) -> list[list[bytes]]:
        layout = self._layout
        calls = [
            Call(
                layout.names[tag],
                layout.head(tag),
                (incarnation, FORMAT, layout.tags, f"{layout.head(tag)}-try", mode),
            )
            for tag in tags
        ]
        try:
            return [raised(reply) for reply in await self._servers.run(MAKE, calls, None)]
        except ReplyLostError as error:
            raise StoreUnavailableError(store=self._store, reason=str(error)) from error


def _text(found: bytes | None) -> str:
    return "none" if found is None else found.decode(errors="replace")
