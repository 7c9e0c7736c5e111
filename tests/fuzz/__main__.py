"""``make fuzz``: rounds of the fuzz tests, each with another seed, until the time is over. A round is cut short by it.

What a round was shrinking when its time was over is in Hypothesis's database (``.hypothesis``), from which the next
run begins.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

GOODBYE_SECONDS = 10.0
"""Time a round gets to end once it is interrupted; a test deep in C code may not notice."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz for as long as the command line says, say what was done, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long in all (default 60)")
    parser.add_argument("--tests", default=str(HERE), help="the tests to play (default: all of tests/fuzz)")
    options, for_pytest = parser.parse_known_args(arguments)
    began = time.monotonic()
    until = began + options.seconds
    whole = 0
    while True:
        seed = random.randrange(2**31)
        print(f"round {whole + 1}: --hypothesis-seed={seed}", flush=True)
        code = play([options.tests, f"--hypothesis-seed={seed}", *for_pytest], until)
        if code is None or code:
            break
        whole += 1
        if time.monotonic() >= until:
            break
    print(_report(whole, code, time.monotonic() - began), flush=True)
    return code or 0


def play(arguments: Sequence[str], until: float) -> int | None:
    """Play one round; return pytest's exit code, or None where the time was over first."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:randomly", *arguments]
    environment = {"HYPOTHESIS_PROFILE": "fuzz", **os.environ}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as round_:
        try:
            return round_.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            round_.send_signal(signal.SIGINT)
        try:
            code = round_.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            round_.kill()
            return None
        return code if code == 1 else None  # 1: it failed at that very moment


def _report(whole: int, code: int | None, seconds: float) -> str:
    rounds = "1 whole round" if whole == 1 else f"{whole} whole rounds"
    if code is None:
        return f"fuzz: {rounds} and a part of one in {seconds:.0f} s, stopped by time; nothing was found."
    if code == 0:
        return f"fuzz: {rounds} in {seconds:.0f} s; nothing was found."
    return f"fuzz: {rounds}, then one that failed (above), after {seconds:.0f} s."


if __name__ == "__main__":
    sys.exit(main())
