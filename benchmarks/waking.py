"""What it costs to wake many: runs that wait for a signal and get it at once, and timers due in the same second.

All runs are real and in one store, with a worker in this process; every output is checked. The seconds count from the
moment at which the first signal is sent, or the timers are due, until every run has ended with its output.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from benchmarks.apart import NAMESPACE_VARIABLE, Servers
from benchmarks.own_stores import OwnStore, own_store
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.throughput import check
from floxide_amqp import (
    Context,
    Floxide,
    Hold,
    Limits,
    Orchestrator,
    RunHandle,
    RunStatus,
    Signal,
    Start,
    Timeouts,
    Workflow,
    WorkflowCtx,
    node,
)

CONCURRENCY = 256
STARTED_AT_ONCE = 250
FOREVER = 600.0

STARTS_PER_SECOND = 100
"""Runs that are held within a second at least: so long before they are due the first timers are set."""

LONGEST_SLEEP_SECONDS = 115.0
"""What is due later is left to maintenance, whoever sets it."""

T = TypeVar("T")

GO = Signal("go", int)


@node
async def wait(ctx: WorkflowCtx[Context], _: int) -> int | Hold:
    value = ctx.received(GO)
    return Hold(until=GO) if value is None else value


@node
async def sleep(due: datetime) -> datetime | Hold:
    return due if datetime.now(UTC) >= due else Hold(until_time=due)


class Waiting(Workflow[int, int]):
    start = wait
    signals = (GO,)


class Sleeping(Workflow[datetime, datetime]):
    start = sleep


app = Floxide(workflows=[Waiting, Sleeping], namespace=os.environ.get(NAMESPACE_VARIABLE, "bench"))
"""What worker processes serve; broker and store are told on their command lines."""

PATIENT = Timeouts(result_backstop=60.0)
"""Clients rely on events, or 10,000 of them would look at the store every other second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waking:
    """What was measured in one store.

    Attributes:
        what: What woke the runs.
        accepted_seconds: Until every signal was accepted; of timers 0.
        seconds: Until every run had ended.
        first_seconds: Until the first of them had.
    """

    store: str
    what: str
    runs: int
    accepted_seconds: float
    first_seconds: float
    seconds: float

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        return {
            "store": self.store, "what": self.what, "runs": self.runs,
            "accepted_seconds": round(self.accepted_seconds, 2), "first_seconds": round(self.first_seconds, 2),
            "seconds": round(self.seconds, 2), "per_second": round(self.runs / self.seconds),
        }  # fmt: skip


async def measure_waking(kind: str, runs: int) -> list[Waking]:
    """Measure both, each in a store of its own; timers also where the worker that set them is gone."""
    with own_store(kind) as store:
        signalled = await wake_by_signals(store, kind, runs)
    found = [signalled]
    for is_left in (False, True):
        with own_store(kind) as store:
            found.append(await wake_by_timers(store, kind, runs, is_left=is_left))
    return found


def application(store: OwnStore) -> Floxide:
    """Return the application with its worker in this process."""
    return Floxide(
        store=store.location, workflows=[Waiting, Sleeping], limits=Limits(concurrency=CONCURRENCY), timeouts=PATIENT
    )


def application_apart(servers: Servers) -> Floxide:
    """Return the application of a client whose workers are processes of their own."""
    return Floxide(
        servers.broker, store=servers.store, namespace=servers.namespace, workflows=[Waiting, Sleeping],
        timeouts=PATIENT,
    )  # fmt: skip


async def wake_by_signals(store: OwnStore, kind: str, runs: int) -> Waking:
    """Signal so many held runs at once."""
    async with application(store).orchestrator() as client:
        handles = await start_all(client, Waiting, list(range(runs)), f"{kind}: runs that wait")
        await until_held(client, "Waiting", runs)
        ends = asyncio.create_task(until_ended(handles, f"{kind}: signalled", list(range(1, runs + 1))))
        await asyncio.sleep(0)
        began = time.monotonic()
        report = await client.signal_many(GO, {handle.run_id: n + 1 for n, handle in enumerate(handles)})
        accepted = time.monotonic() - began
        check((report.accepted, dict(report.failures)), (runs, {}))
        first, last = await ends
    return Waking(
        store=kind, what="signals", runs=runs, accepted_seconds=accepted, first_seconds=first - began,
        seconds=last - began,
    )  # fmt: skip


