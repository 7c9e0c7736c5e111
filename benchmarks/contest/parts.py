"""What is measured of this project besides chains, in the rounds of a contest and on its servers.

Each part has cases, from small to large; those of 100,000 are measured only where they are asked for. Every
measurement has a namespace and a database of its own, or a file. The figures are those of the modules that measure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.apart import Servers
from benchmarks.context import measure_step_at
from benchmarks.fan_in import apart, embedded
from benchmarks.loops import run
from benchmarks.recovering import measure_recovery
from benchmarks.starting import measure_starting
from benchmarks.waiting import measure_waiting

EMBEDDED = ("sqlite",)
"""Stores with which everything is in one process, and no broker is needed."""

LARGE = 100_000
"""Cases of so many, and more, take minutes."""

ITEMS_SEEN = 1_000
"""Smaller fan-outs are run again and again until there were so many items."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is measured: a kind of store, its address, and where workers find both it and a broker."""

    store: str
    location: str
    servers: Servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that is measured in several sizes.

    Attributes:
        name: For the command line.
        title: For people.
        said: How it is measured, in a few sentences.
        sizes: From small to large.
        smoke: The one size that is measured where it only shall be seen to work.
        size_name: What a size counts, in the plural.
        figures: What is measured, with the unit in its name: the key in the results, and a heading.
        measure: Measures one size once.
        kinds: Variants, each of which is measured; one without a name if there are none.
        is_embedded_too: Whether it is measured where everything is in one process.
    """

    name: str
    title: str
    said: str
    sizes: Sequence[int]
    smoke: int
    size_name: str
    figures: dict[str, str]
    measure: Callable[[Place, int, str], Coroutine[Any, Any, Figures]]
    kinds: Sequence[str] = ("",)
    is_embedded_too: bool = False

    def cases(self, *, with_large: bool) -> list[tuple[int, str]]:
        """Return each size with each kind."""
        return [(size, kind) for kind in self.kinds for size in self.sizes if size < LARGE or with_large]

    def named(self, size: int, kind: str) -> str:
        """Return what a case is called."""
        counted = self.size_name if size > 1 else self.size_name.removesuffix("s")
        return f"{size:,} {counted}{', ' if kind else ''}{kind}"


async def _fan_out(place: Place, items: int, join: str) -> Figures:
    runs = max(1, ITEMS_SEEN // items)
    if place.store in EMBEDDED:
        found = await embedded(join, place.store, items, runs)
    else:
        found = await apart(join, place.store, items, place.servers, runs=runs)
    ran = found.orchestrator
    processor = ran.processor_seconds + sum(found.worker_seconds) / runs
    figures = {"us_per_item": ran.seconds / items * 1e6, "processor_us_per_item": processor / items * 1e6}
    peaks = {"worker_peak_mib": max(found.worker_mib)} if found.worker_mib else {}
    return figures | {"client_peak_mib": ran.peak_mib} | peaks


async def _context(place: Place, events: int, _: str) -> Figures:
    cost = await measure_step_at(place, events)
    return {
        "us_per_step": cost.median_us, "mean_us_per_step": cost.mean_us, "processor_us_per_step": cost.mean_processor_us
    }  # fmt: skip


async def _starts(place: Place, runs: int, _: str) -> Figures:
    started = await measure_starting(place.servers, runs)
    return {
        "us_per_run": started.seconds / runs * 1e6, "processor_us_per_run": started.processor_seconds / runs * 1e6,
        "client_idle_mib": started.idle_mib, "client_peak_mib": started.peak_mib,
    }  # fmt: skip


async def _waiting(place: Place, runs: int, _: str) -> Figures:
    held = await measure_waiting(place.servers, runs)
    return {
        "worker_mib": held.waiting_mib, "worker_idle_mib": held.idle_mib, "worker_peak_mib": held.peak_mib,
        "kib_per_run": held.kib_per_run,
    }  # fmt: skip


async def _recovery(place: Place, steps: int, _: str) -> Figures:
    recovered = await measure_recovery(place.servers, steps)
    return {
        "first_seconds": recovered.first_seconds, "seconds": recovered.seconds, "repeated_bodies": recovered.repeated
    }  # fmt: skip


PARTS = (
    Part(
        name="fan-out", title="Fan-out and join", sizes=(100, 1_000, 10_000, 100_000), smoke=100, size_name="items",
        said="One run splits into so many items, each is doubled by a step of its own, and a join folds the results one"
        " by one, or gathers them in a list. Client and worker are processes of their own, except with SQLite (†),"
        " and start anew for each size. Sizes under 1,000 are the mean of several runs, one after the other."
        " Processor time is that of client and worker, not of broker and store.",
        figures={
            "us_per_item": "µs an item", "processor_us_per_item": "processor, µs an item",
            "client_peak_mib": "client's peak, MiB", "worker_peak_mib": "worker's peak, MiB",
        },
        measure=_fan_out, kinds=("folded", "gathered"), is_embedded_too=True,
    ),
    Part(
        name="context", title="Long contexts", sizes=(10, 1_000, 50_000), smoke=50, size_name="events",
        said="Each step of a run appends an event to a log in its context. What is measured are steps whose context has"
        " about so many, most of which the run's first steps appended, a thousand each: from the end of one body to"
        " the end of the next, with nothing else in flight. So each step waits for a commit that it shares with no"
        " other. Client and worker are one process.",
        figures={
            "us_per_step": "median step, µs", "mean_us_per_step": "mean step, µs",
            "processor_us_per_step": "processor, mean step, µs",
        },
        measure=_context, is_embedded_too=True,
    ),
    Part(
        name="starts", title="Starting many", sizes=(1, 10, 100, 1_000, 10_000, 100_000), smoke=20, size_name="runs",
        said="A client gives so many runs to one `start_many`, with payloads of about 300 bytes that are made as they"
        " are taken; nobody works on them. It is a process of its own, and a new one for each size. Afterwards the runs"
        " in the store and the messages in the queue are counted.",
        figures={
            "us_per_run": "µs a run", "processor_us_per_run": "client's processor, µs a run",
            "client_idle_mib": "client's memory before, MiB", "client_peak_mib": "its peak, MiB",
        },
        measure=_starts,
    ),
    Part(
        name="waiting", title="Many waiting runs", sizes=(10_000, 100_000), smoke=50, size_name="runs",
        said="A worker process brings so many runs to where they wait for a signal, and is looked at when all do. A"
        " hundred of them are signalled then, and their outputs checked.",
        figures={
            "worker_mib": "worker's memory, MiB", "worker_idle_mib": "before, MiB", "worker_peak_mib": "its peak, MiB",
            "kib_per_run": "KiB a run",
        },
        measure=_waiting,
    ),
    Part(
        name="recovery", title="Recovery after a kill", sizes=(100,), smoke=5, size_name="steps in flight",
        said="A worker process has so many steps in flight, each the third of its run, when it is killed (SIGKILL); a"
        " second worker process is idle. Bodies count themselves in files: each step that was in flight runs twice,"
        " each that had ended once, and what ran beyond that is told.",
        figures={
            "first_seconds": "first began elsewhere, s", "seconds": "all had, s",
            "repeated_bodies": "bodies beyond those in flight",
        },
        measure=_recovery,
    ),
)  # fmt: skip

PART_NAMES = tuple(part.name for part in PARTS)


def measure_once(part: Part, broker: str, name: str, store: str, location: str, size: int, kind: str) -> Figures:
    """Measure one case once.

    Args:
        name: A namespace that nobody else uses.
        store: Its kind.
        location: Its address; empty for a file of its own.
    """
    with tempfile.TemporaryDirectory(prefix="floxide-bench-") as folder:
        where = location or f"sqlite:///{Path(folder) / 'runs.db'}"
        servers = Servers(broker=broker, store=where, namespace=name)
        return run(part.measure(Place(store, where, servers), size, kind))
