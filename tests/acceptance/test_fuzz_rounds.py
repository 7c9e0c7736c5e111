"""`make fuzz`: the time bounds the whole, rounds and all, and what was done is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(folder: Path, test: str, *, seconds: float) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(test)
    command = [
        sys.executable, "-m", "tests.fuzz", "--seconds", str(seconds), "--tests", str(folder), "-p", "no:cacheprovider",
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)


def test_a_round_that_would_take_longer_is_stopped_by_time(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "import time\n\ndef test_long() -> None:\n    time.sleep(600)\n", seconds=5)
    assert done.returncode == 0, done.stdout
    assert "fuzz: 0 whole rounds and a part of one in" in done.stdout
    assert "stopped by time; nothing was found." in done.stdout


@pytest.mark.parametrize(
    ("body", "seconds", "code", "said"),
    [("pass", 3, 0, "nothing was found."), ("assert 0", 400, 1, "one that failed")],
)
def test_what_a_round_finds_ends_it_and_is_the_exit_code(
    tmp_path: Path, body: str, seconds: float, code: int, said: str
) -> None:
    done = fuzz(tmp_path, f"def test_short() -> None:\n    {body}\n", seconds=seconds)
    assert done.returncode == code, done.stdout
    assert said in done.stdout.splitlines()[-1]
    assert "round 1: --hypothesis-seed=" in done.stdout