async def wake_by_timers(store: OwnStore, kind: str, runs: int, *, is_left: bool) -> Waking:
    """Let so many timers be due in the same moment; `is_left` for a worker that did not set them."""
    due = datetime.now(UTC) + timedelta(seconds=min(LONGEST_SLEEP_SECONDS, 5 + runs / STARTS_PER_SECOND))
    async with application(store).orchestrator() as client:
        handles = await start_all(client, Sleeping, [due] * runs, f"{kind}: runs that sleep")
        await until_held(client, "Sleeping", runs, due)
        first, last = (0.0, 0.0) if is_left else await until_ended(handles, f"{kind}: due", [due] * runs)
    if is_left:
        async with application(store).orchestrator() as client:
            again = [client.handle(Sleeping, handle.run_id) for handle in handles]
            first, last = await until_ended(again, f"{kind}: due, set by another worker", [due] * runs)
    began = time.monotonic() - (datetime.now(UTC) - due).total_seconds()
    if first < began:
        raise RuntimeError("a timer fired before it was due")
    what = "timers of another worker" if is_left else "timers"
    return Waking(
        store=kind, what=what, runs=runs, accepted_seconds=0.0, first_seconds=first - began, seconds=last - began
    )


async def start_all(
    client: Orchestrator, workflow: type[Workflow[T, T]], inputs: Sequence[T], name: str
) -> list[RunHandle[T]]:
    """Start a run for each input."""
    handles: list[RunHandle[T]] = []
    with phase(name, len(inputs)) as on_progress:
        for first in range(0, len(inputs), STARTED_AT_ONCE):
            some = inputs[first : first + STARTED_AT_ONCE]
            handles += await client.start_many(workflow, [Start(each) for each in some])
            on_progress(len(handles))
    return handles


async def until_held(client: Orchestrator, workflow: str, runs: int, due: datetime | None = None) -> None:
    """Wait until all runs wait, which must be before they are due."""
    while True:
        if due is not None and datetime.now(UTC) > due:
            raise RuntimeError(f"{runs:,} runs cannot be held here before they are due: give fewer with --runs")
        began = time.monotonic()
        # All are counted only once none is on its way: with 100,000 of them, a count takes long.
        if not await _any_on_its_way(client, workflow) and await _count_waiting(client, workflow) == runs:
            return
        await asyncio.sleep(max(0.5, time.monotonic() - began))


async def _any_on_its_way(client: Orchestrator, workflow: str) -> bool:
    for status in (RunStatus.PENDING, RunStatus.RUNNING):
        page = await client.list_runs(status=status, workflow=workflow, limit=1)
        if page.runs:
            return True
    return False


async def _count_waiting(client: Orchestrator, workflow: str) -> int:
    waiting, cursor = 0, ""
    while True:
        page = await client.list_runs(status=RunStatus.WAITING, workflow=workflow, limit=1_000, cursor=cursor)
        waiting, cursor = waiting + len(page.runs), page.next_cursor
        if not cursor:
            return waiting


async def until_ended(handles: Sequence[RunHandle[T]], name: str, expected: Sequence[T]) -> tuple[float, float]:
    """Wait for all results and check them; return when the first and when the last of them was there."""
    done: list[float] = []
    with phase(name, len(handles)) as on_progress:

        async def one(handle: RunHandle[T], value: T) -> None:
            check(await handle.result(timeout=FOREVER), value)
            done.append(time.monotonic())
            on_progress(len(done))

        await asyncio.gather(*(one(handle, value) for handle, value in zip(handles, expected, strict=True)))
    return done[0], done[-1]


def waking_table(found: Sequence[Waking]) -> str:
    """Return the results as a table."""
    rows = [
        (
            each.store, each.what, f"{each.runs:,}", f"{each.accepted_seconds:.2f}" if each.accepted_seconds else "-",
            f"{each.first_seconds:.2f}", f"{each.seconds:.2f}", f"{each.runs / each.seconds:,.0f}",
        )
        for each in found
    ]  # fmt: skip
    return table(("store", "woken by", "runs", "accepted, s", "first went on, s", "all went on, s", "per s"), rows)
