"""Whether a step costs the same in a large run as in a small one, and at the end of a run as at its beginning.

Two shapes: a fan-out, whose run grows wide, and a chain of steps that each append an event to one log, whose history
grows long. For each size the steps' end times are noted; the cost of a tenth of the run is its time divided by its
steps. Linear growth with n would show as a ratio of about 10 between the sizes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.places import Place
from benchmarks.throughput import check
from benchmarks.workflows import EventChain, FanOut, More, StepClock
from floxide_amqp import Orchestrator

LIMIT = 1.5

CONCURRENCY = 10
"""Steps in flight at a time: a tenth of the smaller run must be many groups of them, not one burst."""


@dataclass(frozen=True)
class Shape:
    """A way to grow: the node whose steps are counted, and how to run and check `n` of them."""

    name: str
    node: str
    run: Callable[[Orchestrator, int], Any]


async def run_fan_out(orchestrator: Orchestrator, items: int) -> None:
    handle = await orchestrator.start(FanOut, items)
    check(await handle.result(timeout=600), items * (items - 1))


async def run_event_chain(orchestrator: Orchestrator, events: int) -> None:
    handle = await orchestrator.start(EventChain, More(events))
    check(await handle.result(timeout=600), [events, events * (events + 1) // 2])


SHAPES = (Shape("fan-out", "double", run_fan_out), Shape("event log", "write", run_event_chain))


@dataclass(frozen=True)
class Cost:
    """Microseconds per step of one run: over each tenth of its steps, and over all of it from start to result."""

    tenths: list[float]
    whole: float

    @property
    def first(self) -> float:
        return self.tenths[0]

    @property
    def last(self) -> float:
        return self.tenths[-1]


@dataclass(frozen=True)
class Sample:
    """One run, by wall time and by processor time of this process."""

    wall: Cost
    processor: Cost


async def measure_one(place: Place, shape: Shape, size: int) -> Sample:
    """Run one size of one shape on a fresh store."""
    clock = StepClock(shape.node)
    async with place.open([clock]) as orchestrator:
        wall, processor = time.perf_counter(), time.process_time()
        await shape.run(orchestrator, size)
        whole, whole_processor = time.perf_counter() - wall, time.process_time() - processor
    check(len(clock.wall), size)
    return Sample(
        Cost(tenths(clock.wall), whole / size * 1e6), Cost(tenths(clock.processor), whole_processor / size * 1e6)
    )


def tenths(ends: Sequence[float]) -> list[float]:
    """Microseconds per step over each tenth of the steps, from the times at which they ended."""
    marks = [round(part * (len(ends) - 1) / 10) for part in range(11)]
    return [(ends[to] - ends[of]) / (to - of) * 1e6 for of, to in pairwise(marks)]


async def measure_flatness(places: list[Place], sizes: tuple[int, int], rounds: int) -> list[dict[str, object]]:
    """Measure both shapes in both sizes, `rounds` times, interleaved."""
    samples: dict[tuple[str, str, int], list[Sample]] = {}
    for number in range(rounds):
        for place in places:
            for shape in SHAPES:
                for size in sizes:
                    key = (place.name, shape.name, size)
                    samples.setdefault(key, []).append(await measure_one(place, shape, size))
        print(f"  round {number + 1} of {rounds}", flush=True)
    return [_row(place, shape, sizes, samples) for place in places for shape in SHAPES]


def _row(
    place: Place, shape: Shape, sizes: tuple[int, int], samples: dict[tuple[str, str, int], list[Sample]]
) -> dict[str, object]:
    small, large = (samples[place.name, shape.name, size] for size in sizes)
    row: dict[str, object] = {"place": place.name, "shape": shape.name, "sizes": list(sizes), "rounds": len(small)}
    for size, runs in zip(sizes, (small, large), strict=True):
        wholes = [run.wall.whole for run in runs]
        row[f"us_per_step_{size}"] = _middle(wholes)
        row[f"us_per_step_{size}_range"] = [round(min(wholes), 1), round(max(wholes), 1)]
        row[f"us_by_tenth_{size}"] = [_middle(part) for part in zip(*(run.wall.tenths for run in runs), strict=True)]
        row[f"last_by_first_{size}"] = _ratio([run.wall.last for run in runs], [run.wall.first for run in runs])
        row[f"processor_us_per_step_{size}"] = _middle([run.processor.whole for run in runs])
        row[f"processor_last_by_first_{size}"] = _ratio(
            [run.processor.last for run in runs], [run.processor.first for run in runs]
        )
    row["large_by_small"] = _ratio([run.wall.whole for run in large], [run.wall.whole for run in small])
    row["processor_large_by_small"] = _ratio(
        [run.processor.whole for run in large], [run.processor.whole for run in small]
    )
    return row


def _middle(values: Iterable[float]) -> float:
    return round(statistics.median(values), 1)


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The ratio of the medians: each side over all rounds, which were interleaved."""
    return round(statistics.median(over) / statistics.median(under), 2)


def ratios(row: dict[str, Any], by: str = "") -> dict[str, float]:
    """The three ratios of a row that the limit is about; by ``processor_`` time if asked."""
    small, large = row["sizes"]
    return {
        f"last ÷ first tenth, {small:,}": row[f"{by}last_by_first_{small}"],
        f"last ÷ first tenth, {large:,}": row[f"{by}last_by_first_{large}"],
        f"{large:,} ÷ {small:,}": row[f"{by}large_by_small"],
    }
