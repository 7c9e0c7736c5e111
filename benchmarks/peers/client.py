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
from collections.abc import Iterator
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

Contestant = Awaiting | Blocking


class Client:
    """Measures one contestant."""

    def __init__(self, contestant: Contestant, arena: Arena) -> None:
        self._contestant = contestant
        self._arena = arena
        self._numbers = iter(range(1, 1_000_000_000))
        self._tallies = Path(os.environ[FOLDER_VARIABLE])

    async def warm_up(self) -> None:
        """Return once each process that shall run steps has run one."""
        until = time.monotonic() + WARM_UP_SECONDS
        processes = self._contestant.facts.processes * max(1, self._arena.workers)
        while len(counted(self._tallies)) < processes:
            if time.monotonic() > until:
                raise RuntimeError(f"only {len(counted(self._tallies))} of {processes} processes run steps")
            await self.measure(3, WARM_UP_RUNS, WARM_UP_RUNS)

    async def measure(
        self, steps: int, runs: int, in_flight: int, note_bytes: int = 0, pause: float = 0.0
    ) -> dict[str, Any]:
        """Keep so many runs in flight until all are done; check every output, and how many steps ran."""
        orders = [new_order(next(self._numbers), note_bytes, pause) for _ in range(runs)]
        before = sum(counted(self._tallies).values())
        began = time.perf_counter()
        outputs = await drive(self._contestant, orders, steps, in_flight)
        seconds = time.perf_counter() - began
        for order, output in zip(orders, outputs, strict=True):
            check(order, steps, output)
        return {"seconds": seconds, "bodies": self._bodies(before, steps * runs)}

    async def measure_idle(self, steps: int, runs: int) -> dict[str, Any]:
        """Start one run after the other, with nothing else in flight; return how long each took."""
        before, took = sum(counted(self._tallies).values()), list[float]()
        for order in [new_order(next(self._numbers)) for _ in range(runs)]:
            began = time.perf_counter()
            (output,) = await drive(self._contestant, [order], steps, 1)
            took.append(time.perf_counter() - began)
            check(order, steps, output)
        return {"seconds": took, "bodies": self._bodies(before, steps * runs)}

    def _bodies(self, before: int, expected: int) -> int:
        """Return how many bodies ran; a step that was repeated is counted, one that is missing is an error."""
        found = sum(counted(self._tallies).values()) - before
        if found < expected:
            raise AssertionError(f"{found} bodies of steps ran instead of {expected}")
        return found


async def drive(contestant: Contestant, orders: list[Order], steps: int, in_flight: int) -> list[Order]:
    """Run all orders with so many in flight; return their outputs in their order."""
    if isinstance(contestant, Asking):
        contestant.in_flight = in_flight
    if isinstance(contestant, Awaiting):
        return await _drive_awaiting(contestant, orders, steps, in_flight)
    return _drive_blocking(contestant, orders, steps, in_flight)


async def _drive_awaiting(contestant: Awaiting, orders: list[Order], steps: int, in_flight: int) -> list[Order]:
    outputs: dict[int, Order] = {}

    async def slot(waiting: Iterator[Order]) -> None:
        for order in waiting:
            outputs[order.number] = await contestant.run(order, steps)

    waiting = iter(orders)
    async with asyncio.TaskGroup() as slots:
        for _ in range(min(in_flight, len(orders))):
            slots.create_task(slot(waiting))
    return [outputs[order.number] for order in orders]


def _drive_blocking(contestant: Blocking, orders: list[Order], steps: int, in_flight: int) -> list[Order]:
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
