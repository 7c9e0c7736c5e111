"""`floxide store reshard` as a user meets it: a store in one file is spread over three, and is then in two others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.acceptance.test_cli import Floxide, Outcome

APP = """
import asyncio
from pathlib import Path

from floxide_amqp import Floxide, Limits, NextAll, Workflow, gather, node


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def square(n: int) -> int:
    while n >= {eager} and not Path("go").exists():
        await asyncio.sleep(0.02)
    return n * n


@node
async def add(squares: list[int]) -> int:
    return sum(squares)


class Squares(Workflow[int, int]):
    start = spread
    edges = (spread >> square >> gather(add),)


app = Floxide(store="sqlite:///one.db", workflows=[Squares], limits=Limits(concurrency=5))
"""
COUNT = 60
EAGER = 20
"""Items of a run that may end before there is a file named ``go``; its others wait for it."""
RUNS = tuple(f"order-{number}" for number in range(4))
THREE = "anna=sqlite:///one.db bert=sqlite:///two.db cleo=sqlite:///three.db"
TWO = "cleo=sqlite:///three.db dora=sqlite:///four.db"
PATIENCE_SECONDS = 120.0


def floxide(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "floxide_amqp.apps.cli", *words],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def look(folder: Path, *words: str) -> Outcome:
    """The same without a process of its own, for what is not moved."""
    return Floxide(folder, dict(os.environ))(*words)


def kill_in_the_middle(folder: Path, run_id: str) -> None:
    """Begin a run, and kill its worker when some of its items are done."""
    command = ["start", "squares:app", "--input", str(COUNT), "--run-id", run_id, "--watch"]
    begun = subprocess.Popen(
        [sys.executable, "-m", "floxide_amqp.apps.cli", *command],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            listed = look(folder, "items", "squares:app", run_id, "--json")
            if listed.code == 0 and len(json.loads(listed.out)) > 3:
                return
            time.sleep(0.05)
        raise AssertionError("The run did not begin.")
    finally:
        begun.send_signal(signal.SIGKILL)
        begun.wait()


def runs_in(folder: Path, store: str) -> dict[str, int]:
    counted: dict[str, int] = json.loads(look(folder, "store", "stats", "--json", "--store", store).out)["runs"]
    return counted


def test_a_store_in_one_file_moves_to_three_and_then_to_two_and_its_runs_go_on(tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(APP.replace("{eager}", str(EAGER)))
    for run_id in RUNS[1:]:
        assert look(tmp_path, "run", "squares:app", "--input", "3", "--run-id", run_id).code == 0
    kill_in_the_middle(tmp_path, RUNS[0])

    one = "sqlite:///one.db"
    before = runs_in(tmp_path, one)
    assert before == {"completed": 3, "running": 1}
    planned = floxide(tmp_path, "store", "reshard", "--dry-run", "--store", one, "--to", THREE)
    assert planned.returncode == 0, planned.stderr
    assert "would move. Nothing was changed." in planned.stdout
    assert not (tmp_path / "two.db").exists()
    moved = floxide(tmp_path, "store", "reshard", "--store", one, "--to", THREE, "--watch", "1")
    assert moved.returncode == 0, moved.stderr
    assert moved.stdout.splitlines()[:-1] == planned.stdout.splitlines()[:-1]
    assert runs_in(tmp_path, THREE) == before
    refused = look(tmp_path, "status", "squares:app", RUNS[0])
    assert (refused.code, refused.out) == (3, "")
    assert "This server is shard 'anna' of anna, bert, cleo" in refused.words

    again = floxide(tmp_path, "store", "reshard", "--store", THREE, "--to", TWO, "--watch", "1")
    assert again.returncode == 0, again.stderr
    assert runs_in(tmp_path, TWO) == before
    assert runs_in(tmp_path, one) == {}
    gone = look(tmp_path, "status", "squares:app", RUNS[0])
    assert (gone.code, "has emptied this server" in gone.words) == (3, True)
    (tmp_path / "go").touch()
    words = ("start", "squares:app", "--input", str(COUNT), "--run-id", RUNS[0], "--watch", "--store", TWO)
    done = floxide(tmp_path, *words)
    assert (done.returncode, done.stdout) == (0, f"{sum(n * n for n in range(COUNT))}\n"), done.stderr
    assert runs_in(tmp_path, TWO) == {"completed": len(RUNS)}
