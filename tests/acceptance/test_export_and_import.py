"""`floxide export` and `floxide import` as a user meets them: real processes, a run that goes on in another store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.acceptance.test_cli import Floxide

APP = """
import asyncio
from pathlib import Path

from floxide_amqp import Context, EventLog, Floxide, Limits, NextAll, Workflow, WorkflowCtx, gather, node


class Told(Context):
    log: EventLog[int] = EventLog()


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def square(ctx: WorkflowCtx[Told], n: int) -> int:
    while n >= {eager} and not Path("go").exists():
        await asyncio.sleep(0.02)
    ctx.state.log.append(n)
    return n * n


@node
async def add(squares: list[int]) -> int:
    return sum(squares)


class Squares(Workflow[int, int, Told]):
    start = spread
    edges = (spread >> square >> gather(add),)


app = Floxide(store="sqlite:///here.db", workflows=[Squares], limits=Limits(concurrency=5))
"""
COUNT = 60
EAGER = 20
"""Items that may end before there is a file named ``go``; the others wait for it."""

PATIENCE_SECONDS = 120.0


def floxide(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "floxide_amqp.apps.cli", *words],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def wait_until_some_items_are_done(folder: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        status = Floxide(folder, dict(os.environ))("items", "moving:app", "order", "--json")
        if status.code == 0 and len(json.loads(status.out)) > 3:
            return
        time.sleep(0.05)
    raise AssertionError("The run did not begin.")


def test_a_run_whose_worker_was_killed_moves_to_another_store_and_ends_there(tmp_path: Path) -> None:
    (tmp_path / "moving.py").write_text(APP.replace("{eager}", str(EAGER)))
    begun = subprocess.Popen(
        [
            sys.executable, "-m", "floxide_amqp.apps.cli", "start", "moving:app", "--input", str(COUNT), "--run-id",
            "order", "--watch",
        ],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until_some_items_are_done(tmp_path)
    finally:
        begun.send_signal(signal.SIGKILL)
        begun.wait()
    paused = floxide(tmp_path, "pause", "moving:app", "order")
    assert paused.returncode == 0, paused.stderr
    exported = floxide(tmp_path, "export", "moving:app", "order", "-o", "order.run")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.startswith("Run order (Squares 1, paused) is in order.run: ")
    assert (tmp_path / "order.run").stat().st_mode & 0o777 == 0o600
    other = ("--store", "sqlite:///there.db")
    imported = floxide(tmp_path, "import", "moving:app", "order.run", *other)
    assert imported.returncode == 0, imported.stderr
    again = floxide(tmp_path, "import", "moving:app", "order.run", *other)
    assert (again.returncode, again.stdout) == (4, "")
    assert "this store has a run of this id" in " ".join(again.stderr.split())
    (tmp_path / "go").touch()
    done = floxide(tmp_path, "resume", "moving:app", "order", "--watch", *other)
    assert (done.returncode, done.stdout) == (0, f"{sum(n * n for n in range(COUNT))}\n"), done.stderr
    counted = floxide(tmp_path, "store", "stats", "--json", *other)
    assert json.loads(counted.stdout)["runs"] == {"completed": 1}
    still = floxide(tmp_path, "store", "stats", "--json", "--store", "sqlite:///here.db")
    assert json.loads(still.stdout)["runs"] == {"paused": 1}
