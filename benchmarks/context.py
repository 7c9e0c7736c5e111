"""What a context of many events costs: a step at the start and at the end, what is stored, and taking it over.

One run whose steps append some events each, in a store of its own; with snapshots as they come by default, and without
any, to compare. Its output is checked, and so is what somebody else reads of it afterwards.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.growth import FOREVER, application, holdings, touch
from benchmarks.own_stores import Located, OwnStore, own_store
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.stored import Chronicle, Pages, event
from benchmarks.throughput import check
from benchmarks.workflows import StepClock
from floxide_amqp import Limits
from floxide_amqp.apps.cli.store_stats import in_units

STEPS_SEEN = 1_000
"""Steps that `measure_step_at` looks at, about."""

EVENTS_BEFORE = 1_000
"""Events that each step before those appends, at most."""

NEVER = 2**31
"""Changes after which there is a snapshot, where there shall be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCost:
    """What one run cost. Times are those between the ends of the bodies of two steps: a whole step, with its commit.

    Attributes:
        first_us, last_us: The median step of the first and the last tenth, microseconds.
        first_mean_us, last_mean_us: The mean of each, which the steps that leave snapshots show in.
        longest_ms: The longest step.
        first_processor_us, last_processor_us, longest_processor_ms: The same by processor time of this process, which
            other work on the machine does not lengthen.
        read_ms: How long somebody who does not know the context takes to read it whole.
        context_bytes: Log and snapshots, as ``floxide store stats`` counts them.
        grown_bytes: What the store took more than before, by measure.
        ratios: The median step of the last tenth by that of the first, of each round.
    """

    store: str
    with_snapshots: bool
    events: int
    steps: int
    first_us: float
    last_us: float
    first_mean_us: float
    last_mean_us: float
    longest_ms: float
    first_processor_us: float
    last_processor_us: float
    longest_processor_ms: float
    read_ms: float
    context_bytes: int
    grown_bytes: dict[str, int]
    ratios: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """The step at the end by the step at the start."""
        return round(self.last_us / self.first_us, 2)

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        found: dict[str, object] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**found, "last_by_first": self.ratio}


async def measure_context(kind: str, events: int, steps: int, rounds: int) -> list[ContextCost]:
    """Measure a context with snapshots and without, in turns; of each the middle of all rounds."""
    choices = (True, False)
    found = [[await _measure(kind, events, steps, with_snapshots=choice) for choice in choices] for _ in range(rounds)]
    return [middle_of(costs) for costs in zip(*found, strict=True)]


def middle_of(costs: Sequence[ContextCost]) -> ContextCost:
    """Return the median of each time over several rounds; what was stored is that of the last one."""
    times = [name for name in ContextCost.__dataclass_fields__ if name.endswith(("_us", "_ms"))]
    middles: dict[str, Any] = {
        name: round(statistics.median(getattr(cost, name) for cost in costs), 1) for name in times
    }
    ratios = tuple(round(cost.last_us / cost.first_us, 2) for cost in costs)
    return replace(costs[-1], ratios=ratios, **middles)


