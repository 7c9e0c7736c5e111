"""``python -m benchmarks``: measure what the engine costs.

``throughput`` and ``flatness`` measure steps; without a name, both are measured. ``growth``, ``context`` and
``codecs`` measure what is stored, ``waking`` how long it takes to wake many at once, ``fan-in`` a very large fan-out
and its join, ``traces`` graphs of tasks that wait for each other, ``cancelling`` how long it takes to stop many steps
in flight, ``limits`` whether a concurrency key and a rate limit hold over several worker processes, ``profile`` where
the processor time of a step goes. ``peers`` measures
chains here and with what else one could have chosen, and fan-outs, long contexts, starts, waiting runs and recovery
here (`make bench-peers`), ``compare`` says what changed between two
files of results beyond their noise, and ``page`` makes docs/benchmarks.md. ``scaling`` predicts what more workers,
servers and queues give. ``--smoke`` is for CI. Every output is checked. Results are printed and written to
benchmarks/results, except those of ``--smoke``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cancelling, codecs, context, fan_in, growth, limits, profiling, traces, waking
from benchmarks.contest.command import COMMANDS, add_commands, run_command
from benchmarks.flatness import CONCURRENCY, LIMIT, measure_flatness, ratios
from benchmarks.machine import describe_machine
from benchmarks.own_stores import KINDS
from benchmarks.places import Place, all_places
from benchmarks.report import flatness_table, throughput_table, write
from benchmarks.scaling import add_command as add_scaling
from benchmarks.scaling import run_scaling
from benchmarks.throughput import FULL, SMOKE, measure_all
from floxide_amqp.apps.log_setup import LogLevel, set_up_logging

SIZES = (1_000, 10_000)

STEPS = ("all", "throughput", "flatness")
"""What is measured of steps."""

OTHERS = ("growth", "context", "codecs", "waking", "fan-in", "cancelling", "limits", "traces", "profile")
"""What else is measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return 1 if something is not flat."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_named = any(each in (*STEPS, *OTHERS, *COMMANDS, "scaling", "-h", "--help") for each in given[:1])
    options = parser().parse_args(given if is_named else ["all", *given])
    if options.which == "scaling":
        return run_scaling(options)
    if options.which in COMMANDS:
        return run_command(options)
    measured = {
        "growth": measure_growth, "context": measure_context, "codecs": measure_codecs, "waking": measure_waking,
        "fan-in": measure_fan_in, "cancelling": measure_cancelling,
        "limits": measure_limits, "traces": measure_traces, "profile": measure_profile,
    }  # fmt: skip
    return asyncio.run(measured.get(options.which, measure)(options))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the engine costs.")
    which = parser.add_subparsers(dest="which", metavar="WHICH", help="all, if left out")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--smoke", action="store_true", help="small sizes, no RabbitMQ, no files: under half a minute")
    rounds = argparse.ArgumentParser(add_help=False)
    rounds.add_argument("--rounds", type=int, default=3, help="how often each is measured, interleaved (default: 3)")
    stored = argparse.ArgumentParser(add_help=False)
    stored.add_argument("--json", action="store_true", help="print JSON instead of tables")
    stores = argparse.ArgumentParser(add_help=False)
    stores.add_argument(
        "--store", action="append", choices=KINDS, help="a private one of this kind; may be repeated (default: sqlite)"
    )
    texts = {"all": "throughput and flatness", "throughput": "what a step costs", "flatness": "whether that grows"}
    for name in STEPS:
        one = which.add_parser(name, parents=[common, rounds], help=texts[name])
        one.add_argument("--no-rabbitmq", action="store_true", help="leave RabbitMQ out")
    one = which.add_parser("growth", parents=[common, stored, stores], help="what many finished runs cost")
    one.add_argument("--runs", type=int, default=100_000, help="how many (default: 100,000)")
    one = which.add_parser("context", parents=[common, rounds, stored, stores], help="what a long context costs")
    one.add_argument("--events", type=int, default=50_000, help="how many (default: 50,000)")
    one.add_argument("--steps", type=int, default=5_000, help="of how many steps (default: 5,000)")
    which.add_parser("codecs", parents=[common, rounds, stored], help="what compression and encryption cost")
    one = which.add_parser("waking", parents=[common, stored, stores], help="many signals, and many timers, at once")
    one.add_argument("--runs", type=int, default=10_000, help="how many (default: 10,000)")
    one = which.add_parser("cancelling", parents=[common, stored], help="a cancel with many steps in flight")
    one.add_argument("--items", type=int, default=1_000, help="how many (default: 1,000)")
    one = which.add_parser("limits", parents=[common, stored], help="whether a key and a rate hold over three workers")
    one.add_argument(
        "--store", action="append", choices=("sqlite", "postgresql", "redis"),
        help="a private one of this kind; may be repeated (default: postgresql and redis)",
    )  # fmt: skip
    one.add_argument("--seconds", type=float, default=60.0, help="how long, about (default: 60)")
    one = which.add_parser("fan-in", parents=[common, stored], help="a very large fan-out and its join")
    one.add_argument(
        "--store", action="append", choices=fan_in.STORES,
        help="memory and sqlite are measured in one process, the others with workers apart, on RabbitMQ; may be "
        "repeated (default: sqlite)",
    )  # fmt: skip
    one.add_argument("--join", action="append", choices=fan_in.KINDS, help="may be repeated (default: both)")
    one.add_argument("--items", type=int, default=100_000, help="how many (default: 100,000)")
    one.add_argument("--workers", type=int, default=1, help="worker processes, where they are apart (default: 1)")
    one = which.add_parser("traces", parents=[common, stored], help="graphs of tasks that wait for each other")
    one.add_argument("trace", nargs="*", type=Path, help="files in WfFormat 1.5, besides a graph that is generated")
    one.add_argument(
        "--store", action="append", choices=("sqlite", "postgresql", "redis"),
        help="a private one of this kind; may be repeated (default: postgresql)",
    )  # fmt: skip
    one.add_argument("--tasks", type=int, default=2_000, help="of the generated graph (default: 2,000)")
    one.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    one = which.add_parser("profile", parents=[common, stored], help="where the processor time of a step goes (py-spy)")
    one.add_argument("--store", action="append", choices=profiling.STORES, help="may be repeated (default: postgresql)")
    one.add_argument("--steps", type=int, choices=(3, 10), default=10, help="of each run (default: 10)")
    one.add_argument("--runs", type=int, default=8_000, help="how many (default: 8,000)")
    one.add_argument("--seconds", type=float, default=8.0, help="how long to look (default: 8)")
    add_commands(which)
    add_scaling(which)
    return parser


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


