"""Keys of limits as they are called in the store: by a digest where users' data is secret, and else as they are.

With encryption a key, which may be somebody's address, is nowhere in the store but sealed, beside its record, for
whoever lists the limits and has the encryption key.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import CodecError, StoreError
from floxide_amqp.stores.sealed import Place
from floxide_amqp.stores.sealing import Sealing

MOST_REMEMBERED: Final = 10_000
"""Keys whose texts a process remembers, to write them down when their records are made."""

KEY_OF_A_LIMIT: Final = "key of a limit"


class KeyNames:
    """What a process knows of the texts behind digests."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, str] = OrderedDict()

    def id_of(self, sealing: Sealing, name: str, text: str) -> str:
        """Return the id of a limit's key: ``name/key``, with a digest in the key's place where that is secret."""
        if not (sealing.hides and text):
            return f"{name}/{text}"
        digest = hashlib.blake2b(f"{name}/{text}".encode(), digest_size=16).hexdigest()
        limit_id = f"{name}/#{digest}"
        self._texts[limit_id] = text
        self._texts.move_to_end(limit_id)
        if len(self._texts) > MOST_REMEMBERED:
            self._texts.popitem(last=False)
        return limit_id

    def shown(self, sealing: Sealing, limit_id: str) -> bytes:
        """Return the text behind an id, sealed, to be written beside its record; empty where there is none."""
        text = self._texts.get(limit_id)
        return b"" if text is None else sealing.seal(text.encode(), _place(limit_id))


def readable_key(sealing: Sealing, limit_id: str, shown: bytes) -> str:
    """Return a key for people: its text where this process can read it, else what it is called in the store."""
    called = limit_id.partition("/")[2]
    if not shown:
        return called
    try:
        return sealing.open(shown, _place(limit_id)).decode()
    except (StoreError, CodecError):
        return called


def _place(limit_id: str) -> Place:
    return Place(RunId(f" {limit_id}"), KEY_OF_A_LIMIT, "")
