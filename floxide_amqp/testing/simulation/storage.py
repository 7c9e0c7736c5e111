"""The simulated store server; processes talk to it by a `store_link`.

The server is the memory store's own code: what a batch does here is what it does there. Around it are the ways a
server and a network fail: it is away, it is slow, a reply is lost before or after the commit, a group is applied in
part, one process is cut off, and the server crashes and has lost what it had not synced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from floxide_amqp.core.ids import RunId, Slot, slot_of
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import StoreFullError
from floxide_amqp.ports.key_value import (
    Batch,
    Cell,
    CommitReply,
    Conflict,
    Entry,
    IndexRange,
    Key,
    Outcome,
    Read,
    ReadReply,
    RecordPage,
    Write,
)
from floxide_amqp.testing.simulation.clocks import MachineClock
from floxide_amqp.testing.simulation.story import Story

NAME = "simulated"

DAMAGED = b"\xc1 damaged"
"""What cannot be read as any record."""


@dataclass(kw_only=True)
class StoreWeather:
    """How the store and the way to it behave right now; shares are of the calls, 0 to 1.

    Attributes:
        latency: Longest time one way, in seconds.
        refused: Calls refused before they did anything.
        lost_replies: Commits applied, whole or up to some batch, whose reply is lost.
        slow: Calls that take `slow_seconds` at the server.
        is_away: Whether the server can be reached by nobody.
        is_full: Whether commits are refused for want of space.
    """

    latency: float = 0.002
    refused: float = 0.0
    lost_replies: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 5.0
    is_away: bool = False
    is_full: bool = False


class StoreServer(MemoryKeyValueStore):
    """The server: applies batches, one group after the other, and may lose what it has not synced.

    Args:
        clock: Its wall clock.
        story: What happens is noted there.
        name: Its name, where the store has several.

    Attributes:
        name: As given.
        applied: The writes of the batch applied last, those of `When` included only where they applied.
        on_batch: Told of every batch that was applied.
        on_tail_lost: Told that the content has gone back.
        keeps_tail: Whether what is applied from now on is not synced, and may be lost.
        incarnation: Rises with each crash of the server: what was sent before does not arrive after it.
        troubled_at: When a call last did not get through, got no reply or found no space, by the loop's clock.
    """

    def __init__(self, clock: MachineClock, story: Story, name: str = "") -> None:
        super().__init__(clock)
        self.clock = clock
        self.story = story
        self.name = f"{NAME} {name}" if name else NAME
        self.troubled_at = -math.inf
        self.weather = StoreWeather()
        self.applied: list[tuple[Write, ...]] = []
        self.on_batch: Callable[[Batch], None] = _ignore
        self.on_tail_lost: Callable[[], None] = _nothing
        self.keeps_tail = False
        self.incarnation = 1
        self._tail: list[Any] = []
        self._damaged: dict[Key, bytes] = {}

    def serve_commit(self, who: str, batches: Sequence[Batch]) -> CommitReply:
        """Apply a group now.

        Raises:
            StoreFullError: There is no space; nothing was applied.
        """
        if self.weather.is_full:
            self.story.fault("full disk", who)
            self.note_trouble()
            raise StoreFullError(store=self.name, reason="no space left")
        outcomes: list[Outcome] = []
        for batch in batches:
            self.applied = []
            undo: list[Any] = []
            outcome = self._apply_batch(batch, undo)
            if self.keeps_tail:
                self._tail += undo
            outcomes.append(outcome)
            if isinstance(outcome, Conflict):
                self.story.batch(who, batch, "conflict")
            else:
                self.story.batch(who, batch, "commit")
                self.on_batch(batch)
        return CommitReply(tuple(outcomes), self.clock.now_ms())

    def serve_read(self, reads: Sequence[Read]) -> ReadReply:
        """Read now."""
        return ReadReply(tuple([self._snapshot(read) for read in reads]), self.clock.now_ms())

    def serve_scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Scan now."""
        return self._range(index_range, None)

    def serve_records(self, slot: Slot, partition: str | None, after: bytes, limit: int) -> RecordPage:
        """List records now."""
        return self._record_page(slot, partition, after, limit)

    def listen(self, on_batch: Callable[[Batch], None], on_tail_lost: Callable[[], None]) -> None:
        """Have somebody told of every batch that was applied, and when the content has gone back."""
        self.on_batch, self.on_tail_lost = on_batch, on_tail_lost

    def note_trouble(self) -> None:
        """A call did not get through, got no reply or found no space."""
        self.troubled_at = self.clock.elapsed_ms() / 1000

    def sync(self) -> None:
        """Make sure of what was applied so far, and of what will be."""
        self.keeps_tail = False
        self._tail.clear()

    def lose_tail(self) -> int:
        """Crash, and come back as of the last sync; return how many writes were lost."""
        self.incarnation += 1
        self.repair()
        lost = len(self._tail)
        for restore, place, value in reversed(self._tail):
            restore(place, value)
        self._tail.clear()
        self.on_tail_lost()
        return lost

    def damage(self, key: Key) -> bool:
        """Make a cell unreadable, of the same version as before; return whether it is there."""
        slot = self._slots.get(slot_of(RunId(key.partition)))
        cell = None if slot is None else slot.cells.get(key)
        if slot is None or cell is None or key in self._damaged:
            return False
        self._damaged[key] = cell.value
        slot.cells[key] = Cell(cell.version, DAMAGED)
        return True

    def repair(self) -> None:
        """Put back what cells had that were damaged, but for those that somebody has written or removed since."""
        for key, value in self._damaged.items():
            slot = self._slots[slot_of(RunId(key.partition))]
            cell = slot.cells.get(key)
            if cell is not None and cell.value == DAMAGED:
                slot.cells[key] = Cell(cell.version, value)
        self._damaged.clear()

    # --- looking, for those who check

    def cells(self) -> list[tuple[Key, bytes, int]]:
        """Return every cell of every slot: key, value, version."""
        return [(key, cell.value, cell.version) for slot in self._slots.values() for key, cell in slot.cells.items()]

    def log(self, key: Key, slot: Slot) -> list[bytes]:
        """Return what is kept of a log."""
        found = self._slots.get(slot)
        log = None if found is None else found.logs.get(key)
        return [] if log is None else list(log.entries)

    def counters(self, partition: str, slot: Slot) -> dict[str, int]:
        """Return the counters of a partition by name, without those that are zero."""
        found = self._slots.get(slot)
        if found is None:
            return {}
        return {key.name: value for key, value in found.counters.items() if key.partition == partition and value}

    def counter(self, key: Key, slot: Slot) -> int:
        """Return a counter."""
        found = self._slots.get(slot)
        return 0 if found is None else found.counters.get(key, 0)

    def names_of(self, run_id: str) -> list[str]:
        """Return what is kept of a run: names of its cells, logs and counters, and of indexes with an entry of it."""
        slot = self._slots.get(slot_of(RunId(run_id)))
        kept = (
            [] if slot is None else [*slot.cells, *slot.logs, *(key for key, value in slot.counters.items() if value)]
        )
        indexes = self.index_entries("")
        return [
            *(key.name for key in kept if key.partition == run_id),
            *(name for name, entries in indexes.items() if any(run_id in f"{name}:{entry}" for entry, _ in entries)),
        ]

    def index_entries(self, *prefixes: str) -> dict[str, list[tuple[str, bytes]]]:
        """Return what is in every index whose name begins like one of these, without the empty ones."""
        found: dict[str, list[tuple[str, bytes]]] = {}
        for name in sorted(self._indexes):
            entries = self._indexes[name]
            if name.startswith(prefixes) and len(entries):
                found[name] = [(entry, value) for entry, _, value in entries.between("", None, reverse=False)]
        return found

    def _apply_writes(
        self,
        batch: Batch,
        writes: tuple[Write, ...],
        positions: dict[Key, int],
        touched: dict[Key, None],
        undo: Any,
    ) -> None:
        self.applied.append(writes)
        super()._apply_writes(batch, writes, positions, touched, undo)


def _ignore(_what: object) -> None:
    """The default of what nobody asks about."""


def _nothing() -> None:
    """The same, for what has no argument."""
