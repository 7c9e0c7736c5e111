"""Single claims about recovery, each shown with its figures: ``python -m tests.chaos NAME``.

A scenario prints what it saw and what it claims, and fails where a claim does not hold.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.exceptions import ChannelClosed

from floxide_amqp import Orchestrator, Start, Timeouts
from tests.chaos.application import TIMES_VARIABLE, OrderContext, Orders, Place, Sleeping, Waiting, application
from tests.chaos.checker import check
from tests.chaos.conductor import WINDOW, Feeder, Tally, baseline, close, settle
from tests.chaos.ledger import Entry, read_ledger
from tests.chaos.orders import SLOW_FROM, customer_of, order_of
from tests.chaos.stage import Stage, staged
from tests.chaos.store_faults import disk_full, store_away

SHOWN = 20
LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 300.0
WITHOUT_BACKLOG = 24
"""Open runs that leave slots free, so that what is measured is recovery and not the wait in a queue."""

KEEP = bool(os.environ.get("FLOXIDE_CHAOS_KEEP"))
"""Whether folders with logs and ledgers are left."""


class Claims:
    """What a scenario says, and whether it holds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.broken = 0

    def now(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        print(f"[{self.now():7.1f} s] {text}", flush=True)

    def claim(self, holds: bool, text: str) -> None:
        self.broken += not holds
        self.say(f"{'holds ' if holds else 'BROKEN'}  {text}")


Scenario = Callable[[int, Claims], Awaitable[None]]
"""Plays with a seed, and says what it saw."""


@asynccontextmanager
async def clientele(stage: Stage) -> AsyncGenerator[Orchestrator]:
    """An orchestrator of this process, straight at the broker."""
    async with application(Place(stage.broker.url, stage.store, stage.folder)).orchestrator() as orchestrator:
        yield orchestrator


async def start_orders(orchestrator: Orchestrator, seed: int, numbers: Iterable[int], *, batch: int = 100) -> None:
    starts = [
        Start(order_of(seed, number), OrderContext(customer=customer_of(number)), f"order-{number}")
        for number in numbers
    ]
    for first in range(0, len(starts), batch):
        await orchestrator.start_many(Orders, starts[first : first + batch])


async def until(holds: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - other processes make it so
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def finish(stage: Stage, claims: Claims, *, fresh: dict[str, Any]) -> int:
    """Wait for quiet, end all, check, and claim that nothing was violated; return how many bodies were repeated."""
    tally = Tally()
    if KEEP:
        claims.say(f"kept in {stage.folder}")
    claims.claim(await settle(stage, tally), f"all quiet, {tally.quiet_after_seconds:.1f} s later")
    await close(stage, fresh)
    findings = await asyncio.to_thread(check, stage.folder)
    for violation in findings.violations[:SHOWN]:
        claims.say(str(violation))
    for line in findings.lines():
        claims.say(line)
    claims.claim(not findings.violations, "the checker finds nothing lost, duplicated, wrong or leaked")
    return findings.repeated_bodies


@asynccontextmanager
async def load(stage: Stage, *, first: int = 0, window: int = WINDOW) -> AsyncGenerator[Tally]:
    """Keep the client starting runs while the block lasts, so that so many are open."""
    tally = Tally(fed=first)
    feeder = asyncio.create_task(Feeder(stage, tally, window).run())
    try:
        yield tally
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)


# --- the broker


async def wiped_broker(seed: int, claims: Claims, *, runs: int = 1_100, least_open: int = 1_000) -> None:
    """The broker's data directory is deleted with 1,000 runs open."""
    async with staged(seed, workers=3, client=False, starts=False) as stage:
        async with clientele(stage) as orchestrator:
            await start_orders(orchestrator, seed, range(runs))
        claims.say(f"{runs:,} runs started, no worker yet")
        await asyncio.gather(*(slot.open() for slot in stage.workers))
        await until(lambda: stage.reader.open_runs() < runs - 20, 60)
        began = time.monotonic()
        wiped = asyncio.create_task(asyncio.to_thread(stage.broker.wipe))
        open_runs = await asyncio.to_thread(stage.reader.open_runs)
        await wiped
        back = time.monotonic()
        claims.say(f"wiped with {open_runs:,} runs open; the broker was down for {back - began:.1f} s")
        claims.claim(open_runs >= least_open, f"at least {least_open:,} runs were open")
        left = await _drained(stage, claims, back)
        over = time.monotonic()
        times = f"{over - began:.1f} s after the wipe, {over - back:.1f} s after the broker was back"
        claims.claim(left == 0, f"all completed {times}")
        await finish(stage, claims, fresh=await baseline(stage))


async def _drained(stage: Stage, claims: Claims, since: float) -> int:
    """Wait until no run is open, or for too long; return how many are."""
    while left := await asyncio.to_thread(stage.reader.open_runs):
        await asyncio.sleep(LOOK_SECONDS)
        claims.say(f"{left:,} open {time.monotonic() - since:.0f} s after the broker was back")
        if time.monotonic() - since > PATIENCE_SECONDS:
            break
    return left


ACK_TIMEOUT_MS = 60_000
LONG_SECONDS = 150.0
NEIGHBOURS_SECONDS = (3.0, 10.0, 40.0, 90.0)


async def ack_timeout(seed: int, claims: Claims) -> None:
    """A node takes 150 s while the broker takes messages back that are not acknowledged within 60 s."""
    configuration = f"consumer_timeout = {ACK_TIMEOUT_MS}"
    with default_times():
        await _ack_timeout(seed, claims, configuration)


async def _ack_timeout(seed: int, claims: Claims, configuration: str) -> None:
    async with staged(seed, workers=1, client=False, configuration=configuration) as stage:
        control = asyncio.create_task(_hold_a_message(stage))
        async with clientele(stage) as orchestrator:
            long = await orchestrator.start(Sleeping, LONG_SECONDS, context=OrderContext(customer="c"), run_id="long-0")
            count = 0
            while not (await long.status()).is_terminal:
                for seconds in NEIGHBOURS_SECONDS:
                    count += 1
                    await orchestrator.start(
                        Sleeping, seconds, context=OrderContext(customer="c"), run_id=f"neighbour-{count}"
                    )
                await asyncio.sleep(20)
            ids = ["long-0", *(f"neighbour-{number}" for number in range(1, count + 1))]
            for run_id in ids:
                await orchestrator.wait(run_id, 120)
            statuses = Counter([(await orchestrator.status(run_id)).value for run_id in ids])
            completed = {run_id: (await orchestrator.metrics(run_id)).completed_items for run_id in ids}
        bodies = Counter(entry.run_id for entry in read_ledger(stage.folder) if entry.what == "begin")
        log = (stage.folder / "logs" / f"{stage.workers[0].process_name}.log").read_text()
        held = await control
        claims.claim(
            held is not None, f"a message held without acknowledgement lost its channel after {held or 0:.0f} s"
        )
        claims.claim(
            statuses == {"completed": len(ids)}, f"a step of {LONG_SECONDS:g} s and {count} neighbours: {statuses}"
        )
        claims.claim(set(completed.values()) == {1}, "each has exactly one completion")
        repeated = {run_id: bodies[run_id] for run_id in ids if bodies[run_id] != 1}
        claims.claim(not repeated, f"each body ran exactly once {repeated or ''}")
        claims.claim("channel_closed" not in log, "the worker's channel was never closed")


async def _hold_a_message(stage: Stage) -> float | None:
    """Shows that the broker's timeout bites: hold a message and return after how long the channel was closed."""
    connection = await aio_pika.connect(stage.broker.url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("control-experiment", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"hold me"), queue.name)
        closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        began = time.monotonic()

        def note(*_: object) -> None:
            if not closed.done():
                closed.set_result(time.monotonic() - began)

        channel.close_callbacks.add(note)

        async def never(_: object) -> None:
            await asyncio.sleep(3_600)

        await queue.consume(never)
        try:
            async with asyncio.timeout(LONG_SECONDS):
                return await closed
        except (TimeoutError, ChannelClosed):
            return None


# --- one worker of several


@contextmanager
def default_times() -> Iterator[None]:
    """Give the processes the times and settings that users get."""
    os.environ[TIMES_VARIABLE] = "default"
    try:
        yield
    finally:
        del os.environ[TIMES_VARIABLE]


async def sigterm(seed: int, claims: Claims) -> None:
    """Workers under load are told to stop, one after the other."""
    with default_times():
        async with staged(seed, workers=3, keep=KEEP) as stage:
            fresh = await baseline(stage)
            async with load(stage, first=SLOW_FROM):
                for slot in (*stage.workers[1:], stage.workers[1]):
                    await asyncio.sleep(8)
                    in_hand = (await slot.report())["in_flight"]
                    name, generation, began = slot.process_name, slot.generation, time.monotonic()
                    slot.send(signal.SIGTERM)
                    code = await slot.ended(generation)
                    took = time.monotonic() - began
                    claims.say(f"SIGTERM to {name} with {in_hand} steps in hand: exit code {code} after {took:.1f} s")
                    claims.claim(in_hand > 0 and code == 0, "it was at work, and its exit code is 0")
                    claims.claim(took < Timeouts().drain, f"it drained within its grace of {Timeouts().drain:g} s")
                    await slot.ready()
            repeated = await finish(stage, claims, fresh=fresh)
            claims.claim(repeated == 0, f"{repeated} bodies ran twice")


async def sigkill(seed: int, claims: Claims) -> None:
    """A worker under load is killed; others on the same machine find out."""
    with default_times():
        async with staged(seed, workers=3, keep=KEEP) as stage:
            fresh = await baseline(stage)
            async with load(stage, first=SLOW_FROM, window=WITHOUT_BACKLOG):
                await asyncio.sleep(12)
                slot = stage.workers[1]
                name, killed_ms = slot.process_name, time.time_ns() // 1_000_000
                slot.send(signal.SIGKILL)
                await asyncio.sleep(20)
            await finish(stage, claims, fresh=fresh)
            waits = taken_over(read_ledger(stage.folder), name, killed_ms)
            claims.say(f"SIGKILL to {name}; {_spread(waits)}")
            claims.claim(bool(waits) and max(waits) < Timeouts().dead_after, "all of them within the lease")


SUSPENSION_SECONDS = 40.0


async def sigstop(seed: int, claims: Claims) -> None:
    """A worker under load is suspended for longer than its lease, and goes on as if nothing had been."""
    with default_times():
        async with staged(seed, workers=3, keep=KEEP) as stage:
            fresh = await baseline(stage)
            async with load(stage, first=SLOW_FROM, window=WITHOUT_BACKLOG):
                await asyncio.sleep(12)
                slot = stage.workers[1]
                name, stopped_ms = slot.process_name, time.time_ns() // 1_000_000
                slot.send(signal.SIGSTOP)
                await asyncio.sleep(SUSPENSION_SECONDS)
                log = stage.folder / "logs" / f"{name}.log"
                refused = _refused(log)
                slot.send(signal.SIGCONT)
                continued_ms = time.time_ns() // 1_000_000
                await asyncio.sleep(10)
            stage.suspended_ms = round(SUSPENSION_SECONDS * 1000)
            await finish(stage, claims, fresh=fresh)
            entries = list(read_ledger(stage.folder))
            waits = taken_over(entries, name, stopped_ms)
            claims.say(f"SIGSTOP to {name} for {SUSPENSION_SECONDS:g} s; {_spread(waits)}")
            late = _late_ends(entries, name, stopped_ms, continued_ms)
            refused = _refused(log) - refused
            claims.claim(
                len(late) > 0, f"{len(late)} of its bodies ended after it went on, though others had taken over"
            )
            claims.claim(refused >= len(late), f"{refused} of its late commits were refused")


def _refused(log: Path) -> int:
    return sum("step.discarded" in line for line in log.read_text().splitlines())


def taken_over(entries: Iterable[Entry], process: str, at_ms: int) -> list[float]:
    """Seconds until each item that a process had begun and not ended at a time was begun by another."""
    in_hand: dict[tuple[str, str], int] = defaultdict(int)
    begun: dict[tuple[str, str], float] = {}
    for entry in sorted(entries, key=lambda entry: entry.at_ms):
        key, is_own = (entry.run_id, entry.item_id), entry.process.startswith(f"{process}-")
        if entry.at_ms <= at_ms and is_own:
            in_hand[key] += 1 if entry.what == "begin" else -1
        elif entry.what == "begin" and not is_own and in_hand.get(key, 0) > 0 and key not in begun:
            begun[key] = (entry.at_ms - at_ms) / 1000
    return [begun[key] for key, count in in_hand.items() if count > 0 and key in begun]


def _late_ends(entries: Iterable[Entry], process: str, stopped_ms: int, continued_ms: int) -> list[Entry]:
    """The ends, after it went on, of bodies it had begun before, and another process has begun meanwhile."""
    entries = list(entries)
    own = [entry for entry in entries if entry.process.startswith(f"{process}-")]
    before = Counter(_body(entry) for entry in own if entry.at_ms <= stopped_ms)
    meanwhile = {
        _body(entry) for entry in entries
        if entry.what == "begin" and not entry.process.startswith(f"{process}-")
        and stopped_ms <= entry.at_ms <= continued_ms
    }  # fmt: skip
    return [
        entry for entry in own
        if entry.what == "end" and entry.at_ms >= continued_ms and before[_body(entry)] == 1
        and _body(entry) in meanwhile
    ]  # fmt: skip


def _body(entry: Entry) -> tuple[str, str, int]:
    return entry.run_id, entry.item_id, entry.attempt


def _spread(waits: list[float]) -> str:
    if not waits:
        return "it had nothing in hand"
    middle, longest = statistics.median(waits), max(waits)
    return f"{len(waits)} steps in its hands began elsewhere after {middle:.1f} s (median), {longest:.1f} s at most"


# --- waiting

COUNTS = (10_000, 50_000, 100_000)
IDLE_SECONDS = 20.0
START_BATCH = 500
START_AHEAD = 3_000


async def waiting(seed: int, claims: Claims, *, counts: Sequence[int] = COUNTS) -> None:
    """One worker while many runs wait for an hour: half of them held, half of them to be retried."""
    with default_times():
        async with staged(seed, workers=1, client=False, through_proxies=False) as stage:
            async with clientele(stage) as orchestrator:
                shown = {0: await _idle(stage, claims, 0)}
                for count in counts:
                    await _wait_for_an_hour(stage, orchestrator, max(shown), count)
                    shown[count] = await _idle(stage, claims, count)
            statuses = Counter(item.status for run in stage.reader.runs() for item in run.items.values())
            least, most = counts[0], counts[-1]
            claims.claim(
                statuses == {"held": most // 2, "waiting retry": most // 2}, f"items by status: {dict(statuses)}"
            )
            grown = shown[most][0] - shown[least][0]
            claims.claim(grown < 10_000, f"from {least:,} to {most:,} waiting runs it grew by {grown / 1024:.1f} MiB")
            busier = shown[most][1] - shown[0][1]
            claims.claim(
                busier < 0.03, f"{most:,} waiting runs cost {100 * busier:.1f} % of a processor more than none"
            )


async def _wait_for_an_hour(stage: Stage, orchestrator: Orchestrator, first: int, count: int) -> None:
    for number in range(first, count, START_BATCH):
        starts = [
            Start(n, OrderContext(customer="c"), f"waiting-{n}")
            for n in range(number, min(count, number + START_BATCH))
        ]
        await orchestrator.start_many(Waiting, starts)
        await until(lambda n=number: _timers(stage) >= n - START_AHEAD, 300)
    await until(lambda: _timers(stage) == count, 600)


def _timers(stage: Stage) -> int:
    return stage.reader.left_over().get("timers", 0)


async def _idle(stage: Stage, claims: Claims, count: int) -> tuple[int, float]:
    """Resident KiB and processor share of the worker while nothing happens."""
    await asyncio.sleep(5)
    before = await stage.workers[0].report()
    await asyncio.sleep(IDLE_SECONDS)
    after = await stage.workers[0].report()
    share = (after["cpu_seconds"] - before["cpu_seconds"]) / IDLE_SECONDS
    resident = after["resident_kib"]
    claims.say(f"{count:>7,} runs wait: {resident / 1024:6.1f} MiB resident, {100 * share:4.1f} % of a processor")
    return resident, share


# --- the store


async def fill_disk(seed: int, claims: Claims) -> None:
    """The store's disk is full for a while, under load."""
    await _store_fault(seed, claims, disk_full)


async def store_gone(seed: int, claims: Claims) -> None:
    """Another process holds the store for 30 s, under load."""
    await _store_fault(seed, claims, store_away)


async def _store_fault(seed: int, claims: Claims, fault: Callable[[Stage, random.Random], Awaitable[str]]) -> None:
    async with staged(seed, workers=3, keep=KEEP) as stage:
        stage.duration = 600.0
        fresh = await baseline(stage)
        pids = [slot.pid for slot in stage.workers]
        async with load(stage):
            await asyncio.sleep(10)
            began_ms = time.time_ns() // 1_000_000
            told = await fault(stage, random.Random(seed))
            over_ms = time.time_ns() // 1_000_000
            claims.say(told)
            await asyncio.sleep(10)
        claims.claim(pids == [slot.pid for slot in stage.workers], "no worker ended because of it")
        await finish(stage, claims, fresh=fresh)
        ends = sorted(run.finished_at_ms for run in stage.reader.runs() if run.finished_at_ms)
        before = sum(began_ms - 10_000 <= at < began_ms for at in ends) / 10
        after = sum(over_ms <= at < over_ms + 10_000 for at in ends) / 10
        first = next((at for at in ends if at >= over_ms), 0) - over_ms
        during = sum(began_ms <= at < over_ms for at in ends)
        claims.say(f"runs ended per second: {before:.0f} before, {after:.0f} after; {during} in all while it lasted")
        claims.claim(0 <= first < 5_000, f"the first run ended {first / 1000:.1f} s after the store was back")


SCENARIOS: dict[str, Scenario] = {
    "wiped-broker": wiped_broker,
    "ack-timeout": ack_timeout,
    "sigterm": sigterm,
    "sigkill": sigkill,
    "sigstop": sigstop,
    "waiting": waiting,
    "fill-disk": fill_disk,
    "store-away": store_gone,
}


async def play(name: str, seed: int) -> int:
    """Play one scenario; return the exit code."""
    claims = Claims()
    scenario = SCENARIOS[name]
    print(f"{name}: {(scenario.__doc__ or '').strip()}", flush=True)
    await scenario(seed, claims)
    claims.say("all claims hold" if not claims.broken else f"{claims.broken} claims are broken")
    return 1 if claims.broken else 0
