"""Moving the runs of a store to other servers, while no worker lives: from one server or several to a set of shards.

The order makes it safe to die anywhere and to begin again:

1. Nothing is written while a worker's heartbeat moves, or a run that has to move cannot be read.
2. Every server is marked as being moved, so that no worker and no client opens the store with either set of shards.
   Heartbeats are watched again: a worker may have come in between.
3. Slot by slot, runs are copied, and once all of a slot are whole at the target, removed from the source.
4. When no server holds anything of a slot that is not its own, servers that leave are emptied and say that they left.
   At last those that stay or are new say which shards they are.

While a server is marked, what lies on several servers is not contradictory: whole at the target counts.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from floxide_amqp.core.ids import SLOT_COUNT, RunId, Slot
from floxide_amqp.exceptions import ReshardingError, UnreadableRecordError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.ports.sharding import ShardedStore
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.runs import RunStore
from floxide_amqp.stores.server_places import ServerPlaces
from floxide_amqp.stores.servers import Server, servers_of
from floxide_amqp.stores.session import DEFAULT_PATIENCE_SECONDS
from floxide_amqp.stores.slot_moves import Held, SlotMove, held_in, unreadable

WATCH_SECONDS: Final = 15.0
"""How long heartbeats are watched: several beats, as before a worker counts as dead."""

AT_ONCE: Final = 100
"""Runs whose header and state are read side by side."""

SLOTS: Final = tuple(Slot(number) for number in range(SLOT_COUNT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What goes from one server to another.

    Attributes:
        source, target: The servers' names.
        runs: How many runs.
        bytes: Of their records and of what is left of deleted runs, without entries of indexes.
    """

    source: str
    target: str
    runs: int
    bytes: int


def _unheard(done: int, runs: int) -> None:
    del done, runs


async def plan(
    sources: Mapping[str, KeyValueStore],
    targets: ShardedStore,
    clock: Clock,
    *,
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
) -> Sequence[Move]:
    """Tell what `reshard` would move; nothing is written, and workers need not be stopped.

    Args:
        sources: The servers the store has, by the names of its shards; the one of a store without shards by "".
        targets: The servers it is to have; one that stays is the same object in both.
        clock: This process's clock.
        patience_seconds: How long a server that is out of reach is waited for.

    Raises:
        ReshardingError: A server is not what it was named as, or a run cannot be read.
        StoreError: A server could not be read.
    """
    resharding = _Resharding(sources, targets, clock, patience_seconds)
    await resharding.places.check()
    return await resharding.count()


async def reshard(
    sources: Mapping[str, KeyValueStore],
    targets: ShardedStore,
    clock: Clock,
    *,
    watch_seconds: float = WATCH_SECONDS,
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
    on_progress: Callable[[int, int], None] = _unheard,
) -> Sequence[Move]:
    """Move the runs of a store, or finish a move that broke off; return what was moved by this call.

    Runs keep their status: items that a dead worker held are pending afterwards. It can be repeated with the same
    arguments until it has ended; once it has, that does nothing.

    Args:
        sources: As for `plan`.
        targets: As for `plan`.
        clock: As for `plan`.
        patience_seconds: As for `plan`.
        watch_seconds: How long heartbeats are watched, twice; longer than between two beats of any worker.
        on_progress: Told how many runs have been copied, and of how many.

    Raises:
        ReshardingError: Workers live; a server is not what it was named as; a run cannot be read; or somebody else
            does it meanwhile.
        RunChangedError: A run was worked on. The store cannot be used until this is repeated and ends.
        StoreError: A server failed. As well.
    """
    resharding = _Resharding(sources, targets, clock, patience_seconds)
    return await resharding.run(watch_seconds, on_progress)


