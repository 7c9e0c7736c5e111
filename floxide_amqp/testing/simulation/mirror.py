"""What the store holds of each run, kept up to date write by write, for those who check it after every commit.

It stands on the bytes that were written and on nothing the engine says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.records import InputKind, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import TimerKind
from floxide_amqp.stores import record_codec as codec

Place: TypeAlias = tuple[str, str]
"""An index and an entry of it."""

PREFIX_LENGTH = 15
"""Digits and colon before the timer in the entry of one that was set aside."""


WAITING = (WorkItemStatus.WAITING_RETRY, WorkItemStatus.PARKED, WorkItemStatus.HELD)

UNDONE_AGAIN = (WorkItemStatus.PENDING, WorkItemStatus.WAITING_RETRY)
"""Statuses of a compensation that is brought on its way by what brings on the undoing of its run."""
"""Statuses in which an item that is alive waits: one held without a wake is not alive."""


def _nobody(_item: WorkItem) -> bool:
    """The default of `MirroredRun.is_called_back`."""
    return False


@dataclass(slots=True)
class MirroredRun:
    """One run.

    Attributes:
        turns: The version of each item's cell.
        live: Items in the run's list of those that have not ended.
        messages, owners, parked: Entries that lead to an item.
        timers: Entries that wake an item, with its turn at that time.
        resumes: Entries that bring the pending items of the whole run on their way.
        undos: Entries that bring on what the run undoes next.
        ended: Items in the run's history.
        failures: Why it failed, each time it did.
        sweeps: Scopes that were closed, and of which what is left is about to be cancelled.
        is_called_back: Tells whether something outside the run will wake an item that is held.
        touched: Items that must be looked at again.
        is_touched: Whether all of them must be.
        counts: How many items are alive, and how many of these wait.
    """

    run_id: str
    status: RunStatus | None = None
    epoch: int = 0
    items: dict[str, WorkItem] = field(default_factory=dict[str, WorkItem])
    turns: dict[str, int] = field(default_factory=dict[str, int])
    live: dict[str, None] = field(default_factory=dict[str, None])
    messages: dict[Place, str] = field(default_factory=dict[Place, str])
    owners: dict[Place, str] = field(default_factory=dict[Place, str])
    parked: dict[Place, str] = field(default_factory=dict[Place, str])
    timers: dict[Place, tuple[str, int]] = field(default_factory=dict[Place, "tuple[str, int]"])
    resumes: dict[Place, None] = field(default_factory=dict[Place, None])
    undos: dict[Place, None] = field(default_factory=dict[Place, None])
    ended: dict[str, WorkItemStatus] = field(default_factory=dict[str, WorkItemStatus])
    failures: list[ErrorInfo] = field(default_factory=list[ErrorInfo])
    sweeps: set[str] = field(default_factory=set[str])

    is_called_back: Callable[[WorkItem], bool] = _nobody
    touched: dict[str, None] = field(default_factory=dict[str, None])
    is_touched: bool = False
    counts: tuple[int, int] = (0, 0)
    _kept_by: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _counted: dict[str, bool] = field(default_factory=dict[str, bool])
    _starts: Counter[str] = field(default_factory=Counter[str])
    _held: Counter[str] = field(default_factory=Counter[str])
    _woken: dict[str, dict[Place, int]] = field(default_factory=dict[str, "dict[Place, int]"])

    # --- taking over what was written

    def put(self, item_id: str, item: WorkItem, turn: int) -> None:
        """An item was written."""
        self.items[item_id], self.turns[item_id] = item, turn
        self.touched[item_id] = None
        if item.input.kind is InputKind.SWEEP:
            (self.sweeps.discard if item.status is WorkItemStatus.COMPLETED else self.sweeps.add)(item.input.opener)
        if item.kept is not None:
            self._kept_by.setdefault(item.kept, []).append(item_id)
            self.touched[item.kept] = None

    def remove(self, item_id: str) -> None:
        """An item was deleted."""
        for of_items in (self.items, self.turns, self.live):
            of_items.pop(item_id, None)
        self.touched[item_id] = None

    def list_item(self, item_id: str, *, is_live: bool) -> None:
        """An item was put into the list of live ones, or taken out of it."""
        if is_live:
            self.live[item_id] = None
        else:
            self.live.pop(item_id, None)
        self.touched[item_id] = None

    def set_status(self, status: RunStatus) -> None:
        """The run's state was written."""
        self.is_touched = self.is_touched or status is not self.status
        self.status = status
        self.epoch += 1

    def lead(self, place: Place, kind: str, item_id: str, turn: int) -> None:
        """An entry that leads to an item was entered; entering it again changes nothing."""
        self.leave(place)
        if kind == "message":
            self.messages[place] = item_id
            self._starts[item_id] += 1
        elif kind == "timer":
            self.timers[place] = (item_id, turn)
            self._woken.setdefault(item_id, {})[place] = turn
        elif kind == "resume":
            self.resumes[place] = None
        elif kind == "undo":
            self.undos[place] = None
        else:
            (self.owners if kind == "owner" else self.parked)[place] = item_id
            self._held[item_id] += 1

    def leave(self, place: Place) -> None:
        """An entry was taken away, if there was one: what it led to must be looked at again."""
        item_id: str | None = None
        if place in self.messages:
            start = self.messages.pop(place)
            self._starts[start] -= 1
            item_id = self.frontier(start)
        elif place in self.timers:
            item_id, _ = self.timers.pop(place)
            del self._woken[item_id][place]
        elif place in self.undos:
            del self.undos[place]
        elif place in self.resumes:
            del self.resumes[place]
            self.is_touched = True
        else:
            item_id = self.owners.pop(place, None) or self.parked.pop(place, None)
            if item_id is not None:
                self._held[item_id] -= 1
        if item_id is not None:
            self.touched[item_id] = None

    # --- looking

    def alive(self) -> list[WorkItem]:
        """Return the live items that are not held without a wake, nor failed for good."""
        return [self.items[item_id] for item_id in self.live if self.is_alive(item_id)]

    def is_alive(self, item_id: str) -> bool:
        """Whether an item is to go on some time."""
        item = self.items.get(item_id)
        if item is None or item_id not in self.live or item.status is WorkItemStatus.FAILED:
            return False
        return item.status is not WorkItemStatus.HELD or item.has_wake

    def unreachable(self) -> list[WorkItem]:
        """Return the items among those touched since the last call that are alive and that nothing leads to."""
        looked_at = list(self.items) if self.is_touched else list(self.touched)
        self.touched.clear()
        self.is_touched = False
        lost: list[WorkItem] = []
        for item_id in looked_at:
            is_alive = self.is_alive(item_id)
            self._count(item_id, is_alive=is_alive)
            if is_alive and self.counts_on(item_id) and not self.is_led_to(item_id):
                lost.append(self.items[item_id])
        return lost

    def counts_on(self, item_id: str) -> bool:
        """Whether a live item must be led to: while a run undoes what it did, only what undoes, or is waited for."""
        item = self.items[item_id]
        if self.status is not RunStatus.COMPENSATING or item.input.kind is InputKind.UNDO:
            return True
        return item.begun and item.status is WorkItemStatus.IN_PROGRESS

    @property
    def is_stuck(self) -> bool:
        """Whether the run undoes what it did, and neither a compensation nor a timer brings it on."""
        if self.status is not RunStatus.COMPENSATING or self.undos:
            return False
        live = (self.items[item_id] for item_id in self.live if item_id in self.items)
        return not any(item.input.kind is InputKind.UNDO for item in live)

    def is_led_to(self, item_id: str) -> bool:
        """Whether an entry leads to a live item: an owner's, a timer's, a message's at the end of its walk."""
        if self._held[item_id] or (item_id in self._woken and self.turns[item_id] in self._woken[item_id].values()):
            return True
        item, status = self.items[item_id], self.items[item_id].status
        must_end_first = item.begun and status is WorkItemStatus.IN_PROGRESS
        if not must_end_first and self.sweeps.intersection(item.scope):
            return True
        if status is WorkItemStatus.PENDING and (self.resumes or self.status is RunStatus.PAUSED):
            return True
        if status is WorkItemStatus.IN_PROGRESS and self.resumes:
            return True
        if status in UNDONE_AGAIN and item.input.kind is InputKind.UNDO and self.undos:
            return True
        if status is WorkItemStatus.HELD and self.is_called_back(self.items[item_id]):
            return True
        return self._starts[item_id] > 0 or any(map(self._is_walked_from, self._kept_by.get(item_id, ())))

    def _is_walked_from(self, item_id: str) -> bool:
        """Whether some message's walk passes an item, which only one that has ended lets it."""
        pending = [item_id]
        while pending:
            item_id = pending.pop()
            if item_id not in self.live:
                if self._starts[item_id]:
                    return True
                pending += self._kept_by.get(item_id, ())
        return False

    def _count(self, item_id: str, *, is_alive: bool) -> None:
        alive, waiting = self.counts
        was_waiting = self._counted.pop(item_id, None)
        if was_waiting is not None:
            alive, waiting = alive - 1, waiting - was_waiting
        if is_alive:
            item = self.items[item_id]
            is_waiting = item.status in WAITING
            self._counted[item_id] = is_waiting
            alive, waiting = alive + 1, waiting + is_waiting
        self.counts = (alive, waiting)

    def frontier(self, item_id: str | None) -> str | None:
        """Return where the walk from a message ends: the first item that has not ended."""
        while item_id is not None and item_id not in self.live:
            item = self.items.get(item_id)
            item_id = None if item is None else item.kept
        return item_id


@dataclass(frozen=True, slots=True)
class Led:
    """What an index entry leads to."""

    run_id: str
    item_id: str
    turn: int = 0
    kind: TimerKind | None = None


def led_by_message(value: bytes) -> Led:
    """Read the note of a message."""
    run_id, item_id, turn = codec.decode_message_note(value)[:3]
    return Led(run_id, item_id, turn)


def led_by_place(entry: str) -> Led:
    """Read an owner entry, or one of a parked item."""
    item_id, _, run_id = entry.rsplit("/", 1)[-1].partition(":") if "/" in entry else entry.partition(":")
    return Led(run_id, item_id)


def led_by_timer(entry: str, value: bytes) -> Led:
    """Read a timer."""
    _, target, _, run_id = entry.split(":", 3)
    kind, turn, _ = codec.decode_timer_value(value)
    return Led(run_id, "" if kind.is_of_run else target, turn, kind)
