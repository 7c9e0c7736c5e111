"""Which shard a slot belongs to: rendezvous hashing.

Each shard draws a number for each slot from its name, and the highest has the slot. So every process comes to the same
answer without asking anybody; a shard that is added takes its slots from all others evenly, and nothing else moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from floxide_amqp.core.ids import SLOT_COUNT, SYSTEM_SLOT, Slot


def draw(shard: str, slot: Slot) -> int:
    """Return the number that a shard draws for a slot: 64 bits."""
    digest = hashlib.blake2b(f"{shard}\x1f{slot}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def shard_of(shards: Iterable[str], slot: Slot) -> str:
    """Return the shard that a slot belongs to, whatever the order in which they are named."""
    return max(shards, key=lambda shard: (draw(shard, slot), shard))


def placement(shards: Iterable[str]) -> dict[Slot, str]:
    """Return the shard of every slot of runs, and of the system's slot."""
    names = tuple(shards)
    return {Slot(slot): shard_of(names, Slot(slot)) for slot in (SYSTEM_SLOT, *range(SLOT_COUNT))}
