"""``python -m tests.chaos --duration 600 --seed 1``: chaos, then the check. Exits with 0 if nothing was violated."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Collection

from tests.chaos.checker import check
from tests.chaos.conductor import baseline, broken_off, close, conduct, settle
from tests.chaos.plan import KINDS, make_plan
from tests.chaos.scenarios import SCENARIOS, play
from tests.chaos.stage import staged
from tests.chaos.stores import KINDS_OF_STORE, SQLITE

SHOWN = 30
SMOKE_SECONDS = 30.0


async def chaos(
    seed: int, duration: float, *, workers: int, keep: bool, store: str = SQLITE, tracks: Collection[str] = ()
) -> int:
    """Run the chaos and check what is left; return the exit code."""
    plan = make_plan(seed, duration, store, tracks)
    kinds = len({fault.kind for fault in plan})
    print(f"seed {seed}, {store}, {duration:g} s, {len(plan)} faults of {kinds} kinds, {workers} workers", flush=True)
    async with staged(seed, workers=workers, keep=keep, store=store) as stage:
        print(f"folder {stage.folder}, disk limited: {stage.disk.is_limited}", flush=True)
        fresh = await baseline(stage)
        tally = await conduct(stage, plan, duration)
        lasted = tally.now()
        is_quiet = await settle(stage, tally)
        await close(stage, fresh)
        ended = broken_off(stage)
        began = time.monotonic()
        findings = await asyncio.to_thread(check, stage.folder)
        checked = time.monotonic() - began
    for violation in findings.violations[:SHOWN]:
        print(violation)
    if len(findings.violations) > SHOWN:
        print(f"… and {len(findings.violations) - SHOWN} more")
    print("faults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(tally.done.items())))
    for failure in tally.failed:
        print(f"injected at a later try: {failure}")
    print(
        f"seed {seed}: {sum(tally.done.values())} faults of {len(tally.done)} kinds in {lasted:.0f} s, quiet "
        f"{tally.quiet_after_seconds:.0f} s after the last, checked in {checked:.1f} s"
    )
    for line in findings.lines():
        print(line)
    for line in findings.table():
        print(line)
    if ended:
        print(f"ended by themselves, and were started again: {', '.join(ended)}")
    for kind, reason in tally.impossible.items():
        print(f"not possible here: {kind}: {reason}")
    for fault in tally.given_up:
        print(f"never injected: {fault.kind}, due {fault.at_seconds} s")
    return 1 if findings.violations or findings.uncovered or tally.given_up or not is_quiet else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS, help="one scenario instead")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--store", choices=KINDS_OF_STORE, default=SQLITE, help="where the runs are")
    tracks = sorted({kind.track for kinds in KINDS.values() for kind in kinds})
    parser.add_argument("--tracks", nargs="+", choices=tracks, default=(), help="only the faults of these tracks")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_SECONDS:g} s, for CI")
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs, ledger and evidence")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.CRITICAL)  # what the parts complain about is in their own files
    if options.scenario and options.store != SQLITE:
        parser.error("scenarios are played on a SQLite file")
    if options.scenario:
        return asyncio.run(play(options.scenario, options.seed))
    duration = SMOKE_SECONDS if options.smoke else options.duration
    return asyncio.run(
        chaos(
            options.seed, duration, workers=options.workers, keep=options.keep, store=options.store,
            tracks=options.tracks,
        )
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
