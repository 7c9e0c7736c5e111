"""Looking at a store, or steering runs in it, makes no store where there is none."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line


@node
async def double(n: int) -> int:
    return 2 * n


class Doubles(Workflow[int, int]):
    start = double


LOOKING_AND_STEERING = [
    ("status", "APP", "run"), ("list", "APP"), ("items", "APP", "run"), ("errors", "APP", "run"),
    ("quarantine", "list", "APP"), ("quarantine", "show", "APP", "id"), ("dead-letters", "list", "APP"),
    ("dead-letters", "show", "APP", "id"), ("dead-letters", "requeue", "APP", "id"),
    ("dead-letters", "drop", "APP", "id", "--yes"), ("cancel", "APP", "run"), ("pause", "APP", "run"),
    ("resume", "APP", "run"), ("delete", "APP", "run", "--yes"), ("signal", "APP", "approval", "true", "run"),
]  # fmt: skip


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("absent_shop")
    module.app = Floxide(store="sqlite:///runs.db", workflows=[Doubles])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "absent_shop", module)
    monkeypatch.chdir(tmp_path)
    return "absent_shop:app"


@pytest.mark.parametrize("words", LOOKING_AND_STEERING, ids=lambda words: "-".join(words))
def test_a_command_that_needs_runs_makes_no_file(application: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(command_line, [application if word == "APP" else word for word in words])
    assert (done.exit_code, done.stdout) == (3, "")
    said = " ".join(done.stderr.split())
    assert said.startswith(f"floxide: There is no store at {tmp_path}/runs.db: nothing was started there yet")
    assert list(tmp_path.iterdir()) == []


def test_starting_makes_the_file_and_looking_finds_it(application: str, tmp_path: Path) -> None:
    started = CliRunner().invoke(command_line, ["start", application, "--input", "1", "--run-id", "run"])
    assert (started.exit_code, started.stdout) == (0, "run\n")
    assert (tmp_path / "runs.db").is_file()
    assert CliRunner().invoke(command_line, ["status", application, "run"]).exit_code == 0


def test_the_command_tells_its_version() -> None:
    done = CliRunner().invoke(command_line, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"floxide {version('floxide-amqp')}\n")


def test_the_file_of_a_shard_is_not_made_either(application: str, tmp_path: Path) -> None:
    store = f"a=sqlite:///{tmp_path}/a.db b=sqlite:///{tmp_path}/b.db"
    done = CliRunner().invoke(command_line, ["list", application, "--store", store])
    assert done.exit_code == 3
    assert f"There is no store at {tmp_path}/a.db" in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []
