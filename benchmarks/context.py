"""What a context of many events costs: a step at the start and at the end, what is stored, and taking it over.

One run whose steps append some events each, in a store of its own; with snapshots as they come by default, and without
any, to compare. Its output is checked, and so is what somebody else reads of it afterwards.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.growth import FOREVER, application, holdings
from benchmarks.own_stores import OwnStore, own_store
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.stored import Chronicle, Pages, event
from benchmarks.throughput import check
from benchmarks.workflows import StepClock
from floxide_amqp import Limits
from floxide_amqp.apps.cli.store_stats import in_units

NEVER = 2**31
"""Changes after which there is a snapshot, where there shall be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCost:
    """What one run cost. Times are those between the ends of the bodies of two steps: a whole step, with its commit.

    Attributes:
        first_us, last_us: The median step of the first and the last tenth, microseconds.
        first_mean_us, last_mean_us: The mean of each, which the steps that leave snapshots show in.
        longest_ms: The longest step.
        read_ms: How long somebody who does not know the context takes to read it whole.
        context_bytes: Log and snapshots, as ``floxide store stats`` counts them.
        grown_bytes: What the store took more than before, by measure.
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
    read_ms: float
    context_bytes: int
    grown_bytes: dict[str, int]

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        ratio = round(self.last_us / self.first_us, 2)
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"last_by_first": ratio}


async def measure_context(kind: str, events: int, steps: int) -> list[ContextCost]:
    """Measure a context with snapshots and without."""
    return [await _measure(kind, events, steps, with_snapshots=choice) for choice in (True, False)]


async def _measure(kind: str, events: int, steps: int, *, with_snapshots: bool) -> ContextCost:
    with own_store(kind) as store:
        async with application(store).orchestrator():
            before = await asyncio.to_thread(store.sizes)
        took, run_id = await _run(store, events, steps, with_snapshots=with_snapshots)
        read_ms = await _read_anew(store, run_id, events)
        kinds = await holdings(store)
        after = await asyncio.to_thread(store.sizes)
    tenth = max(1, len(took) // 10)
    first, last = took[:tenth], took[-tenth:]
    return ContextCost(
        store=kind, with_snapshots=with_snapshots, events=events, steps=steps,
        first_us=_us(statistics.median(first)), last_us=_us(statistics.median(last)),
        first_mean_us=_us(statistics.mean(first)), last_mean_us=_us(statistics.mean(last)),
        longest_ms=round(max(took) * 1e3, 1), read_ms=round(read_ms, 1), context_bytes=kinds["context"].bytes,
        grown_bytes={name: after[name] - before[name] for name in after},
    )  # fmt: skip


async def _run(store: OwnStore, events: int, steps: int, *, with_snapshots: bool) -> tuple[list[float], str]:
    """Run it; return the seconds of each step, and the run's id."""
    clock = StepClock("note")
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
    return [end - begin for begin, end in pairwise(clock.wall)], handle.run_id


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


def context_table(results: Sequence[ContextCost]) -> str:
    header = (
        "store", "snapshots", "events", "steps", "median step, first tenth", "last tenth", "ratio", "mean, first tenth",
        "mean, last tenth", "longest", "read anew", "context as stored", "store grew by",
    )  # fmt: skip
    return table(
        header,
        [
            (
                each.store, "yes" if each.with_snapshots else "no", f"{each.events:,}", f"{each.steps:,}",
                f"{each.first_us} µs", f"{each.last_us} µs", round(each.last_us / each.first_us, 2),
                f"{each.first_mean_us} µs", f"{each.last_mean_us} µs", f"{each.longest_ms} ms", f"{each.read_ms} ms",
                in_units(each.context_bytes),
                ", ".join(f"{name} {in_units(grown)}" for name, grown in each.grown_bytes.items()),
            )
            for each in results
        ],
    )  # fmt: skip
