"""What many finished runs cost: bytes of each, a page of the newest failed ones, deleting them all.

All runs are real: a client starts them and a worker in this process brings them to their end, many at a time. Every
output is checked, and so is what the store holds at the end.

The page is read in two stores that are there at the same time, a small and a large one, in turns; so what else the
machine does meanwhile weighs on both alike. Deleting is the work of a worker whose retention is 0 s.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.flatness import LIMIT
from benchmarks.own_stores import Located, OwnStore, own_store
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.stored import FAILING, STEPS_PER_PARCEL, STORED_WORKFLOWS, Parcel, Parcels, Receipt, fails, parcel
from benchmarks.throughput import check
from floxide_amqp import Floxide, Limits, Orchestrator, Retention, RunFailedError, RunPage, RunStatus, Start, Timeouts
from floxide_amqp.apps.cli.store_stats import in_units
from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.runtime.retention import RUNS_PER_ROUND
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.attributes import attribute_index
from floxide_amqp.stores.statistics import LISTS, Amount, survey

SMALL = 1_000
"""Runs in the small store, to which the page in the large one is compared."""

CONCURRENCY = 256
STARTED_AT_ONCE = 64
BATCHES_AT_ONCE = 6
"""Starts of so many runs each are under way side by side, so that commits go in large groups."""

PAGE = 50
"""Runs on a page; the small store has twice as many failed ones."""

TENANTS = 3
"""Runs are of so many tenants in turn, each with some of the failed ones."""

PAGE_OF_TENANT = 25
"""Runs on a page of one tenant; the small store has 33 failed ones of each."""

PAGES_READ = 40

PAUSE_SECONDS = 0.001
"""Between rounds of maintenance while it deletes: what is measured is the work, not the second between rounds."""

STILL_SECONDS = 120.0
"""If nothing is deleted for so long, something is wrong."""

VALUES = "values and entries"
"""The measure of `floxide store stats`, which is the same in every store."""

OF_NO_RUN = ("indexes", "workers and the like")
"""Kinds of records that are there without any run."""

FOREVER = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What was measured in one store; bytes by measure.

    Attributes:
        empty, full, tidied: What the store took before, with all runs, and after its server had tidied up.
        emptied, left: The same after the runs were deleted, and after the server had tidied up once more.
        kinds: What the store's records are, with all runs.
        page_ms: For each size, how long a page of the newest failed runs took, each time.
        tenant_page_ms: The same of the newest failed runs of one tenant.
    """

    store: str
    runs: int
    tidying: str
    fill_seconds: float
    empty: dict[str, int]
    full: dict[str, int]
    tidied: dict[str, int]
    emptied: dict[str, int]
    left: dict[str, int]
    kinds: dict[str, Amount]
    page_ms: dict[int, list[float]]
    tenant_page_ms: dict[int, list[float]]
    prune_seconds: float

    @property
    def paced_seconds(self) -> float:
        """How long deleting takes at least with the default second between rounds of maintenance."""
        return self.runs / RUNS_PER_ROUND * Timeouts().maintenance

    @property
    def ratio(self) -> float:
        """The page in the large store by the page in the small one."""
        return ratio_of(self.page_ms)

    @property
    def tenant_ratio(self) -> float:
        """The same of the pages of one tenant."""
        return ratio_of(self.tenant_page_ms)

    def bytes_per_run(self, measure: str) -> float:
        return (self.tidied[measure] - self.empty[measure]) / self.runs

    def bytes_left_per_run(self, measure: str) -> float:
        """What is left of a run that was deleted: its tombstone, and what the store does not give back."""
        return (self.left[measure] - self.empty[measure]) / self.runs

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        return {
            "store": self.store, "runs": self.runs, "steps": self.runs * STEPS_PER_PARCEL,
            "failed": self.runs // FAILING, "fill_seconds": round(self.fill_seconds, 1), "tidying": self.tidying,
            "bytes_empty": self.empty, "bytes_full": self.full, "bytes_tidied": self.tidied,
            "bytes_emptied": self.emptied, "bytes_left": self.left,
            "bytes_per_run": {name: round(self.bytes_per_run(name)) for name in self.full},
            "bytes_per_step": {name: round(self.bytes_per_run(name) / STEPS_PER_PARCEL) for name in self.full},
            "bytes_left_per_run": {name: round(self.bytes_left_per_run(name)) for name in self.full},
            "kinds": {name: {"records": each.records, "bytes": each.bytes} for name, each in self.kinds.items()},
            "page_of": PAGE, "page_median_ms": {size: middle(times) for size, times in self.page_ms.items()},
            "page_range_ms": {
                size: [round(min(times), 2), round(max(times), 2)] for size, times in self.page_ms.items()
            },
            "page_ratio": self.ratio, "tenant_page_of": PAGE_OF_TENANT, "tenant_page_ratio": self.tenant_ratio,
            "tenant_page_median_ms": {size: middle(times) for size, times in self.tenant_page_ms.items()},
            "tenant_page_range_ms": {
                size: [round(min(times), 2), round(max(times), 2)] for size, times in self.tenant_page_ms.items()
            },
            "prune_seconds": round(self.prune_seconds, 1),
            "prune_paced_seconds": round(self.paced_seconds, 1),
        }  # fmt: skip


