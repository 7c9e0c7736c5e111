"""Checks what is left after the chaos, without the engine: ``python -m tests.chaos.checker FOLDER``.

It compares what the store holds with what each order must lead to, and with what others saw: the side ledger that the
nodes wrote, the clients' journals, the broker's list of queues, and what the workers said of themselves.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.chaos.checks.every import BODILESS, CHECKS, is_of_a_group, table, uncovered
from tests.chaos.checks.hall import NOTE, Hall, in_time, read_journals
from tests.chaos.checks.sources import UNUSABLE
from tests.chaos.ledger import Entry, read_ledger
from tests.chaos.orders import Expected, Totals, expected_of, order_of
from tests.chaos.store_reader import ENDED, StoredRun, StoreReader, open_reader, removes_a_record

GRACE_MS = 5_000
"""A body may still begin so long after its run ended elsewhere; a suspended process gets the suspension on top."""

DESCRIPTORS_MORE, TASKS_MORE, THREADS_MORE = 12, 16, 12
"""What a worker may have more than a fresh one: the maintenance leader reads dead letters on a link of its own, a
reconnect may be under way, and pools start their threads and processes late."""

CONNECTIONS_MORE = 6
"""The same for connections to a store's server: there are up to four to work with and two for the heartbeat."""

LARGEST_RESIDENT_KIB = 400_000

OF_THE_ENGINE = "["
"""What the names in the history have of items that the engine itself works off: ``pick[rest]``."""

BY_OTHER_WAYS = "joins-"
"""Runs whose items lead to others over joins of edges: what becomes of those is told by the check of their group."""

HOOK = "!cancel"
"""What stands among the steps to undo for the node that runs when a run is cancelled; it stays where none is."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: `kind` is lost, duplicated, wrong or leaked."""

    kind: str
    invariant: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.invariant}) {self.where}: {self.what}"


@dataclass(slots=True)
class Evidence:
    """What the conductor saw besides the store; read from ``evidence.json``."""

    seed: int
    store: str
    suspended_ms: int = 0
    garbage: list[str] = field(default_factory=list)
    workers: int = 0
    clients: int = 0
    queues_quiet: list[dict[str, Any]] = field(default_factory=list)
    queues_after: list[dict[str, Any]] = field(default_factory=list)
    fresh: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """What a check found."""

    violations: list[Violation] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    items: int = 0
    retries: int = 0
    holds: int = 0
    joins: int = 0
    fallbacks: int = 0
    bodies: int = 0
    repeated_bodies: int = 0
    latest_body_ms: int = 0
    heard: int = 0
    quarantined: int = 0
    groups: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def uncovered(self) -> list[str]:
        """What of each group had to happen and did not."""
        return uncovered(self.groups)

    def count(self, kind: str) -> int:
        return sum(1 for each in self.violations if each.kind == kind)

    def lines(self) -> Iterator[str]:
        by_status = ", ".join(f"{count:,} {status}" for status, count in sorted(self.runs.items()))
        yield (
            f"runs: {sum(self.runs.values()):,} ({by_status}) · items ended: {self.items:,} · joins: {self.joins:,} · "
            f"failed attempts: {self.retries:,} · holds: {self.holds:,} · fallbacks: {self.fallbacks:,}"
        )
        yield (
            f"bodies in the side ledger: {self.bodies:,}, of them repeated: {self.repeated_bodies:,} · "
            f"latest after the end of its run: {self.latest_body_ms} ms · "
            f"results heard by clients: {self.heard:,} · quarantined: {self.quarantined:,}"
        )
        yield (
            f"lost {self.count('lost')} · duplicated transitions {self.count('duplicated')} · "
            f"wrong results {self.count('wrong')} · leaked {self.count('leaked')}"
        )

    def table(self) -> Iterator[str]:
        """What was exercised of each group of the language, a line each."""
        yield from table(self.groups)
        for what in self.uncovered:
            yield f"never exercised: {what}"


def check(folder: Path, *, reader: StoreReader | None = None) -> Findings:
    """Check a folder in which the chaos left a store, a ledger, journals and ``evidence.json``."""
    evidence = Evidence(**json.loads((folder / "evidence.json").read_text()))
    checker = _Checker(folder, evidence, reader or open_reader(_where(folder, evidence)))
    checker.check_runs()
    checker.check_ledger()
    checker.check_clients()
    checker.check_indexes()
    checker.check_broker()
    checker.check_processes()
    checker.check_groups()
    return checker.findings


