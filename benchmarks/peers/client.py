"""The client of one contestant: ``python -m benchmarks.peers.client NAME``.

It starts the contestant's processes, waits until all of them have run a step, says so, and then takes one question per
line on standard input and answers each with one line on standard output.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.loops import run
from benchmarks.peers.arena import Arena, Asking, Awaiting, Blocking
from benchmarks.peers.payload import Order, check, new_order
from benchmarks.peers.tally import FOLDER_VARIABLE, counted

WARM_UP_SECONDS = 120.0
"""Longest time until every process has run a step."""

WARM_UP_RUNS = 20

MOST_THREADS = 32

Contestant = Awaiting | Blocking


class Client:
    """Measures one contestant."""

    def __init__(self, contestant: Contestant, arena: Arena) -> None:
        self._contestant = contestant
        self._arena = arena
        self._numbers = iter(range(1, 1_000_000_000))
        self._tallies = Path(os.environ[FOLDER_VARIABLE])
        # The same threads all the time: connections are kept by thread.
        self._threads = ThreadPoolExecutor(MOST_THREADS)

    async def warm_up(self) -> None:
        """Return once each process that shall run steps has run one."""
        until = time.monotonic() + WARM_UP_SECONDS
        await self.measure(3, 1, 1)  # alone: what is made when it is first used is not made by many threads at once
        processes = self._contestant.facts.processes * max(1, self._arena.workers)
        while len(counted(self._tallies)) < processes:
            if time.monotonic() > until:
                raise RuntimeError(f"only {len(counted(self._tallies))} of {processes} processes run steps")
            await self.measure(3, WARM_UP_RUNS, WARM_UP_RUNS)

    async def measure(
        self, steps: int, runs: int, in_flight: int, note_bytes: int = 0, pause: float = 0.0
    ) -> dict[str, Any]:
        """Keep so many runs in flight until all are done; check every output, and how many steps ran.

        Making and checking orders is in neither the seconds nor the processor time.
        """
        orders = [new_order(next(self._numbers), note_bytes, pause) for _ in range(runs)]
        before = sum(counted(self._tallies).values())
        began, processor = time.perf_counter(), time.process_time()
        outputs = await drive(self._contestant, orders, steps, in_flight, self._threads)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        for order, output in zip(orders, outputs, strict=True):
            check(order, steps, output)
        return {"seconds": seconds, "processor_seconds": processor, "bodies": self._bodies(before, steps * runs)}

    async def measure_idle(self, steps: int, runs: int) -> dict[str, Any]:
        """Start one run after the other, with nothing else in flight; return how long each took."""
        before, took, processor = sum(counted(self._tallies).values()), list[float](), 0.0
        for order in [new_order(next(self._numbers)) for _ in range(runs)]:
            began, had = time.perf_counter(), time.process_time()
            (output,) = await drive(self._contestant, [order], steps, 1, self._threads)
            took.append(time.perf_counter() - began)
            processor += time.process_time() - had
            check(order, steps, output)
        return {"seconds": took, "processor_seconds": processor, "bodies": self._bodies(before, steps * runs)}

    def _bodies(self, before: int, expected: int) -> int:
        """Return how many bodies ran; a step that was repeated is counted, one that is missing is an error."""
        found = sum(counted(self._tallies).values()) - before
        if found < expected:
            raise AssertionError(f"{found} bodies of steps ran instead of {expected}")
        return found


async def drive(
    contestant: Contestant, orders: list[Order], steps: int, in_flight: int, threads: Executor | None = None
) -> list[Order]:
    """Run all orders with so many in flight; return their outputs in their order.

    Args:
        threads: Those of a client that blocks, for one that may have several; without them it has one.
    """
    in_flight = min(in_flight, len(orders))
    count = min(in_flight, contestant.client_threads) if isinstance(contestant, Blocking) and threads else 1
    if isinstance(contestant, Asking):
        contestant.in_flight = in_flight
    if isinstance(contestant, Awaiting):
        return await _drive_awaiting(contestant, orders, steps, in_flight)
    if threads is None or count == 1:
        return _drive_blocking(contestant, orders, steps, in_flight)
    return _drive_threads(contestant, orders, steps, in_flight, threads, count)


async def _drive_awaiting(contestant: Awaiting, orders: list[Order], steps: int, in_flight: int) -> list[Order]:
    outputs: dict[int, Order] = {}

    async def slot(waiting: Iterator[Order]) -> None:
        for order in waiting:
            outputs[order.number] = await contestant.run(order, steps)

    waiting = iter(orders)
    async with asyncio.TaskGroup() as slots:
        for _ in range(in_flight):
            slots.create_task(slot(waiting))
    return [outputs[order.number] for order in orders]


def _drive_threads(
    contestant: Blocking, orders: list[Order], steps: int, in_flight: int, threads: Executor, count: int
) -> list[Order]:
    """Each of so many threads has its share of the orders, and of how many are in flight."""
    shares = [in_flight // count + (number < in_flight % count) for number in range(count)]
    driven = [
        threads.submit(_drive_blocking, contestant, orders[number::count], steps, share)
        for number, share in enumerate(shares)
    ]
    outputs = list(orders)
    for number, each in enumerate(driven):
        outputs[number::count] = each.result()
    return outputs


def _drive_blocking(contestant: Blocking, orders: Sequence[Order], steps: int, in_flight: int) -> list[Order]:
    """The oldest run is waited for; then the next one is started."""
    flying, outputs = deque[Any](), list[Order]()
    for order in orders:
        if len(flying) >= in_flight:
            outputs.append(contestant.result(flying.popleft()))
        flying.append(contestant.start(order, steps))
    return outputs + [contestant.result(each) for each in flying]


async def main(name: str, questions: Any, answers: Any) -> None:
    """Serve questions until there are no more."""
    module, _, variant = name.partition("-")
    arena = Arena.given()
    contestant: Contestant = importlib.import_module(f"benchmarks.peers.{module}").CONTESTANTS[variant](arena)

    def answer(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        await _maybe(contestant.open())
        client = Client(contestant, arena)
        await client.warm_up()
        facts = contestant.facts
        answer({"facts": asdict(facts) | {"versions": {each: version(each) for each in facts.packages}}})
        while line := await asyncio.to_thread(questions.readline):
            asked = json.loads(line)
            kind = asked.pop("kind")
            answer(await (client.measure_idle(**asked) if kind == "idle" else client.measure(**asked)))
    except Exception as error:
        answer({"error": repr(_first(error))})
        raise
    finally:
        await _maybe(contestant.close())


def _first(error: Exception) -> Exception:
    """Return the error itself, or the first one of a group: a thousand runs fail for the same reason."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _maybe(closing: Any) -> None:
    if closing is not None:
        await closing


def _answers() -> Any:
    """Keep standard output for the answers; whatever else prints goes to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


if __name__ == "__main__":
    run(main(sys.argv[1], sys.stdin, _answers()))
