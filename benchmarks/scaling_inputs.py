"""What the model of scaling is fed with: processor time of each part, a group's wait, bytes, and rates to check it by.

They are written in one place, benchmarks/results/scaling.json, each with the command that measures it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS

KEPT = RESULTS / "scaling.json"
"""The one place."""

PARTS = {"client": "client", "worker": "workers", "store": "PostgreSQL", "broker": "broker"}
"""The parts of the model, and what a contest calls them in its processor times."""

CONTESTANT = "ours-postgresql"


@dataclass(frozen=True, slots=True)
class Part:
    """What something takes for a run, and on top for each step: microseconds of processor time, or bytes."""

    per_run: float
    per_step: float

    def of(self, steps: int) -> float:
        """Return what a run of so many steps takes."""
        return self.per_run + steps * self.per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything the model is fed with.

    Attributes:
        client, worker, store, broker: Processor time, without that of groups.
        worker_us_per_group, store_us_per_group: Processor time that a group of commits takes on top of its commits, of
            the process that sends it and of the store.
        group_us: Time that a group takes besides: the sync, and the way there and back.
        commits_per_group: In a busy process; the simulation finds its own.
        news_us: Processor time that a worker takes to hear that runs have begun; every worker hears of every group.
        news_per_second: How often a busy client says so, at most.
        network, log: Bytes over all connections, each counted once, and in the store's write-ahead log.
        stored_bytes: Of a step, in tables and indexes, until the run is deleted.
        worker_mib, client_mib: Memory of a process.
        deleted_per_second: Runs whose time is over that the maintenance leader of one server deletes, at most.
        connections: Of one process to one server of the store.
    """

    client: Part
    worker: Part
    store: Part
    broker: Part
    worker_us_per_group: float
    store_us_per_group: float
    group_us: float
    commits_per_group: float
    news_us: float
    news_per_second: float
    network: Part
    log: Part
    stored_bytes: float
    worker_mib: float
    client_mib: float
    deleted_per_second: float
    connections: int

    def whole_us(self, name: str, steps: int) -> float:
        """Return what a part takes for a run, groups included, in microseconds."""
        part: Part = getattr(self, name)
        commits = {"worker": steps, "client": 2, "store": steps + 2}.get(name, 0)
        each = self.store_us_per_group if name == "store" else self.worker_us_per_group
        return part.of(steps) + each * commits / self.commits_per_group

    def parts(self) -> dict[str, Part]:
        """Return the processor times by the names of the parts."""
        return {name: getattr(self, name) for name in PARTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A measured rate that a prediction is held against.

    Attributes:
        cores: Of the machine on which everything ran together.
        load: Of that machine before it began.
        rates: Steps per second, of each round.
    """

    workers: int
    steps: int
    in_flight: int
    cores: int
    load: float
    rates: tuple[float, ...]

    @property
    def is_alone(self) -> bool:
        """Whether the machine had cores left for it."""
        return self.load < self.cores

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is in the one place.

    Attributes:
        sources: Of each input the command that measures it.
        note: On what it was measured, in a sentence; how far to trust it.
    """

    inputs: Inputs
    sources: Mapping[str, str]
    note: str
    rates: Sequence[Rate]


def load(path: Path = KEPT) -> Kept:
    """Return the inputs of a file.

    Raises:
        ValueError: One is missing, or not a number.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    try:
        values = {name: each["value"] for name, each in data["inputs"].items()}
        parts: dict[str, Any] = {
            name: Part(float(values.pop(f"{name}_{unit}_per_run")), float(values.pop(f"{name}_{unit}_per_step")))
            for name, unit in (*((name, "us") for name in PARTS), ("network", "bytes"), ("log", "bytes"))
        }
        inputs = Inputs(**parts, **values)
        sources = {name: str(each["command"]) for name, each in data["inputs"].items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not have all inputs: {error}") from error
    rates = [Rate(**each | {"rates": tuple(each["rates"])}) for each in data["rates"]]
    return Kept(inputs=inputs, sources=sources, note=data["note"], rates=rates)


def keep(changed: Mapping[str, float], note: str, rates: Sequence[Rate] | None = None, path: Path = KEPT) -> None:
    """Write new values of some inputs, and with them what is said of all; the others stay as they are.

    Raises:
        KeyError: There is no such input.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, value in changed.items():
        data["inputs"][name]["value"] = value
    data["note"] = note or data["note"]
    if rates is not None:
        data["rates"] = [
            {"workers": each.workers, "steps": each.steps, "in_flight": each.in_flight, "cores": each.cores,
             "load": each.load, "rates": list(each.rates)}
            for each in rates
        ]  # fmt: skip
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def processor_times(contest: Mapping[str, Any], inputs: Inputs) -> dict[str, float]:
    """Return the processor times of a contest's results: medians of its rounds, fitted to short and long chains.

    Of chains of two lengths with equally many runs in flight, the ones with the most runs are taken: the shorter a
    measurement is, the more of what goes on besides is in it. What groups take, of which there was one for each sync of
    the store's log, is taken off the steps of workers and store.

    Args:
        contest: The results.
        inputs: Say what a group takes.

    Raises:
        ValueError: It has no such pair.
    """
    pairs = _pairs(contest)
    if not pairs:
        raise ValueError(f"the results have no chains of two lengths of {CONTESTANT} with one worker")
    short, long = max(pairs, key=lambda pair: min(row["runs"] for row in pair))
    groups = _groups_per_step(contest)
    found: dict[str, float] = {"commits_per_group": round(1 / groups, 1)} if groups else {}
    for name, their_name in PARTS.items():
        few, many = (_us_per_run(row, their_name) for row in (short, long))
        per_step = max(0.0, (many - few) / (long["steps"] - short["steps"]))
        in_groups = getattr(inputs, f"{name}_us_per_group", 0.0) * groups
        found[f"{name}_us_per_run"] = round(max(0.0, few - short["steps"] * per_step), 1)
        found[f"{name}_us_per_step"] = round(max(0.0, per_step - in_groups), 1)
    return found


def _groups_per_step(contest: Mapping[str, Any]) -> float:
    syncs = [each for each in contest["syncs"] if each["contestant"] == CONTESTANT and each["workers"] == 1]
    return statistics.median(each["wal_syncs"] / each["steps"] for each in syncs) if syncs else 0.0


def rates_of(contest: Mapping[str, Any]) -> list[Rate]:
    """Return the rates of a contest's results that the model can predict: plain chains, of any number of workers."""
    cores, load_before = int(contest["machine"]["cores"]), float(contest["machine"]["load_before"])
    return [
        Rate(workers=row["workers"], steps=row["steps"], in_flight=row["in_flight"], cores=cores, load=load_before,
             rates=tuple(row["steps_per_second"]))
        for row in _chains(contest)
    ]  # fmt: skip


def _chains(contest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        row
        for row in contest["results"]
        if row["contestant"] == CONTESTANT and "steps_per_second" in row and not row["note_bytes"] and not row["pause"]
    ]


def _pairs(contest: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    rows = [row for row in _chains(contest) if row["workers"] == 1]
    return [
        (short, long)
        for short in rows
        for long in rows
        if short["steps"] < long["steps"] and _asked(short) == _asked(long)
    ]


def _asked(row: Mapping[str, Any]) -> str:
    """Return how many runs were to be in flight, as the workload's name says: short ones may have had fewer."""
    return str(row["workload"]).partition(", ")[2]


def _us_per_run(row: Mapping[str, Any], part: str) -> float:
    seconds: float = statistics.median(took.get(part, 0.0) for took in row["processor_seconds"])
    return seconds / int(row["runs"]) * 1e6
