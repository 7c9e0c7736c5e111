"""Chains and fan-outs on every queue and store: what a step costs, what a run takes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.places import Place
from benchmarks.workflows import Chain3, Chain10, FanOut
from floxide_amqp import Orchestrator, Start

RUNS_AT_ONCE = 50


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes:
        steps: Steps that one measurement commits.
        measure: Runs it, checks every output, and raises if one is wrong.
    """

    name: str
    steps: int
    measure: Callable[[Orchestrator], Awaitable[None]]


def chain_of(workflow: type[Chain3 | Chain10], length: int, runs: int) -> Case:
    """`runs` runs of a chain, at most `RUNS_AT_ONCE` at a time; ``runs`` 1 is the latency of one."""

    async def measure(orchestrator: Orchestrator) -> None:
        for first in range(0, runs, RUNS_AT_ONCE):
            numbers = range(first, min(first + RUNS_AT_ONCE, runs))
            handles = await orchestrator.start_many(workflow, [Start(number) for number in numbers])
            outputs = await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
            check(outputs, [number + length for number in numbers])

    return Case(f"chain of {length}, {runs} run{'s' if runs > 1 else ''}", length * runs, measure)


def fan_out_of(items: int) -> Case:
    """One run that fans out and joins."""

    async def measure(orchestrator: Orchestrator) -> None:
        handle = await orchestrator.start(FanOut, items)
        check(await handle.result(timeout=120), items * (items - 1))

    return Case(f"fan-out of {items:,}", items + 2, measure)


def check(output: object, expected: object) -> None:
    if output != expected:
        raise AssertionError(f"the benchmark computed {output!r} instead of {expected!r}")


FULL = (chain_of(Chain3, 3, 1), chain_of(Chain10, 10, 1), chain_of(Chain3, 3, 100), chain_of(Chain10, 10, 100),
        fan_out_of(100), fan_out_of(1_000))  # fmt: skip
SMOKE = (chain_of(Chain3, 3, 1), chain_of(Chain10, 10, 10), fan_out_of(100))


async def measure_all(places: list[Place], cases: tuple[Case, ...], rounds: int) -> list[dict[str, object]]:
    """Measure every case in every place, `rounds` times, interleaved, after one round that does not count."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for place in places:
            async with place.open() as orchestrator:
                for case in cases:
                    began = time.perf_counter()
                    await case.measure(orchestrator)
                    if number:
                        seconds.setdefault((place.name, case.name), []).append(time.perf_counter() - began)
        print(f"  round {number} of {rounds}{'' if number else ' (warm-up)'}", flush=True)
    return [_row(place, case, seconds[place.name, case.name]) for place in places for case in cases]


def _row(place: Place, case: Case, seconds: list[float]) -> dict[str, object]:
    middle = statistics.median(seconds)
    return {
        "place": place.name, "case": case.name, "steps": case.steps, "rounds": len(seconds),
        "median_ms": round(middle * 1e3, 2), "least_ms": round(min(seconds) * 1e3, 2),
        "most_ms": round(max(seconds) * 1e3, 2), "us_per_step": round(middle / case.steps * 1e6, 1),
        "steps_per_second": round(case.steps / middle),
    }  # fmt: skip
