"""The event log: an append-only list of typed events, merged by event id.

Cost: appending and committing an event do not depend on how many there are. All views of a run's log share one
append-only store and remember how long it was when they were made, so that later commits do not show in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeGuard, TypeVar, cast

from floxide_amqp.core.payload import PayloadType

T = TypeVar("T")
R = TypeVar("R")

StoredEvent = tuple[str, str, object]
"""An event as it is kept: its id, the tag of its type, its plain data."""


class EventStore:
    """The events of one log in merge order; grows only at its end."""

    __slots__ = ("entries", "positions")

    def __init__(self) -> None:
        self.entries: list[StoredEvent] = []
        self.positions: dict[str, int] = {}

    def add(self, entry: StoredEvent) -> None:
        """Append an event, unless one with its id is there."""
        if self.positions.setdefault(entry[0], len(self.entries)) == len(self.entries):
            self.entries.append(entry)


class EventLog(Generic[T]):
    """What happened in a run, in the order it was committed: append and read, never change.

    In a context each event's id follows from the work item that appended it, so an event that is merged twice counts
    once. On its own, in a unit test, ids follow from `origin`.

    Args:
        events: What the log starts with.
        origin: Prefix of the ids of the events this log appends; two logs that are merged need different ones.
    """

    __slots__ = ("_base", "_base_events", "_count", "_ids", "_length", "_new", "_origin", "_plain", "_type")

    def __init__(self, events: Iterable[T] = (), *, origin: str = "initial") -> None:
        self._origin = origin
        self._base: EventStore | None = None
        self._length = 0
        self._base_events: list[T] | None = None
        self._type: PayloadType | None = None
        self._count = 0
        self._ids: dict[str, None] = {}
        self._new: list[T] = []
        self._plain: list[StoredEvent] = []
        for event in events:
            self.append(event)

    def append(self, event: T) -> None:
        """Add an event at the end.

        Raises:
            CodecError: The event is not of the log's type; only in a context, where the type is known.
        """
        while self._has(event_id := f"{self._origin}:{self._count}"):  # the log already holds events of this origin
            self._count += 1
        self._add(event_id, event)
        self._count += 1

    def extend(self, events: Iterable[T]) -> None:
        """Add several events at the end."""
        for event in events:
            self.append(event)

    def merge(self, other: EventLog[T]) -> None:
        """Add the events of another log whose ids are not here yet, in its order."""
        for event_id, event in list(other.items()):
            if not self._has(event_id):
                self._add(event_id, event)

    def replay(self, initial: R, fold: Callable[[R, T], R]) -> R:
        """Return ``fold(… fold(fold(initial, first), second) …)``: the state that the events lead to."""
        state = initial
        for event in self:
            state = fold(state, event)
        return state

    def since(self, position: int) -> tuple[T, ...]:
        """Return the events from a position on, 0 or more; ``log.since(len(log))`` is empty until one is appended."""
        if position >= self._length:
            return tuple(self._new[position - self._length :])
        return (*self._stored()[position:], *self._new)

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over the events with their ids."""
        if self._base is not None:
            for position, event in enumerate(self._stored()):
                yield self._base.entries[position][0], event
        yield from zip(self._ids, self._new, strict=True)

    def copy(self) -> EventLog[T]:
        """Return a log of its own with the same events under the same ids."""
        twin: EventLog[T] = EventLog(origin=self._origin)
        twin.merge(self)
        return twin

    def __iter__(self) -> Iterator[T]:
        yield from self._stored()
        yield from self._new

    def __len__(self) -> int:
        return self._length + len(self._new)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __eq__(self, other: object) -> bool:
        return list(self.items()) == list(other.items()) if is_event_log(other) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._origin, list(self.items()))

    __hash__ = None  # type: ignore[assignment]  # a log grows

    def __repr__(self) -> str:
        return f"EventLog({len(self)} events)"

    def _has(self, event_id: str) -> bool:
        if event_id in self._ids:
            return True
        return self._base is not None and self._base.positions.get(event_id, self._length) < self._length

    def _add(self, event_id: str, event: T) -> None:
        if self._type is not None:
            tag, plain = self._type.dump(event)
            self._plain.append((event_id, tag, plain))
        self._ids[event_id] = None
        self._new.append(event)

    def _stored(self) -> list[T]:
        if self._base is None or self._type is None:
            return []
        if self._base_events is None:
            load = self._type.load
            entries = self._base.entries
            self._base_events = [cast("T", load(*entries[n][1:])) for n in range(self._length)]
        return self._base_events


def _restored(origin: str, items: list[tuple[str, Any]]) -> EventLog[Any]:
    log: EventLog[Any] = EventLog(origin=origin)
    for event_id, event in items:
        log._add(event_id, event)  # pyright: ignore[reportPrivateUsage]  # this module's own class
    return log


def is_event_log(value: object) -> TypeGuard[EventLog[Any]]:
    """Say whether a value is an event log."""
    return isinstance(value, EventLog)


def view_of(store: EventStore, length: int, event_type: PayloadType, origin: str) -> EventLog[Any]:
    """Return a log over the first `length` events of a store; what is appended stays in the log."""
    log: EventLog[Any] = EventLog(origin=origin)
    log._base = store  # pyright: ignore[reportPrivateUsage]  # this module's own class
    log._length = length  # pyright: ignore[reportPrivateUsage]
    log._type = event_type  # pyright: ignore[reportPrivateUsage]
    return log


def new_events(log: EventLog[Any], event_type: PayloadType) -> list[StoredEvent]:
    """Return what was appended to a log as it is kept."""
    plain = log._plain  # pyright: ignore[reportPrivateUsage]  # this module's own class
    if log._type is not None:  # pyright: ignore[reportPrivateUsage]
        return list(plain)
    return [(event_id, *event_type.dump(event)) for event_id, event in log.items()]