async def _measure(kind: str, events: int, steps: int, *, with_snapshots: bool) -> ContextCost:
    with own_store(kind) as store:
        await touch(store)
        before = await asyncio.to_thread(store.sizes)
        clock = StepClock("note")
        run_id = await _run(store, clock, events, steps, with_snapshots=with_snapshots)
        read_ms = await _read_anew(store, run_id, events)
        kinds = await holdings(store)
        after = await asyncio.to_thread(store.sizes)
    wall, processor = _steps(clock.wall), _steps(clock.processor)
    return ContextCost(
        store=kind, with_snapshots=with_snapshots, events=events, steps=steps,
        first_us=_us(statistics.median(wall.first)), last_us=_us(statistics.median(wall.last)),
        first_mean_us=_us(statistics.mean(wall.first)), last_mean_us=_us(statistics.mean(wall.last)),
        longest_ms=_ms(wall.longest), first_processor_us=_us(statistics.median(processor.first)),
        last_processor_us=_us(statistics.median(processor.last)), longest_processor_ms=_ms(processor.longest),
        read_ms=round(read_ms, 1), context_bytes=kinds["context"].bytes,
        grown_bytes={name: after[name] - before[name] for name in after},
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """What a step of one run costs, with nothing else in flight; microseconds, as those of `ContextCost`."""

    median_us: float
    mean_us: float
    mean_processor_us: float


async def measure_step_at(store: Located, events: int) -> StepCost:
    """Measure steps whose context has about so many events, of which the first steps of the run append many each.

    Those that are looked at append one each. Short runs are run again and again. The worker is in this process.
    """
    singles = min(STEPS_SEEN, events // 2)
    pages = -(-(events - singles) // EVENTS_BEFORE)
    given = Pages(pages, (events - singles) // pages, singles)
    count = pages * given.events_each + singles
    clock, wall, processor = StepClock("note"), list[float](), list[float]()
    async with application(store, interceptors=[clock]).orchestrator() as orchestrator:
        for _ in range(-(-STEPS_SEEN // singles)):
            clock.wall.clear()
            clock.processor.clear()
            handle = await orchestrator.start(Chronicle, given)
            check(await handle.result(timeout=FOREVER), [count, count * (count - 1) // 2])
            check(len(clock.wall), pages + singles)
            wall += _last(clock.wall, singles)
            processor += _last(clock.processor, singles)
    return StepCost(
        median_us=_us(statistics.median(wall)), mean_us=_us(statistics.mean(wall)),
        mean_processor_us=_us(statistics.mean(processor)),
    )  # fmt: skip


def _last(ends: Sequence[float], steps: int) -> list[float]:
    """Return how long each of the last steps took."""
    return [end - begin for begin, end in pairwise(ends[-steps - 1 :])]


class _Steps(NamedTuple):
    """The seconds of each step of the first and the last tenth, and of the longest of all."""

    first: list[float]
    last: list[float]
    longest: float


def _steps(ends: Sequence[float]) -> _Steps:
    took = [end - begin for begin, end in pairwise(ends)]
    tenth = max(1, len(took) // 10)
    return _Steps(took[:tenth], took[-tenth:], max(took))


async def _run(store: OwnStore, clock: StepClock, events: int, steps: int, *, with_snapshots: bool) -> str:
    """Run it; return the run's id."""
    limits = Limits() if with_snapshots else Limits(context_snapshot=NEVER)
    each = events // steps
    app = application(store, limits=limits, interceptors=[clock])
    with phase(f"{store.kind}: steps with{'' if with_snapshots else 'out'} snapshots", steps) as on_progress:
        async with app.orchestrator() as orchestrator:
            handle = await orchestrator.start(Chronicle, Pages(steps, each))
            result = asyncio.ensure_future(handle.result(timeout=FOREVER))
            while not (await asyncio.wait([result], timeout=0.5))[0]:
                on_progress(len(clock.wall))
            count = steps * each
            check(await result, [count, count * (count - 1) // 2])
    check(len(clock.wall), steps)
    return handle.run_id


async def _read_anew(store: OwnStore, run_id: str, events: int) -> float:
    """Read the context with a client that knows nothing of it; return the milliseconds it took."""
    async with application(store).orchestrator(with_worker=False) as client:
        began = time.perf_counter()
        book = await client.context(Chronicle, run_id)
        check(len(book.events), events)
        last = list(book.events)[-1]
        took = (time.perf_counter() - began) * 1e3
    check(last, event(events - 1))
    return took


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 1)


def _with_range(cost: ContextCost) -> str:
    return f"{cost.ratio} ({min(cost.ratios)} to {max(cost.ratios)})"


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)


def context_table(results: Sequence[ContextCost]) -> str:
    header = (
        "store", "snapshots", "events", "steps", "median step, first tenth", "last tenth", "ratio", "mean, first tenth",
        "mean, last tenth", "ratio by processor time", "longest", "by processor time", "read anew",
        "context as stored", "store grew by",
    )  # fmt: skip
    return table(
        header,
        [
            (
                each.store, "yes" if each.with_snapshots else "no", f"{each.events:,}", f"{each.steps:,}",
                f"{each.first_us} µs", f"{each.last_us} µs", _with_range(each),
                f"{each.first_mean_us} µs", f"{each.last_mean_us} µs",
                round(each.last_processor_us / each.first_processor_us, 2), f"{each.longest_ms} ms",
                f"{each.longest_processor_ms} ms", f"{each.read_ms} ms",
                in_units(each.context_bytes),
                ", ".join(f"{name} {in_units(grown)}" for name, grown in each.grown_bytes.items()),
            )
            for each in results
        ],
    )  # fmt: skip
