"""A store that spreads its slots over several servers, each a store of its own.

Whoever talks to such a store may ask for its shards, to group calls by server and to let one server's trouble be that
server's alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Protocol, runtime_checkable

from floxide_amqp.core.ids import Slot
from floxide_amqp.ports.key_value import Entry, IndexRange, KeyValueStore


@runtime_checkable
class ShardedStore(Protocol):
    """What a key-value store is besides, where it has several servers."""

    @property
    def shards(self) -> Mapping[str, KeyValueStore]:
        """The stores by their names, which stay the same wherever a server moves; at least one.

        Each holds the slots that are its own, and a system slot of its own.
        """
        ...

    def shard_of(self, slot: Slot) -> str:
        """Return the name of the shard that holds a slot: the same in every process."""
        ...


def merge_pages(pages: Iterable[Sequence[Entry]], asked: IndexRange) -> list[Entry]:
    """Return what the shards found of a range as one page, in the order asked for."""
    merged = heapq.merge(*pages, key=attrgetter("entry", "slot"), reverse=asked.reverse)
    return list(islice(merged, max(asked.limit, 0)))