async def measure_growth(options: argparse.Namespace) -> int:
    machine = begin(options)
    results: list[growth.Growth] = []
    for kind in options.store or ["sqlite"]:
        found = await growth.measure_growth(kind, 60 if options.smoke else options.runs)
        results.append(found)
        text = f"{growth.growth_table([found])}\n\n{growth.times_table([found])}\n\n{growth.kinds_table([found])}"
        keep(options, f"growth of {kind}", machine, [found.plain()], text)
    if options.json:
        print_json(machine, [found.plain() for found in results])
    else:
        print(f"\n{growth.growth_table(results)}\n\n{growth.times_table(results)}\n\n{growth.kinds_table(results)}")
    steep = [] if options.smoke else [found for found in results if found.ratio > LIMIT]
    for found in steep:
        print(f"not flat: a page of {found.store} takes {found.ratio} times as long", file=sys.stderr)
    return 1 if steep else 0


async def measure_context(options: argparse.Namespace) -> int:
    asked = (options.events, options.steps, options.rounds)
    events, steps, rounds = (400, 40, 1) if options.smoke else asked
    if not 20 <= steps <= events or events % steps:
        print("Give at least 20 steps, and as many events in each: --events is a multiple of --steps.", file=sys.stderr)
        return 2
    machine = begin(options)
    results: list[context.ContextCost] = []
    for kind in options.store or ["sqlite"]:
        found = await context.measure_context(kind, events, steps, rounds)
        results += found
        keep(options, f"context in {kind}", machine, [each.plain() for each in found], context.context_table(found))
    if options.json:
        print_json(machine, [found.plain() for found in results])
    else:
        print(f"\n{context.context_table(results)}")
    return 0


async def measure_codecs(options: argparse.Namespace) -> int:
    machine = begin(options)
    sizes, steps, rounds = ((100, 20_000), 20, 1) if options.smoke else (codecs.SIZES, codecs.STEPS, options.rounds)
    rows = await codecs.measure_codecs(sizes, steps, rounds)
    text = codecs.codecs_table(rows)
    keep(options, "codecs", machine, rows, text)
    if options.json:
        print_json(machine, rows)
    else:
        print(f"\n{text}")
    return 0


