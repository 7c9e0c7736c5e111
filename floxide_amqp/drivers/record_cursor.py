"""Where a listing of records goes on, for drivers that list them by kind and then by key."""

from __future__ import annotations

import json
from typing import cast

from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import Key, RecordKind

KINDS = tuple(RecordKind)
"""The order in which the kinds are listed."""

COUNTER_BYTES = 8
"""What `RecordInfo.size` says of a counter."""


def cursor_after(kind: RecordKind, key: Key) -> bytes:
    """Return the cursor behind a record."""
    return json.dumps([KINDS.index(kind), *key]).encode()


def place_of(cursor: bytes, *, store: str) -> tuple[int, Key | None]:
    """Return where a cursor points: the position of a kind in `KINDS`, and the key behind which to go on.

    Raises:
        InvalidBatchError: No driver of this kind made it.
    """
    if not cursor:
        return 0, None
    try:
        number, partition, name = cast("tuple[int, str, str]", json.loads(cursor))
        return range(len(KINDS))[number], Key(str(partition), str(name))
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidBatchError(store=store, reason="the listing goes on behind what is no cursor of it") from error