def ratio_of(times: dict[int, list[float]]) -> float:
    small, large = (statistics.median(each) for _, each in sorted(times.items()))
    return round(large / small, 2)


def middle(times: Sequence[float]) -> float:
    return round(statistics.median(times), 2)


async def measure_growth(kind: str, runs: int) -> Growth:
    """Fill a store with runs, list the failed ones, delete all."""
    small = min(SMALL, max(1, runs // 2))
    with own_store(kind) as little, own_store(kind) as large:
        await fill(little, small, f"{kind}: runs for the small store")
        await touch(large)
        empty = await _sizes(large)
        began = time.monotonic()
        await fill(large, runs, f"{kind}: runs")
        fill_seconds = time.monotonic() - began
        full = await _sizes(large)
        kinds = await holdings(large)
        check(kinds["headers"].records, 2 * runs)
        large.tidy()
        tidied = await _sizes(large)
        stores = {small: little, runs: large}
        page_ms = await list_in_turns(stores, f"{kind}: pages", list_once)
        tenant_page_ms = await list_in_turns(stores, f"{kind}: pages of a tenant", list_tenant_once)
        prune_seconds = await prune(large, runs, f"{kind}: deleted")
        emptied = await _sizes(large)
        await check_is_empty(large, runs)
        large.tidy()
        left = await _sizes(large)
    return Growth(
        store=kind, runs=runs, tidying=large.tidying, fill_seconds=fill_seconds, empty=empty, full=full, tidied=tidied,
        emptied=emptied, left=left, kinds=kinds, page_ms=page_ms, tenant_page_ms=tenant_page_ms,
        prune_seconds=prune_seconds,
    )  # fmt: skip


def application(store: Located, **settings: Any) -> Floxide:
    return Floxide(store=store.location, workflows=STORED_WORKFLOWS, **settings)


async def touch(store: OwnStore) -> None:
    """Let it have what every store has in which a worker was: tables, an id, the worker's record."""
    async with application(store).orchestrator():
        pass


async def _sizes(store: OwnStore) -> dict[str, int]:
    total = sum(each.bytes for each in (await holdings(store)).values())
    return {**await asyncio.to_thread(store.sizes), VALUES: total}


async def holdings(store: OwnStore) -> dict[str, Amount]:
    """Return what the store's records are, as ``floxide store stats`` counts them."""
    async with application(store).orchestrator(with_worker=False) as orchestrator:
        found = await survey(orchestrator.services.session, largest=0)
    return dict(found.kinds)


# --- runs


async def fill(store: OwnStore, runs: int, name: str) -> None:
    """Bring so many runs to their end."""
    batches = iter([range(first, min(first + STARTED_AT_ONCE, runs)) for first in range(0, runs, STARTED_AT_ONCE)])
    app = application(store, limits=Limits(concurrency=CONCURRENCY))
    with phase(name, runs) as on_progress:
        async with app.orchestrator() as orchestrator, asyncio.TaskGroup() as group:
            done = 0

            def count(some: int) -> None:
                nonlocal done
                done += some
                on_progress(done)

            for _ in range(BATCHES_AT_ONCE):
                group.create_task(_run_batches(orchestrator, batches, count))


def start_of(number: int) -> Start[Parcel]:
    return Start(parcel(number), attributes={"tenant": tenant(number)})


def tenant(number: int) -> str:
    return f"tenant {number % TENANTS}"


async def _run_batches(orchestrator: Orchestrator, batches: Iterator[range], count: Callable[[int], None]) -> None:
    for numbers in batches:
        handles = await orchestrator.start_many(Parcels, [start_of(number) for number in numbers])
        results = await asyncio.gather(*(handle.result(timeout=FOREVER) for handle in handles), return_exceptions=True)
        for number, result in zip(numbers, results, strict=True):
            if fails(number):
                check(type(result), RunFailedError)
            else:
                check(result, Receipt(number, 200))
        count(len(handles))


# --- looking


async def list_in_turns(
    stores: dict[int, OwnStore], name: str, list_once: Callable[[Orchestrator, int], Awaitable[float]]
) -> dict[int, list[float]]:
    """Read a page of the newest failed runs of each store, in turns; return the milliseconds it took each time."""
    times: dict[int, list[float]] = {size: [] for size in stores}
    async with AsyncExitStack() as stack:
        opened = [application(store).orchestrator(with_worker=False) for store in stores.values()]
        clients = [await stack.enter_async_context(each) for each in opened]
        with phase(name, PAGES_READ) as on_progress:
            for turn in range(PAGES_READ + 1):
                for size, client in zip(stores, clients, strict=True):
                    took = await list_once(client, size)
                    if turn:  # the first one opens connections
                        times[size].append(took)
                on_progress(turn)
    return times


async def list_once(client: Orchestrator, size: int) -> float:
    began = time.perf_counter()
    page = await client.list_runs(status=RunStatus.FAILED, limit=PAGE)
    took = (time.perf_counter() - began) * 1e3
    check_page(page, min(PAGE, -(-size // FAILING)))
    return took


async def list_tenant_once(client: Orchestrator, size: int) -> float:
    attributes = {"tenant": tenant(0)}
    began = time.perf_counter()
    page = await client.list_runs(status=RunStatus.FAILED, attributes=attributes, limit=PAGE_OF_TENANT)
    took = (time.perf_counter() - began) * 1e3
    check_page(page, min(PAGE_OF_TENANT, -(-size // (FAILING * TENANTS))))
    check([run.attributes for run in page.runs], [attributes] * len(page.runs))
    return took


def check_page(page: RunPage, expected: int) -> None:
    created = [run.created_at for run in page.runs]
    check((len(page.runs), {run.status for run in page.runs}), (expected, {RunStatus.FAILED}))
    check(created, sorted(created, reverse=True))


# --- deleting


async def prune(store: OwnStore, runs: int, name: str) -> float:
    """Let a worker's maintenance delete all runs; return the seconds from the first one to the last record."""
    retention = Retention(completed=0, failed=0, cancelled=0)
    app = application(store, retention=retention, timeouts=Timeouts(maintenance=PAUSE_SECONDS))
    with phase(name, runs) as on_progress:
        async with app.worker() as worker, asyncio.TaskGroup() as group:
            work = group.create_task(worker.run_forever())
            figures, removal = worker.services.figures, worker.services.removal
            deleted, began, moved = 0, 0.0, time.monotonic()
            while deleted < runs or await removal.condemned(limit=1):
                await asyncio.sleep(0.01)
                if figures.runs_deleted > deleted:
                    moved = time.monotonic()
                    began = began or moved
                deleted = figures.runs_deleted
                on_progress(deleted)
                if time.monotonic() - moved > STILL_SECONDS:
                    raise RuntimeError(f"{deleted} of {runs} runs are deleted, and then nothing happened")
            took = time.monotonic() - began
            worker.stop()
            await work
    return took


async def check_is_empty(store: OwnStore, runs: int) -> None:
    """Make sure that nothing is left of deleted runs but a tombstone of each and its entry, and no message."""
    kinds = await holdings(store)
    left = {name: amount.records for name, amount in kinds.items() if amount.records and name not in OF_NO_RUN}
    check(left, {"tombstones": runs})
    async with application(store).orchestrator(with_worker=False) as client:
        session = client.services.session
        lists = {*LISTS, run_list_keys.runs_of_workflow("Parcels"), keys.messages("default")}
        lists |= {attribute_index("tenant", tenant(number)) for number in range(TENANTS)}
        for index in sorted(lists - {keys.TOMBSTONES, keys.WORKERS}):
            check([index, *await session.scan(IndexRange(index, limit=1))], [index])


# --- the table


def rows_of(found: Growth) -> list[tuple[object, ...]]:
    """Return a row for each measure, and those of the times."""
    return [
        (
            found.store, name, in_units(found.empty[name]), in_units(found.full[name]), in_units(found.tidied[name]),
            f"{found.bytes_per_run(name):,.0f}", f"{found.bytes_per_run(name) / STEPS_PER_PARCEL:,.0f}",
            in_units(found.emptied[name]), in_units(found.left[name]), f"{found.bytes_left_per_run(name):,.0f}",
        )
        for name in found.full
    ]  # fmt: skip


def growth_table(results: Sequence[Growth]) -> str:
    header = (
        "store", "bytes of", "empty", "full", "tidied", "per run", "per step", "deleted", "tidied", "left per run"
    )  # fmt: skip
    return table(header, [row for found in results for row in rows_of(found)])


def times_table(results: Sequence[Growth]) -> str:
    small, large = sorted(results[0].page_ms)
    header = (
        "store", f"filled with {large:,} runs", f"page of {PAGE} failed, {small:,} runs", f"the same, {large:,} runs",
        "ratio", f"flat (≤ {LIMIT})", f"page of {PAGE_OF_TENANT} failed of one tenant, {small:,} runs",
        f"the same, {large:,} runs", "ratio", f"flat (≤ {LIMIT})", "all deleted", "at the default pace, at least",
    )  # fmt: skip
    return table(
        header,
        [
            (
                each.store, f"{each.fill_seconds:.1f} s", *(_time(each.page_ms[size]) for size in (small, large)),
                each.ratio, "yes" if each.ratio <= LIMIT else "NO",
                *(_time(each.tenant_page_ms[size]) for size in (small, large)), each.tenant_ratio,
                "yes" if each.tenant_ratio <= LIMIT else "NO",
                f"{each.prune_seconds:.1f} s", f"{each.paced_seconds:.0f} s",
            )
            for each in results
        ],
    )  # fmt: skip


def _time(times: Sequence[float]) -> str:
    return f"{middle(times)} ms ({min(times):.1f} to {max(times):.1f})"


def kinds_table(results: Sequence[Growth]) -> str:
    """What a run's records are, in the first store: values and entries are the same in all."""
    found = results[0]
    kinds = sorted(found.kinds.items(), key=lambda kind: -kind[1].bytes)
    return table(
        ("kind", "records per run", "bytes per run"),
        [(name, round(each.records / found.runs, 2), round(each.bytes / found.runs)) for name, each in kinds],
    )
