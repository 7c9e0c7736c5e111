"""Merges the context of an order by hand, without the engine, in each way that the store has to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.orders import Totals

SETS = ("skus", "held")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot holds: the log position it reaches, its fields, and how many elements its segments have."""

    position: int
    fields: dict[str, Any]
    segments: int
    kept: dict[str, int]


@dataclass(slots=True)
class StoredContext:
    """All that the store has of one run's context.

    Attributes:
        initial: The fields it began with.
        snapshots: Those that are there.
        segments: Field and elements of each, by number.
        deltas: Position, item and changes of each that is still in the log.
    """

    initial: dict[str, Any] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    segments: dict[int, tuple[str, list[Any]]] = field(default_factory=dict)
    deltas: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)

    def ways(self) -> Iterator[tuple[str, Totals]]:
        """Merge it in each way there has to be, from each snapshot and from the beginning; name the way.

        The log may begin at the older of two snapshots, and begins at 0 where there are not two.
        """
        for snapshot in self.snapshots:
            fields = self._whole(snapshot)
            yield f"from the snapshot at {snapshot.position}", self._merged(fields, snapshot.position)
        if len(self.snapshots) < 2 or any(position == 0 for position, *_ in self.deltas):
            yield "from its beginning", self._merged(self.initial, 0)

    def _whole(self, snapshot: Snapshot) -> dict[str, Any]:
        beginnings: dict[str, list[Any]] = {name: [] for name in snapshot.kept}
        for number in range(snapshot.segments):
            name, elements = self.segments.get(number, ("", []))
            beginnings.setdefault(name, []).extend(elements)
        fields = dict(snapshot.fields)
        for name, elements in beginnings.items():
            if name == "events":
                fields[name] = [*elements, *fields[name]]
            elif name:
                tag, rest = fields[name]
                fields[name] = [tag, [*elements, *rest]]
        return fields

    def _merged(self, fields: dict[str, Any], position: int) -> Totals:
        events = {event[0]: event[2] for event in fields["events"]}
        values = {name: tagged[1] for name, tagged in fields.items() if name != "events"}
        values |= {name: set(values[name]) for name in SETS}
        values["picked"] = list(values["picked"])
        for at, _, delta in self.deltas:
            if at >= position:
                _apply(values, events, delta)
        return Totals(
            customer=values["customer"], quantity=values["quantity"], dearest=values["dearest"],
            cheapest=values["cheapest"], skus=frozenset(values["skus"]), held=frozenset(values["held"]),
            picked=tuple(sorted(values["picked"])), events=tuple(sorted(events.values())), stage=values["stage"],
        )  # fmt: skip


def _apply(values: dict[str, Any], events: dict[str, str], delta: dict[str, Any]) -> None:
    for name, tagged in delta.items():
        if name == "events":
            events.update({event[0]: event[2] for event in tagged})
            continue
        value = tagged[1]
        if name == "quantity":
            values[name] += value
        elif name in SETS:
            values[name] |= set(value)
        elif name == "picked":
            values[name] += value
        elif name == "dearest":
            values[name] = max(values[name], value)
        elif name == "cheapest":
            values[name] = min(values[name], value)
        else:
            values[name] = value
