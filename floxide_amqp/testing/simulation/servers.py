"""The servers of a simulated store that has several: each has a life of its own, and all of them are looked at as one.

Runs are spread over them as over real ones. Nothing of a run may get onto a server that is not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, Slot, slot_of
from floxide_amqp.drivers.sharded.placement import shard_of
from floxide_amqp.ports.key_value import Batch, Key, Write
from floxide_amqp.testing.simulation.storage import StoreServer
from floxide_amqp.testing.simulation.story import Story


class StoreServers:
    """All servers of a store, for those who look at what it holds.

    Args:
        servers: The servers by their names.
        story: What must not happen is noted there.

    Attributes:
        story: As given.
        applied: The writes of the batch applied last, on whichever server, as of `StoreServer`.
    """

    def __init__(self, servers: Mapping[str, StoreServer], story: Story) -> None:
        self._servers = servers
        self.story = story
        self.applied: list[tuple[Write, ...]] = []

    def name_of(self, slot: Slot) -> str:
        """Return the name of the server that has a slot."""
        return shard_of(self._servers, slot)

    def listen(self, on_batch: Callable[[Batch], None], on_tail_lost: Callable[[], None]) -> None:
        """Have somebody told of every batch that was applied, and when the content has gone back."""
        for name, server in self._servers.items():
            server.listen(self._on(name, server, on_batch), on_tail_lost)

    def _on(self, name: str, server: StoreServer, tell: Callable[[Batch], None]) -> Callable[[Batch], None]:
        def on_batch(batch: Batch) -> None:
            self.applied = server.applied
            home = self.name_of(batch.slot)
            if batch.slot != SYSTEM_SLOT and home != name:
                self.story.violation(f"slot {batch.slot} was written on {name}, and its runs are on {home}")
            tell(batch)

        return on_batch

    # --- looking, as at one

    def cells(self) -> list[tuple[Key, bytes, int]]:
        """Return every cell of every slot of every server: key, value, version."""
        return [cell for server in self._servers.values() for cell in server.cells()]

    def log(self, key: Key, slot: Slot) -> list[bytes]:
        """Return what is kept of a log."""
        return self._home(slot).log(key, slot)

    def counters(self, partition: str, slot: Slot) -> dict[str, int]:
        """Return the counters of a partition by name, without those that are zero."""
        return self._home(slot).counters(partition, slot)

    def counter(self, key: Key, slot: Slot) -> int:
        """Return a counter."""
        return self._home(slot).counter(key, slot)

    def names_of(self, run_id: str) -> list[str]:
        """Return what is kept of a run, on any server."""
        return [name for server in self._servers.values() for name in server.names_of(run_id)]

    def index_entries(self, *prefixes: str) -> dict[str, list[tuple[str, bytes]]]:
        """Return what is in every index whose name begins like one of these, without the empty ones."""
        found: dict[str, list[tuple[str, bytes]]] = {}
        for server in self._servers.values():
            for name, entries in server.index_entries(*prefixes).items():
                found.setdefault(name, []).extend(entries)
        return found

    def _home(self, slot: Slot) -> StoreServer:
        return self._servers[self.name_of(slot)]


SimulatedStore: TypeAlias = StoreServer | StoreServers
"""A store of one server, or of several."""


def home_of(servers: Mapping[str, StoreServer], run_id: str) -> StoreServer:
    """Return the server that has a run."""
    return servers[shard_of(servers, slot_of(RunId(run_id)))]


def shown(name: str) -> str:
    """Return what a server is called in the story: the one of a store without shards has no name."""
    return f"store {name}" if name else "store"


def names_drawn(draw: Callable[[int], int], count: int) -> Sequence[str]:
    """Return names for so many servers, so that the same runs lie elsewhere in another story.

    Args:
        draw: Returns a number below another one.
        count: How many; at least 1.
    """
    return tuple(f"{letter}{draw(1_000)}" for letter in "abcdefgh"[:count])
