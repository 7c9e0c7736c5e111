"""``python -m benchmarks``: measure throughput and flatness; ``throughput`` or ``flatness`` alone; ``--smoke`` for CI.

Every output is checked. Results are printed and written to benchmarks/results, except those of ``--smoke``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from benchmarks.flatness import CONCURRENCY, LIMIT, measure_flatness, ratios
from benchmarks.machine import describe_machine
from benchmarks.places import Place, all_places
from benchmarks.report import flatness_table, throughput_table, write
from benchmarks.throughput import FULL, SMOKE, measure_all

SIZES = (1_000, 10_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return 1 if something is not flat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the engine costs.")
    parser.add_argument("which", nargs="?", choices=["all", "throughput", "flatness"], default="all")
    parser.add_argument("--smoke", action="store_true", help="small sizes, no RabbitMQ, no files: under half a minute")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, interleaved (default: 3)")
    parser.add_argument("--no-rabbitmq", action="store_true", help="leave RabbitMQ out")
    options = parser.parse_args(arguments)
    return asyncio.run(measure(options))


async def measure(options: argparse.Namespace) -> int:
    began, machine = time.monotonic(), describe_machine()
    print("\n".join(f"{key}: {value}" for key, value in machine.items()), flush=True)
    code = 0
    if options.which != "flatness":
        async with all_places(with_rabbitmq=not (options.smoke or options.no_rabbitmq)) as places:
            await throughput(places, options, machine)
    if options.which != "throughput":
        code = await flatness(options, machine)
    print(f"measured in {time.monotonic() - began:.0f} s")
    return code


async def throughput(places: list[Place], options: argparse.Namespace, machine: dict[str, object]) -> None:
    print("\nthroughput", flush=True)
    rows = await measure_all(places, SMOKE if options.smoke else FULL, 1 if options.smoke else options.rounds)
    text = throughput_table(rows)
    print(f"\n{text}", flush=True)
    if not options.smoke:
        print(f"\nwritten to {write('throughput', machine, rows, text)}")


async def flatness(options: argparse.Namespace, machine: dict[str, object]) -> int:
    print("\nflatness", flush=True)
    places = [Place("in-process", store, CONCURRENCY) for store in ("memory", "sqlite")]
    if options.smoke:
        print(f"\n{flatness_table(await measure_flatness(places, (100, 500), 1))}")
        return 0
    rows = await measure_flatness(places, SIZES, options.rounds)
    text = flatness_table(rows)
    print(f"\n{text}\n\nwritten to {write('flatness', machine, rows, text)}")
    steep = [row for row in rows if max(ratios(row).values()) > LIMIT]
    for row in steep:
        print(f"not flat: {row['shape']} on {row['place']}: {ratios(row)}", file=sys.stderr)
    return 1 if steep else 0


if __name__ == "__main__":
    sys.exit(main())