def _where(folder: Path, evidence: Evidence) -> str:
    """A store that was saved is in the folder itself."""
    saved = folder / "runs.db"
    return f"sqlite:///{saved}" if saved.exists() else evidence.store


class _Checker:
    def __init__(self, folder: Path, evidence: Evidence, reader: StoreReader) -> None:
        self.findings = Findings()
        self._folder = folder
        self._evidence = evidence
        self._reader = reader
        self._runs = {run.run_id: run for run in reader.runs()}
        self._listed: defaultdict[str, set[str]] = defaultdict(set)
        for name in reader.indexes():
            if name.startswith("runs.attribute:"):
                for entry, _ in reader.index(name):
                    self._listed[entry.split(":", 1)[1]].add(name.removeprefix("runs.attribute:"))

    def _report(self, kind: str, invariant: str, where: str, what: str) -> None:
        self.findings.violations.append(Violation(kind, invariant, where, what))

    # --- runs

    def check_runs(self) -> None:
        for run in self._runs.values():
            self.findings.runs[run.status] += 1
            self._check_ends_of_items(run)
            self._check_nothing_pending(run)
            if is_of_a_group(run.run_id):
                self._check_of_a_group(run)
                continue
            self._check_end(run)
            if run.status == "completed":
                self._check_completed(run, expected_of(order_of(self._evidence.seed, _number(run.run_id))))
            else:
                self._check_counts_of_cancelled(run)

    def _check_of_a_group(self, run: StoredRun) -> None:
        """What holds of every run; how it had to end is known to the check of its group."""
        if not run.has_header or run.status == "unknown":
            self._report("lost", "I1", run.run_id, "it has records but no header or no state")
        if run.status == "completed" and not run.arrivals.get("hand"):
            self._check_counts(run)
        elif run.status == "cancelled":
            self._check_counts_of_cancelled(run)

    def _check_nothing_pending(self, run: StoredRun) -> None:
        """I9: nothing of a run that has ended waits for anything: letters, signals, keys, what is to be undone."""
        if run.status in ENDED:
            is_terminated = any(action == "terminate" for action, _ in run.audit)
            for what in ("posted", "tickets", *(() if is_terminated else ("begun",))):
                left = [entry for entry in run.of_itself[what] if entry != HOOK or run.status == "cancelled"]
                if left:
                    self._report("leaked", "I9", run.run_id, f"{what}: {left} is left"[:300])
            if run.status == "completed" and run.of_itself["waits"] and not run.arrivals.get("hand"):
                self._report("leaked", "I9", run.run_id, f"{run.of_itself['waits']} wait for signals, it says")

    def _check_end(self, run: StoredRun) -> None:
        """I1: the run is over, as it should be."""
        if not run.has_header or run.status == "unknown":
            self._report("lost", "I1", run.run_id, "it has records but no header or no state")
        allowed = ("completed", "cancelled") if run.run_id.startswith("storm") else ("completed",)
        if run.status in ("failed", "cancelled") and run.status not in allowed:
            self._report("wrong", "I1", run.run_id, f"it ended as {run.status}: {run.failure}"[:300])
        elif run.status not in allowed:
            live = [f"{item.node} {item.status}" for item in run.items.values() if item.status not in ENDED]
            self._report("lost", "I1", run.run_id, f"it is {run.status}, with {live or 'nothing'} live")
        elif run.finished_at_ms is None:
            self._report("lost", "I1", run.run_id, f"it is {run.status} without a time")

    def _check_ends_of_items(self, run: StoredRun) -> None:
        """I2: at most one end of each item, in the history and in its cell, and every successor is there."""
        ends = Counter(line.item_id for line in run.history)
        self.findings.items += len(run.history)
        for item_id, count in ends.items():
            if count > 1:
                self._report("duplicated", "I2", run.run_id, f"item {item_id} ended {count} times")
            if item_id not in run.items:
                self._report("lost", "I2", run.run_id, f"item {item_id} ended and has no record")
        for item in run.items.values():
            if item.status in ENDED and not ends[item.item_id] and run.status != "failed":
                self._report("lost", "I2", run.run_id, f"{item.node} {item.item_id} is {item.status} without history")
            if item.status not in ENDED and ends[item.item_id]:
                self._report("duplicated", "I2", run.run_id, f"{item.node} {item.item_id} ended and is {item.status}")
            if item.status == "completed" and run.status == "completed" and not run.run_id.startswith(BY_OTHER_WAYS):
                for successor in item.successors:
                    if successor not in run.items:
                        self._report("lost", "I5", run.run_id, f"{item.node} led to {successor}, which is not there")
        for line in run.history:
            item = run.items.get(line.item_id)
            if item is not None and (item.node, item.status) != (line.node.partition(OF_THE_ENGINE)[0], line.status):
                self._report("wrong", "I2", run.run_id, f"{item.node} is {item.status}, its history says {line.status}")

    def _check_completed(self, run: StoredRun, expected: Expected) -> None:
        self._check_counts(run)
        outputs = run.arrivals.get("", [])
        if outputs != [expected.result]:
            kind = "wrong" if len(outputs) == 1 else "lost" if not outputs else "duplicated"
            self._report(kind, "I5", run.run_id, f"its outputs are {outputs}, expected {expected.result}"[:500])
        ended = Counter((line.node, line.status) for line in run.history)
        for key in ended - expected.ended:
            self._report("duplicated", "I5", run.run_id, f"{ended[key]} x {key}, expected {expected.ended[key]}")
        for key in expected.ended - ended:
            self._report("lost", "I5", run.run_id, f"{ended[key]} x {key}, expected {expected.ended[key]}")
        failures = Counter(node for _, node in run.errors)
        if failures != +expected.failures:
            more = failures - expected.failures
            kind = "duplicated" if more else "lost"
            what = f"failed attempts {dict(failures)}, expected {dict(expected.failures)}"
            self._report(kind, "I6", run.run_id, what)
        self._check_join(run, expected)
        self._check_context(run, expected.totals)
        self._check_listed(run, expected.totals)
        self.findings.retries += sum(failures.values())
        self.findings.fallbacks += expected.ended["substitute", "completed"]

    def _check_listed(self, run: StoredRun, totals: Totals) -> None:
        """I12: it is found by what it is now, and by nothing that it was."""
        listed, expected = self._listed[run.run_id], {f"customer:s{totals.customer}", f"stage:s{totals.stage}"}
        if listed != expected:
            kind = "lost" if expected - listed else "leaked"
            self._report(kind, "I12", run.run_id, f"it is listed under {sorted(listed)}, expected {sorted(expected)}")

    def _check_counts(self, run: StoredRun) -> None:
        """I3: nothing is live, and the counters say so."""
        live = [item for item in run.items.values() if item.status not in ENDED]
        for item in live:
            self._report("leaked", "I3", run.run_id, f"{item.node} {item.item_id} is {item.status} in a completed run")
        for entry in run.live:
            self._report("leaked", "I3", run.run_id, f"{entry} is listed as live in a completed run")
        for name in ("c:live", "c:waiting", "c:held"):
            if run.counters.get(name, 0):
                self._report("leaked", "I3", run.run_id, f"counter {name} is {run.counters[name]}")
        for name, value in run.counters.items():
            if name.startswith("n:") and value:
                self._report("leaked", "I3", run.run_id, f"scope counter {name} is {value}")
        completed = sum(line.status == "completed" and OF_THE_ENGINE not in line.node for line in run.history)
        if run.counters.get("c:completed", 0) != completed:
            counted = run.counters.get("c:completed", 0)
            self._report("duplicated", "I3", run.run_id, f"{counted} completions counted, {completed} in the history")

    def _check_counts_of_cancelled(self, run: StoredRun) -> None:
        live = sum(1 for item in run.items.values() if item.status not in ENDED)
        if run.status == "cancelled" and run.counters.get("c:live", 0) != live:
            self._report("leaked", "I3", run.run_id, f"{run.counters.get('c:live', 0)} counted live, {live} are")
        if run.status == "cancelled" and len(run.live) != live:
            self._report("leaked", "I3", run.run_id, f"{len(run.live)} listed live, {live} are")

    def _check_join(self, run: StoredRun, expected: Expected) -> None:
        """I4: the join ended once and was given exactly what was due, in order."""
        packs = [line for line in run.history if line.node == "pack"]
        self.findings.joins += len(packs)
        if len(packs) != 1:
            self._report("lost" if not packs else "duplicated", "I4", run.run_id, f"the join ended {len(packs)} times")
        openers = [line.item_id for line in run.history if line.node == "split"]
        arrived = [value for opener in openers for value in run.arrivals.get(opener, [])]
        if arrived != expected.arrivals:
            kind = "duplicated" if len(arrived) > len(expected.arrivals) else "lost"
            self._report(kind, "I4", run.run_id, f"at the join arrived {arrived}, expected {expected.arrivals}"[:500])

    def _check_context(self, run: StoredRun, totals: Totals) -> None:
        """The context has every change once, in each way that the store has to it."""
        self.findings.holds += len(totals.held)
        for way, found in run.context.ways():
            for name, value in asdict(totals).items():
                is_value = getattr(found, name)
                if is_value != value:
                    problem = f"context field {name}, {way}, is {is_value}, expected {value}"
                    self._report("wrong", "I5", run.run_id, problem[:300])

    # --- what others saw

    def check_ledger(self) -> None:
        bodies: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in read_ledger(self._folder):
            if not entry.what.startswith(NOTE):
                bodies[entry.run_id, entry.item_id].append(entry)
        for (run_id, item_id), entries in bodies.items():
            self._check_bodies(run_id, item_id, entries)
        for run in self._runs.values():
            for line in run.history:
                entries = bodies.get((run.run_id, line.item_id), [])
                if (
                    line.status == "cancelled"
                    or OF_THE_ENGINE in line.node
                    or (line.node in BODILESS and is_of_a_group(run.run_id))
                ):
                    continue
                wanted = "end" if line.status == "completed" else "begin"
                if not any(entry.what == wanted for entry in entries):
                    self._report("wrong", "I2", run.run_id, f"{line.node} {line.item_id} ended; no body says {wanted}")

    def _check_bodies(self, run_id: str, item_id: str, entries: list[Entry]) -> None:
        begins = [entry for entry in entries if entry.what == "begin"]
        self.findings.bodies += len(begins)
        if len({entry.key for entry in entries}) != 1 or entries[0].key != f"{run_id}:{item_id}":
            self._report("wrong", "I6", run_id, f"{item_id} had the keys { {entry.key for entry in entries} }")
        run = self._runs.get(run_id)
        item = run.items.get(item_id) if run is not None else None
        if run is None or item is None:
            self._report("lost", "I1", run_id, f"a body of {entries[0].node} ran for {item_id}, which the store lacks")
            return
        tries = item.attempt if item.status in ENDED else item.attempt + 1
        due = tries + (1 if item.node == "reserve" and item.turn > 2 else 0)
        if not is_of_a_group(run_id):  # those are held and tried again as often as their kind wants
            self.findings.repeated_bodies += max(0, len(begins) - due)
        if (
            item.status in ("completed", "failed")
            and max((entry.attempt for entry in begins), default=0) > item.attempt
        ):
            self._report("duplicated", "I6", run_id, f"{item.node} {item_id} ran attempt beyond its last")
        if run.finished_at_ms is not None:
            late = max((entry.at_ms for entry in begins), default=0) - run.finished_at_ms
            self.findings.latest_body_ms = max(self.findings.latest_body_ms, late)
            if late > GRACE_MS + self._evidence.suspended_ms:
                self._report("wrong", "I7", run_id, f"a body of {item.node} began {late} ms after the run's end")

    def check_clients(self) -> None:
        for path in sorted((self._folder / "clients").glob("*.log")):
            for line in path.read_text().splitlines():
                self._check_word(line.split(" ", 2))

    def _check_word(self, words: list[str]) -> None:
        word, run_id = words[0], words[1] if len(words) > 1 else ""
        run = self._runs.get(run_id)
        if word == "started" and run is None:
            self._report("lost", "I1", run_id, "a client was told that it is started, and the store does not know it")
        elif word == "cancelled" and (run is None or run.status != "cancelled"):
            self._report("wrong", "I7", run_id, "a client was told that it is cancelled")
        elif word == "broken":
            self._report("wrong", "I1", run_id, f"a client broke: {' '.join(words[2:])}"[:300])
        elif word == "result":
            self.findings.heard += 1
            if json.loads(words[2]) != expected_of(order_of(self._evidence.seed, _number(run_id))).result:
                self._report("wrong", "I5", run_id, f"a client was told {words[2]}"[:300])

    # --- what must be gone

    def check_indexes(self) -> None:
        for name in self._reader.indexes():
            kind = name.split(":")[0]
            if kind == "timers":
                for entry, _ in self._reader.index(name):
                    self._check_timer(entry)
            elif kind in ("messages", "owned", "parked", "letters", "timers.aside", "runs.aside"):
                for entry, _ in self._reader.index(name):
                    self._report("leaked", "I9", name, f"entry {entry} is left")
            elif kind == "runs.status":
                self._check_list(name, name.split(":")[1])
        sent = set(self._evidence.garbage)
        for entry, value in self._reader.quarantine():
            self.findings.quarantined += 1
            if sent and UNUSABLE.encode() not in value and not any(body in value.hex() for body in sent):
                self._report("lost", "I10", entry, "a message in the quarantine was not sent as garbage")

    def _check_timer(self, entry: str) -> None:
        """I9: what is left is of runs that ended while an item of them waited; it goes when it is due."""
        if removes_a_record(entry):
            return
        _, item_id, _, run_id = entry.split(":", 3)
        run = self._runs.get(run_id)
        item = run.items.get(item_id) if run is not None else None
        was_stopped = run is not None and run.status in ENDED and is_of_a_group(run_id)
        if not was_stopped or item is None or item.status not in ("held", "waiting retry"):
            self._report("leaked", "I9", "timers", f"entry {entry} is left")

    def _check_list(self, name: str, status: str) -> None:
        for entry, _ in self._reader.index(name):
            run = self._runs.get(entry.split(":", 1)[1])
            if run is None or run.status != status:
                self._report("wrong", "I3", name, f"{entry} is listed, and is {run.status if run else 'not there'}")

    def check_groups(self) -> None:
        """What each group of the language came to."""
        notes: dict[str, list[Entry]] = defaultdict(list)
        bodies: dict[str, list[Entry]] = defaultdict(list)
        for entry in in_time(read_ledger(self._folder)):
            (notes if entry.what.startswith(NOTE) else bodies)[entry.run_id].append(entry)
        seen = Hall(
            runs=self._runs, notes=notes, bodies=bodies, told=read_journals(self._folder), listed=self._listed,
            of_store=self._reader.of_store(), queues=self._reader.queues_of_keys(), report=self._report,
            quarantine=[value for _, value in self._reader.quarantine()],
        )  # fmt: skip
        for check in CHECKS:
            hall = replace(seen, counts=Counter())
            check.check(hall)
            self.findings.groups[check.name] = hall.counts

    def check_broker(self) -> None:
        """I9: no message is left, no queue without its process."""
        for when, queues in (("quiet", self._evidence.queues_quiet), ("after", self._evidence.queues_after)):
            for queue in queues:
                for state in ("messages_ready", "messages_unacknowledged"):
                    if queue[state]:
                        self._report("leaked", "I9", queue["name"], f"{queue[state]} {state} when {when}")
            mine = Counter(queue["name"].split(".")[1] for queue in queues)
            for kind, most in (("control", self._evidence.workers), ("events", self._evidence.clients)):
                limit = most if when == "quiet" else 0
                if mine[kind] > limit:
                    self._report("leaked", "I9", kind, f"{mine[kind]} queues when {when}, {limit} have a process")

    def check_processes(self) -> None:
        """I9: descriptors, tasks and threads of every worker are as many as a fresh one has."""
        fresh = self._evidence.fresh
        connections = 0 if self._evidence.store.startswith("sqlite") else CONNECTIONS_MORE
        for name, last in self._evidence.reports.items():
            more_tasks = Counter(last.get("task_names", ())) - Counter(fresh.get("task_names", ()))
            new = f" ({dict(more_tasks)})" if more_tasks else ""
            descriptors = ("descriptors", DESCRIPTORS_MORE + connections)
            for what, more in (descriptors, ("tasks", TASKS_MORE), ("threads", THREADS_MORE)):
                if last[what] > fresh[what] + more:
                    self._report("leaked", "I9", name, f"{last[what]} {what}, a fresh worker has {fresh[what]}{new}")
            if last["resident_kib"] > LARGEST_RESIDENT_KIB:
                self._report("leaked", "I9", name, f"{last['resident_kib']} KiB resident")
        for name, code in self._evidence.exits.items():
            if code != 0:
                self._report("wrong", "I9", name, f"told to stop, it exited with {code}")


def _number(run_id: str) -> int:
    return int(run_id.rpartition("-")[2])


def main(arguments: list[str]) -> int:
    findings = check(Path(arguments[0]))
    for violation in findings.violations[:50]:
        print(violation)
    for line in findings.lines():
        print(line)
    for line in findings.table():
        print(line)
    return 1 if findings.violations or findings.uncovered else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
