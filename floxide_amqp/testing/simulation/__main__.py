"""Plays many seeds, in parallel processes, and says what they came to.

``--seed 1234 --trace`` plays one and tells its story.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from floxide_amqp.testing.simulation.faults import KINDS
from floxide_amqp.testing.simulation.parallel import play_all
from floxide_amqp.testing.simulation.report import Totals, describe_failure
from floxide_amqp.testing.simulation.seeds import play_seed

DEFAULT_SEEDS = 200
DEFAULT_PROCESSES = 2
MOST_FAILURES = 20
"""Seeds that may fail before the rest is left: more say nothing new."""

PROGRESS_SECONDS = 5.0
"""Between two lines about how far it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play seeds; return 0 if nothing was violated, else 1."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _play_one(options.seed, options.only, is_told=options.trace)
    began = time.monotonic()
    totals = Totals()
    told_at = began
    seeds = range(options.start, options.start + options.seeds)
    for played in play_all(seeds, options.processes, options.only):
        totals.add(played)
        if played.violations:
            print(describe_failure(played), flush=True)  # noqa: T201 - what a command line is for
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            print(f"{totals.seeds:,} of {options.seeds:,} seeds", file=sys.stderr, flush=True)  # noqa: T201 - the same
        if len(totals.failures) >= options.most_failures:
            print(f"stopped after {len(totals.failures)} failing seeds", flush=True)  # noqa: T201 - the same
            break
    print(totals.summary(time.monotonic() - began))  # noqa: T201 - the same
    return 1 if totals.failures else 0


def _play_one(seed: int, only: Sequence[str] | None, *, is_told: bool) -> int:
    played = play_seed(seed, is_told=is_told, kinds=only)
    for line in played.lines:
        print(line)  # noqa: T201 - what a command line is for
    print(f"seed {seed}: {played.seconds:.1f} s of virtual time, hash {played.digest}")  # noqa: T201 - the same
    print(f"faults: {dict(sorted(played.faults.items()))}")  # noqa: T201 - the same
    for violation in played.violations:
        print(f"VIOLATION {violation}")  # noqa: T201 - the same
    return 1 if played.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m floxide_amqp.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=DEFAULT_PROCESSES, help="how many play side by side")
    parser.add_argument("--most-failures", type=int, default=MOST_FAILURES, help="failing seeds after which to stop")
    parser.add_argument("--only", action="append", choices=sorted(KINDS), help="a kind of fault that may happen")
    parser.add_argument("--seed", type=int, help="play only this one")
    parser.add_argument("--trace", action="store_true", help="tell its story")
    return parser


if __name__ == "__main__":
    sys.exit(main())
