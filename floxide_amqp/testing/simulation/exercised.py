"""What of the language of flows happens in a simulation, counted from what is committed.

Eleven groups, by the numbers and names of `GROUPS`. Each count is of commits that the store took, or of what a client
was answered: what is only planned counts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from floxide_amqp.core.limit_moves import LIMIT_PREFIX
from floxide_amqp.core.records import InputKind, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Append, Enter, Key, Put, Write
from floxide_amqp.stores import keys, schedule_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.claims import CLAIM_PREFIX
from floxide_amqp.stores.rate_keys import RATE_PREFIX
from floxide_amqp.testing.simulation.attribute_watch import LISTS

JOINS, SIGNALS, TIMERS, CHILDREN, CONTROL, FLOW, ROUTING, VERSIONS, SEARCH, SOURCES, SYNC = range(1, 12)

GROUPS: Final[Mapping[int, str]] = {
    JOINS: "joins",
    SIGNALS: "hold and signals",
    TIMERS: "timers and schedules",
    CHILDREN: "children",
    CONTROL: "control",
    FLOW: "flow control",
    ROUTING: "routing",
    VERSIONS: "versions",
    SEARCH: "attributes, queries, events",
    SOURCES: "sources",
    SYNC: "synchronous client",
}
"""The groups of the language, by their numbers."""

ELSEWHERE: Final[Mapping[int, str]] = {
    SYNC: "by tests with real processes alone: it is a thread, and here there are none",
}
"""Groups that no simulation can have, and why."""

Exercised = Counter[tuple[int, str]]
"""How often something of a group happened, by the group's number and what it was."""

_KINDS: Final = {
    InputKind.ARRIVALS: "gathers",
    InputKind.JOIN: "joins of edges",
    InputKind.FOLD: "folds",
    InputKind.SWEEP: "fan-outs closed early",
}


class ExerciseWatch:
    """Counts, from every batch that a store applies, what of each group it is about."""

    def __init__(self) -> None:
        self.counts: Exercised = Counter()

    def count(self, group: int, what: str) -> None:
        """Count something that a client saw."""
        self.counts[group, what] += 1

    def item_written(self, old: WorkItem | None, new: WorkItem) -> None:
        """Count what an item came to."""
        if old is not None and old.status is new.status:
            return
        if new.status is WorkItemStatus.COMPLETED:
            if new.input.kind in _KINDS:
                self.counts[JOINS, _KINDS[new.input.kind]] += 1
            elif new.input.kind is InputKind.UNDO:
                self.counts[CONTROL, "steps undone"] += 1
        elif new.status is WorkItemStatus.CANCELLED:
            self.counts[JOINS, "items cancelled"] += 1
        elif new.status is WorkItemStatus.HELD:
            self.counts[
                TIMERS if new.due_ms else SIGNALS, "items held with a time" if new.due_ms else "items held"
            ] += 1
        elif new.status is WorkItemStatus.PARKED:
            self.counts[ROUTING, "items parked"] += 1

    def batch_applied(self, applied: Iterable[Sequence[Write]]) -> None:
        """Count what a batch is about."""
        for writes in applied:
            for write in writes:
                self._write(write)

    def _write(self, write: Write) -> None:
        match write:
            case Put(Key(partition, name), value):
                self._put(partition, name, value)
            case Append(Key(_, "a"), entries):
                for entry in entries:
                    self.counts[CONTROL, codec.decode_audit(entry).action] += 1
            case Enter(index, _) if index.startswith(LISTS):
                self.counts[SEARCH, "attributes listed"] += 1
            case Enter(index, _) if index.endswith(f":{keys.CHILDREN}"):
                self.counts[CHILDREN, "children"] += 1
            case Enter(index, _) if index.endswith(f":{keys.TICKETS}") and not index.startswith(f"in:{LIMIT_PREFIX}"):
                self.counts[FLOW, "tickets"] += 1
            case Enter(keys.TIMERS, _):
                self.counts[TIMERS, "timers"] += 1
            case _:
                pass

    def _put(self, partition: str, name: str, value: bytes) -> None:
        if partition.startswith(LIMIT_PREFIX):
            self.counts[FLOW, "changes of keys"] += 1
        elif partition.startswith(RATE_PREFIX):
            self.counts[FLOW, "changes of rates"] += 1
        elif partition.startswith(CLAIM_PREFIX):
            self.counts[FLOW, "claims of keys of starts"] += 1
        elif partition.startswith(schedule_keys.SCHEDULE_PREFIX):
            self.counts[TIMERS, "changes of schedules"] += 1
        elif name.startswith("sm:"):
            self.counts[SIGNALS, "signals accepted"] += 1
        elif name == "header":
            header = codec.decode_header(value)
            self.counts[TIMERS, "delayed starts"] += header.starts_at_ms > 0
            self.counts[CONTROL, "forks"] += header.forked_from is not None


def table(counts: Exercised) -> list[str]:
    """Return what happened of each group, a line each, and of those that no simulation can have why."""
    lines: list[str] = []
    for number, name in GROUPS.items():
        mine = [f"{count:,} {what}" for (group, what), count in sorted(counts.items()) if group == number and count]
        lines.append(f"    {number:>2} {name:<28} {', '.join(mine) or ELSEWHERE.get(number, 'nothing')}")
    return lines


def never(counts: Exercised) -> list[str]:
    """Return the groups of which nothing happened and could have, by name."""
    seen = {group for (group, _), count in counts.items() if count}
    return [name for number, name in GROUPS.items() if number not in seen and number not in ELSEWHERE]
