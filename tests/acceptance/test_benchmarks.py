from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.flatness import tenths

ROOT = Path(__file__).parents[2]


def test_the_benchmarks_run_in_small_and_check_their_outputs() -> None:
    before = sorted((ROOT / "benchmarks" / "results").glob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| in-process, sqlite | fan-out of 100" in done.stdout
    assert "| in-process, memory | event log" in done.stdout
    assert sorted((ROOT / "benchmarks" / "results").glob("*")) == before


def test_a_tenth_costs_its_time_divided_by_its_steps() -> None:
    steady = [step * 0.001 for step in range(1001)]
    assert [round(cost) for cost in tenths(steady)] == [1000] * 10
    slowing = [step * step * 1e-6 for step in range(1001)]
    assert [round(cost) for cost in tenths(slowing)] == [100 + 200 * part for part in range(10)]