async def measure_waking(options: argparse.Namespace) -> int:
    machine = begin(options)
    results: list[waking.Waking] = []
    for kind in options.store or ["sqlite"]:
        found = await waking.measure_waking(kind, 40 if options.smoke else options.runs)
        results += found
        keep(options, f"waking in {kind}", machine, [each.plain() for each in found], waking.waking_table(found))
    if options.json:
        print_json(machine, [each.plain() for each in results])
    else:
        print(f"\n{waking.waking_table(results)}")
    return 0


async def measure_fan_in(options: argparse.Namespace) -> int:
    machine = begin(options)
    items = 200 if options.smoke else options.items
    joins = options.join or list(fan_in.KINDS)
    found = await fan_in.measure_fan_in(options.store or ["sqlite"], joins, items, options.workers)
    text = fan_in.fan_in_table(found)
    keep(options, "fan-in", machine, [each.plain() for each in found], text)
    if options.json:
        print_json(machine, [each.plain() for each in found])
    else:
        print(f"\n{text}")
    return 0


async def measure_traces(options: argparse.Namespace) -> int:
    machine = begin(options)
    generated = 60 if options.smoke else options.tasks
    found: list[traces.Traced] = []
    for store in options.store or ["postgresql"]:
        found += await traces.measure_traces(store, options.trace, generated, options.workers)
    text = traces.traces_table(found)
    keep(options, "traces", machine, [each.plain() for each in found], text)
    if options.json:
        print_json(machine, [each.plain() for each in found])
    else:
        print(f"\n{text}")
    return 0


async def measure_profile(options: argparse.Namespace) -> int:
    machine = begin(options)
    runs, seconds = (300, 1.0) if options.smoke else (options.runs, options.seconds)
    for store in options.store or ["postgresql"]:
        found = await asyncio.to_thread(profiling.measure_profile, store, options.steps, runs, seconds)
        text = profiling.profile_table(found)
        keep(options, f"profile of {store}", machine, [each.plain() for each in found], text)
        if options.json:
            print_json(machine, [each.plain() for each in found])
        else:
            print(f"\n{store}, chains of {options.steps} steps\n\n{text}")
    return 0


async def measure_cancelling(options: argparse.Namespace) -> int:
    machine = begin(options)
    found = await cancelling.measure_cancelling(30 if options.smoke else options.items)
    text = cancelling.cancelling_table(found)
    keep(options, "cancelling", machine, [found.plain()], text)
    if options.json:
        print_json(machine, [found.plain()])
    else:
        print(f"\n{text}")
    return 0


async def measure_limits(options: argparse.Namespace) -> int:
    machine = begin(options)
    stores = options.store or (["sqlite"] if options.smoke else ["postgresql", "redis"])
    found = [await limits.measure_limits(kind, 3.0 if options.smoke else options.seconds) for kind in stores]
    text = "\n\n".join((limits.limits_table(found), *map(limits.histogram, found)))
    keep(options, "limits", machine, [each.plain() for each in found], text)
    if options.json:
        print_json(machine, [each.plain() for each in found])
    else:
        print(f"\n{text}")
    broken = [each for each in found if not each.is_kept]
    for each in broken:
        print(f"a limit was broken on {each.store}: {each.plain()}", file=sys.stderr)
    return 1 if broken else 0


def begin(options: argparse.Namespace) -> dict[str, object]:
    """Say on what is measured; runs that fail as they shall are no news."""
    set_up_logging(LogLevel.ERROR)
    machine = describe_machine()
    if not options.json:
        print("\n".join(f"{key}: {value}" for key, value in machine.items()), flush=True)
    return machine


def keep(
    options: argparse.Namespace, name: str, machine: dict[str, object], rows: Sequence[dict[str, object]], text: str
) -> None:
    """Write results to benchmarks/results, but those of ``--smoke``."""
    if not options.smoke:
        print(f"written to {write(name, machine, rows, text)}", file=sys.stderr)


def print_json(machine: dict[str, object], rows: Sequence[dict[str, object]]) -> None:
    print(json.dumps({"machine": machine, "results": rows}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
