"""What a server says of its place in a store: which shard it is, that its runs are being moved, or that it has left."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

from floxide_amqp.ports.key_value import ABSENT, Cell, Key
from floxide_amqp.stores import keys

PLACE: Final = Key(keys.SYSTEM, "shard")
"""Where a server keeps its place; a store of one server without a name has none."""

ALONE: Final = ""
"""The name of the one server of a store that has no shards."""


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A shard, and all shards of its store, in the order of their names."""

    shard: str
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingPlace:
    """A server whose store is being resharded.

    Attributes:
        store: The store's id.
        sources, targets: The shards it had, and those it is to have, in the order of their names.
        was, becomes: The server's own name among them; None where it is not one of them.
        since_ms: When it began, store time.
        by: Tells the process that does it from others.
    """

    store: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    was: str | None
    becomes: str | None
    since_ms: int
    by: str


@dataclass(frozen=True, slots=True)
class LeftPlace:
    """A server that a store has left, and the shards that the store has since."""

    shards: tuple[str, ...]


Place: TypeAlias = ShardPlace | MovingPlace | LeftPlace


def encode_place(place: Place) -> bytes:
    """Encode a place: a shard's as lines of text, any other after an empty line, for no shard has an empty name."""
    match place:
        case ShardPlace(shard, shards):
            return "\n".join((shard, *shards)).encode()
        case LeftPlace(shards):
            fields: dict[str, object] = {"left": shards}
        case MovingPlace():
            fields = asdict(place)
    return f"\n{json.dumps(fields)}".encode()


def decode_place(cell: Cell) -> Place | None:
    """Decode what a server says; None where it says nothing. What cannot be read is a shard that nobody has named."""
    if cell.version == ABSENT:
        return None
    text = cell.value.decode(errors="replace")
    if not text.startswith("\n"):
        shard, *shards = text.split("\n")
        return ShardPlace(shard, tuple(shards))
    try:
        fields: dict[str, Any] = json.loads(text)
        if "left" in fields:
            return LeftPlace(tuple(fields["left"]))
        fields |= {"sources": tuple(fields["sources"]), "targets": tuple(fields["targets"])}
        return MovingPlace(**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return ShardPlace(text, ())


def in_words(shards: tuple[str, ...]) -> str:
    """Return the shards of a store, for people."""
    return "one server without a name" if shards == (ALONE,) else f"the shards {', '.join(shards)}"
