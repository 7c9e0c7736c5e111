"""What a check of a group is given to look at."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.ledger import Entry
from tests.chaos.store_reader import StoredRun

NOTE = "note:"


class Report(Protocol):
    """Notes a violation."""

    def __call__(self, kind: str, invariant: str, where: str, what: str) -> None: ...


@dataclass
class Hall:
    """All that is left, of all groups.

    Attributes:
        runs: What the store has, by run.
        notes: What bodies noted, by run, in the order of time.
        told: What clients wrote down: words and what came with them, by run.
        listed: The attributes under which each run is found.
        of_store: Records that are no run's, by partition and name.
        queues: Who waits for each concurrency key.
        quarantine: Messages that nobody could make anything of, as they are kept.
    """

    runs: Mapping[str, StoredRun]
    notes: Mapping[str, list[Entry]]
    bodies: Mapping[str, list[Entry]]
    told: Mapping[str, list[tuple[str, Any]]]
    listed: Mapping[str, set[str]]
    of_store: Mapping[str, Mapping[str, bytes]]
    queues: Mapping[str, list[str]]
    quarantine: Sequence[bytes]
    report: Report
    counts: Counter[str] = field(default_factory=Counter)

    def of(self, *prefixes: str) -> Iterator[tuple[int, StoredRun]]:
        """The runs whose ids begin with a prefix and a dash, and the numbers they end with."""
        for prefix in prefixes:
            for run_id, run in self.runs.items():
                head, _, number = run_id.rpartition("-")
                if head == prefix:
                    yield int(number), run

    def noted(self, run_id: str, what: str) -> list[Entry]:
        """What bodies of a run noted under a word."""
        return [entry for entry in self.notes.get(run_id, []) if entry.what == NOTE + what]

    def heard(self, run_id: str, word: str) -> list[Any]:
        """What clients wrote down of a run under a word."""
        return [what for each, what in self.told.get(run_id, []) if each == word]

    def expect(self, holds: bool, kind: str, invariant: str, run: StoredRun, what: str) -> None:
        """Report what does not hold."""
        if not holds:
            self.report(kind, invariant, run.run_id, what[:400])

    def expect_status(self, run: StoredRun, *statuses: str) -> bool:
        """A run has ended, and as it should."""
        if run.status in statuses:
            return True
        kind = "wrong" if run.status in ("completed", "failed", "cancelled") else "lost"
        self.report(
            kind, "I1", run.run_id, f"it is {run.status}, expected {' or '.join(statuses)}: {run.failure}"[:300]
        )
        return False

    def expect_output(self, run: StoredRun, *allowed: Any) -> None:
        """A completed run has one output, and it is one of those."""
        outputs = run.arrivals.get("", []) + run.arrivals.get("hand", [])
        kind = "wrong" if len(outputs) == 1 else "lost" if not outputs else "duplicated"
        self.expect(
            len(outputs) == 1 and outputs[0] in allowed, kind, "I5", run,
            f"its outputs are {outputs}, expected {allowed[0] if len(allowed) == 1 else allowed}",
        )  # fmt: skip

    def expect_ended(self, run: StoredRun, node: str, status: str, count: int) -> None:
        """So many items of a node ended so."""
        found = sum(line.node == node and line.status == status for line in run.history)
        kind = "duplicated" if found > count else "lost"
        self.expect(found == count, kind, "I4", run, f"{found} items of {node} are {status}, expected {count}")


Check = Callable[[Hall], None]


@dataclass(frozen=True)
class GroupCheck:
    """The check of one group.

    Attributes:
        number, name: Which of the eleven.
        must: What must have been counted for the group to be covered.
        check: Reports what is wrong, and counts.
        bodiless: Nodes whose items may end without a body.
    """

    number: int
    name: str
    must: tuple[str, ...]
    check: Check
    bodiless: frozenset[str] = frozenset()

    def missing(self, counts: Mapping[str, int]) -> list[str]:
        """What was not counted and had to be."""
        return [what for what in self.must if not counts.get(what)]


def read_journals(folder: Path) -> dict[str, list[tuple[str, Any]]]:
    """What clients wrote down, by run."""
    told: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for path in sorted((folder / "clients").glob("*.log")):
        for line in path.read_text().splitlines():
            word, _, rest = line.partition(" ")
            run_id, _, what = rest.partition(" ")
            told[run_id].append((word, _value(what)))
    return told


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def in_time(entries: Iterable[Entry]) -> list[Entry]:
    """In the order of time."""
    return sorted(entries, key=lambda entry: entry.at_ms)
