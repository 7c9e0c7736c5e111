"""A store moves between kinds of servers, and so does a single run as a file, while its runs are half done."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from floxide_amqp import Floxide, RunStatus
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.apps.stores import open_store, shards_of
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.stores.places import ALONE
from floxide_amqp.stores.resharding import reshard
from tests.integration.moving_app import EXPECTED, GATE_VARIABLE, ITEMS, SECRET, Squares, Told, plain, sealed

APP = "tests.integration.moving_app:sealed"
RUNS = tuple(f"order-{number}" for number in range(6))
SEALED, KILLED = RUNS[::2], RUNS[0]
"""Runs that are started encrypted, and one that a process which is killed has in its hands too."""

WATCH_SECONDS = 0.5
PATIENCE = 90.0


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "gate"
    monkeypatch.setenv(GATE_VARIABLE, str(path))
    return path


def open_to(gate: Path, count: int) -> None:
    """Let items below a number end."""
    new = gate.with_suffix(".new")
    new.write_text(str(count))
    new.replace(gate)


def floxide(*words: str) -> str:
    result = CliRunner().invoke(command_line, list(words))
    assert result.exit_code == 0, (words, result.output)
    return " ".join(result.stdout.split())


def move(store: str, to: str) -> str:
    return floxide("store", "reshard", "--store", store, "--to", to, "--watch", str(WATCH_SECONDS))


def runs_in(store: str) -> dict[str, int]:
    counted: dict[str, int] = json.loads(floxide("store", "stats", "--json", "--store", store))["runs"]
    return counted


def on(app: Floxide, store: str) -> Floxide:
    return app.embedded(shards_of(store) or store)


async def start_all(store: str) -> None:
    for app, run_ids in ((sealed, SEALED), (plain, sorted({*RUNS} - {*SEALED}))):
        async with on(app, store).orchestrator(with_worker=False) as orchestrator:
            for run_id in run_ids:
                await orchestrator.start(Squares, SECRET, context=Told(), run_id=run_id)


async def work(store: str, gate: Path, count: int, runs: Sequence[str] = RUNS) -> None:
    """Let a worker do so many of the items of each run, and stop it while the others are in its hands."""
    open_to(gate, count)
    async with on(sealed, store).orchestrator() as orchestrator:
        await until_done(store, count, runs)
        assert {await orchestrator.status(run_id) for run_id in runs} == {RunStatus.RUNNING}


async def until_done(store: str, count: int, runs: Sequence[str]) -> None:
    async with on(sealed, store).orchestrator(with_worker=False) as orchestrator, asyncio.timeout(PATIENCE):
        for run_id in runs:
            while len((await orchestrator.context(Squares, run_id)).log) < count:  # noqa: ASYNC110 - a worker's doing
                await asyncio.sleep(0.02)


def work_and_die(store: str, gate: Path, count: int) -> None:
    """Let a process of its own do so many items of a run, and kill it."""
    open_to(gate, count)
    started = json.dumps(SECRET), "--context", "{}", "--run-id", KILLED
    process = subprocess.Popen(
        [sys.executable, "-m", "floxide_amqp.apps.cli", "start", APP, "--input", *started, "--watch", "--store", store],
        cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        asyncio.run(until_done(store, count, [KILLED]))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


async def finish(store: str, gate: Path, runs: Sequence[str] = RUNS) -> None:
    """Let everything end, and check that nothing is missing and nothing happened twice."""
    open_to(gate, ITEMS)
    async with on(sealed, store).orchestrator() as orchestrator:
        for run_id in runs:
            assert await orchestrator.handle(Squares, run_id).result(PATIENCE) == EXPECTED
            context = await orchestrator.context(Squares, run_id)
            assert (context.said, sorted(context.log)) == (SECRET, list(range(ITEMS)))
            ended = [item.item_id for item in await orchestrator.work_items(run_id)]
            assert len(set(ended)) == len(ended) == ITEMS + 2


class BrokeOffError(Exception):
    """Ends a move in the middle."""


async def begin_to_move(store: str, to: str) -> None:
    """Copy some of the runs, and break off."""

    def break_off(copied: int, runs: int) -> None:
        if 0 < copied < runs:
            raise BrokeOffError

    async with AsyncExitStack() as stack:
        here, there = [
            {name: await stack.enter_async_context(open_store(url)) for name, url in servers.items()}
            for servers in (shards_of(store) or {ALONE: store}, shards_of(to) or {})
        ]
        with pytest.raises(BrokeOffError):
            await reshard(
                here, ShardedKeyValueStore(there), SystemClock(), watch_seconds=WATCH_SECONDS, on_progress=break_off
            )


def test_a_store_moves_from_a_file_to_postgresql_to_redis_and_to_one_of_each_with_its_runs_half_done(
    postgresql_url: str, postgresql_database: str, redis_url: str, redis_server_url: str, tmp_path: Path, gate: Path
) -> None:
    file = f"sqlite:///{tmp_path}/runs.db"
    first, second = f"lone={postgresql_url}", f"lone={redis_url}"
    place = f"test_{secrets.token_hex(6)}"
    both = f"anna={postgresql_database}?schema={place} bert={redis_server_url}?prefix={place}"

    asyncio.run(start_all(file))
    asyncio.run(work(file, gate, 3))
    assert "6 runs moved." in move(file, first)
    assert (runs_in(file), runs_in(first)) == ({}, {"running": 6})

    work_and_die(first, gate, 5)
    asyncio.run(begin_to_move(first, second))
    refused = CliRunner().invoke(command_line, ["status", APP, KILLED, "--store", second])
    assert (refused.exit_code, "are being moved from the shards lone" in " ".join(refused.stderr.split())) == (3, True)
    assert "runs moved." in move(first, second)
    assert (runs_in(postgresql_url), runs_in(second)) == ({}, {"running": 6})

    asyncio.run(work(second, gate, 7))
    planned = floxide("store", "reshard", "--dry-run", "--store", second, "--to", both)
    assert "6 runs would move." in planned
    assert move(second, both).split("6 runs")[0] == planned.split("6 runs")[0]
    assert (runs_in(redis_url), runs_in(both)) == ({}, {"running": 6})
    halves = [runs_in(url) for url in (shards_of(both) or {}).values()]
    assert all(half.get("running", 0) > 0 for half in halves)

    asyncio.run(finish(both, gate))
    assert runs_in(both) == {"completed": 6}


def test_a_run_goes_as_a_file_through_all_kinds_of_stores_and_ends_in_the_last(
    postgresql_url: str, postgresql_database: str, redis_url: str, redis_server_url: str, tmp_path: Path, gate: Path
) -> None:
    place = f"test_{secrets.token_hex(6)}"
    both = f"anna={postgresql_database}?schema={place} bert={redis_server_url}?prefix={place}"
    ways = [f"sqlite:///{tmp_path}/runs.db", postgresql_url, redis_url, both]
    moved = RUNS[:2]

    asyncio.run(start_all(ways[0]))
    for number, (here, there) in enumerate(itertools.pairwise(ways)):
        asyncio.run(work(here, gate, 2 * (number + 1), moved))
        for run_id in moved:
            file = tmp_path / f"{run_id}-{number}.run"
            floxide("pause", APP, run_id, "--store", here)
            floxide("export", APP, run_id, "-o", str(file), "--store", here)
            assert (SECRET.encode() in file.read_bytes()) is (run_id not in SEALED)
            assert f"Run {run_id} (Squares 1) is here, paused." in floxide("import", APP, str(file), "--store", there)
            floxide("resume", APP, run_id, "--store", there)
    asyncio.run(finish(both, gate, moved))
    assert runs_in(both) == {"completed": 2}
    assert [runs_in(store)["paused"] for store in ways[:3]] == [2, 2, 2]