class _Resharding:
    def __init__(
        self, sources: Mapping[str, KeyValueStore], targets: ShardedStore, clock: Clock, patience_seconds: float
    ) -> None:
        self._servers = servers_of(sources, targets.shards, clock, patience_seconds)
        self._by_target = {server.becomes: server for server in self._servers if server.becomes is not None}
        self._shard_of = targets.shard_of
        self.places = ServerPlaces(self._servers)
        self._beats: dict[tuple[str, str], int] = {}

    async def run(self, watch_seconds: float, on_progress: Callable[[int, int], None]) -> Sequence[Move]:
        """Do it all."""
        await self.places.check()
        if self.places.is_done:
            return ()
        moves: Sequence[Move] = ()
        if not self.places.is_finishing:
            if not self.places.is_begun and await self._heartbeats():
                await self._watch(watch_seconds)
            moves = await self.count()
            await self.places.mark(min(server.session.now_ms() for server in self._servers))
            await self._watch(watch_seconds)
            await self._move_all(_Progress(sum(move.runs for move in moves), on_progress))
        await self.places.finish()
        return moves

    async def count(self) -> Sequence[Move]:
        """Return what has to move.

        Raises:
            ReshardingError: A run that has to cannot be read.
        """
        runs: Counter[tuple[str, str]] = Counter()
        size: Counter[tuple[str, str]] = Counter()
        for server, slot, target in self._foreign():
            held = await held_in(server.session, slot)
            whole = await _check_readable(server, target, held)
            runs[server.name, target.name] += whole
            size[server.name, target.name] += sum(each.bytes for each in held.values())
        return [
            Move(source=source, target=target, runs=runs[source, target], bytes=count)
            for (source, target), count in sorted(size.items())
            if count or runs[source, target]
        ]

    def _foreign(self) -> Sequence[tuple[Server, Slot, Server]]:
        """Return each server with each slot that is not its own, and the server whose it is."""
        homes = {slot: self._by_target[self._shard_of(slot)] for slot in SLOTS}
        return [(server, slot, homes[slot]) for server in self._servers for slot in SLOTS if homes[slot] is not server]

    async def _move_all(self, progress: _Progress) -> None:
        """Move slots until a look at all of them finds nothing; a client that was not stopped may put runs there."""
        with tempfile.TemporaryDirectory(prefix="floxide-") as folder:
            while await self._move_round(Path(folder), progress):
                pass

    async def _move_round(self, folder: Path, progress: _Progress) -> bool:
        found = False
        for server, slot, target in self._foreign():
            if not await held_in(server.session, slot):
                continue
            found = True
            one = SlotMove(
                source=server.session, target=target.session, slot=slot, store_id=self.places.store_id,
                since_ms=self.places.since_ms, folder=folder,
            )  # fmt: skip
            await one.copy(progress.one)
            await self._check_alone()
            await one.drop()
        return found

    # --- who else is there

    async def _watch(self, seconds: float) -> None:
        """Refuse while heartbeats move.

        Raises:
            ReshardingError: They do.
        """
        self._beats = await self._heartbeats()
        await asyncio.sleep(seconds)
        await self._check_alone()

    async def _check_alone(self) -> None:
        """Make sure that no heartbeat has moved since the watch began, and that nobody else has taken this over."""
        beats = await self._heartbeats()
        moved = {worker for (shard, worker), beat in beats.items() if self._beats.get((shard, worker)) != beat}
        if alive := sorted(moved):
            names = f"worker {alive[0]!r} is" if len(alive) == 1 else f"workers {', '.join(map(repr, alive))} are"
            again = " Then run `floxide store reshard` again to finish." if self.places.is_begun else ""
            raise ReshardingError(reason=f"{names} alive", cure=f"Stop all workers and clients of this store.{again}")
        await self.places.check_still_ours()

    async def _heartbeats(self) -> dict[tuple[str, str], int]:
        beats: dict[tuple[str, str], int] = {}
        for server in self._servers:
            for record in await LivenessStore(server.session).all():
                beats[server.name, record.worker_id] = record.beat
        return beats


async def _check_readable(server: Server, target: Server, held: Mapping[RunId, Held]) -> int:
    """Return how many runs a server holds of a slot, all of which can be read, or are whole at the target."""
    run_ids = [run_id for run_id, each in held.items() if each.is_run]
    store, other = RunStore(server.session), RunStore(target.session)
    for start in range(0, len(run_ids), AT_ONCE):
        some = run_ids[start : start + AT_ONCE]
        found = await asyncio.gather(*(store.find(run_id) for run_id in some), return_exceptions=True)
        for run_id, run in zip(some, found, strict=True):
            if isinstance(run, UnreadableRecordError):
                raise unreadable(run_id, str(run).rstrip(".")) from run
            if isinstance(run, BaseException):
                raise run
            if run is None and await other.find(run_id) is None:
                raise unreadable(run_id, "its state is missing")
    return len(run_ids)


class _Progress:
    def __init__(self, runs: int, on_progress: Callable[[int, int], None]) -> None:
        self._done, self._runs, self._on_progress = 0, runs, on_progress

    def one(self) -> None:
        """One more run is copied."""
        self._done += 1
        self._runs = max(self._runs, self._done)
        self._on_progress(self._done, self._runs)
