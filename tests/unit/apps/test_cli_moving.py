"""`floxide export`, `floxide import` and `floxide store stats` from the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, NextAll, Workflow, gather, node
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.apps.cli.store_stats import in_units


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def double(n: int) -> int:
    return 2 * n


@node
async def add(numbers: list[int]) -> int:
    return sum(numbers)


class Doubles(Workflow[int, int]):
    start = spread
    edges = (spread >> double >> gather(add),)


Command = Callable[..., Result]


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on an application with an ended run, a paused one, and one that has not begun."""
    module = ModuleType("moving_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Doubles])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moving_shop", module)

    async def fill() -> None:
        async with app.orchestrator() as orchestrator:
            await (await orchestrator.start(Doubles, 10, run_id="ended")).result(20)
        async with app.orchestrator(with_worker=False) as orchestrator:
            await orchestrator.start(Doubles, 4, run_id="paused")
            await orchestrator.pause("paused")
            await orchestrator.start(Doubles, 7, run_id="waits")

    asyncio.run(fill())

    def call(*words: str) -> Result:
        return CliRunner().invoke(command_line, ["moving_shop:app" if word == "APP" else word for word in words])

    return call


def one_line(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_a_run_moves_to_another_store_and_goes_on_there(floxide: Command, tmp_path: Path) -> None:
    file, other = str(tmp_path / "run"), f"sqlite:///{tmp_path}/other.db"
    exported = floxide("export", "APP", "paused", "-o", file)
    size = Path(file).stat().st_size
    assert (exported.exit_code, exported.stdout) == (
        0,
        f"Run paused (Doubles 1, paused) is in {file}: {size} bytes.\n",
    )
    imported = floxide("import", "APP", file, "--store", other)
    assert (imported.exit_code, imported.stdout) == (
        0,
        "Run paused (Doubles 1) is here, paused. Let it go on with: floxide resume moving_shop:app paused\n",
    )
    done = floxide("resume", "APP", "paused", "--store", other, "--watch")
    assert (done.exit_code, done.stdout) == (0, "12\n")
    assert "paused" in floxide("status", "APP", "paused").stdout


def test_what_cannot_be_moved_is_said_in_a_sentence(floxide: Command, tmp_path: Path) -> None:
    file = str(tmp_path / "run")
    running = floxide("export", "APP", "waits", "-o", file)
    assert running.exit_code == 4
    assert "Cannot export run 'waits': it is pending. Pause it first (`floxide pause`)" in one_line(running)
    assert floxide("export", "APP", "ended", "-o", file).exit_code == 0
    again = floxide("export", "APP", "ended", "-o", file)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "cannot be written: there is such a file already. Name another, or remove it." in one_line(again)
    there = floxide("import", "APP", file)
    assert there.exit_code == 4
    assert "Run 'ended' cannot be imported: this store has a run of this id." in one_line(there)
    Path(file).write_bytes(Path(file).read_bytes()[:-1])
    damaged = floxide("import", "APP", file, "--store", f"sqlite:///{tmp_path}/other.db")
    assert damaged.exit_code == 2
    assert "it is damaged: it breaks off at byte" in one_line(damaged)


def test_the_statistics_of_a_store_count_runs_records_and_bytes(floxide: Command, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    done = floxide("store", "stats", "--store", store, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["runs"] == {"pending": 1, "paused": 1, "completed": 1}
    assert found["oldest_open"]["run_id"] == "paused"
    assert found["largest"][0]["run_id"] == "ended"
    assert {run["run_id"] for run in found["largest"]} == {"ended", "paused", "waits"}
    kinds = found["kinds"]
    assert (kinds["items"]["records"], kinds["headers"]["records"]) == (14, 6)  # a spread, ten doubles and an add; two
    assert kinds["history"]["records"] == 1
    assert set(kinds) >= {"items", "headers", "scopes", "counters", "history", "indexes"}
    assert found["total"]["bytes"] == sum(kind["bytes"] for kind in kinds.values())
    assert kinds["indexes"]["records"] == 3 * 3 + 1 + 2 + 11  # lists of runs, of ends, live items, arrivals


def test_the_statistics_are_shown_as_tables(floxide: Command, tmp_path: Path) -> None:
    done = floxide("store", "stats", "--store", f"sqlite:///{tmp_path}/runs.db", "--largest", "1")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["runs", "completed", "1"] in lines
    assert ["KIND", "RECORDS", "BYTES"] in lines
    assert lines[-2] == ["LARGEST", "RUNS", "RECORDS", "BYTES"]
    assert lines[-1][0] == "ended"


def test_statistics_of_nothing_make_no_store(floxide: Command, tmp_path: Path) -> None:
    nowhere = floxide("store", "stats", "--store", f"sqlite:///{tmp_path}/nowhere.db")
    assert nowhere.exit_code == 3
    assert "There is no store at" in one_line(nowhere)
    assert not (tmp_path / "nowhere.db").exists()
    assert floxide("store", "stats").exit_code == 2


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**3, "5.0 GiB"), (2**62, "4194304.0 TiB")],
)
def test_bytes_are_told_as_people_read_them(count: int, text: str) -> None:
    assert in_units(count) == text
