"""`floxide delete`: deleting runs from the command line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.apps.cli import deleting
from floxide_amqp.apps.cli.main import app as command_line


@node
async def double(n: int) -> int:
    return 2 * n


class Doubles(Workflow[int, int]):
    start = double


Command = Callable[..., Result]


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on an application with three ended runs and one that has not begun."""
    module = ModuleType("delete_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Doubles])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "delete_shop", module)

    async def fill() -> None:
        async with app.orchestrator() as orchestrator:
            for n in range(3):
                await (await orchestrator.start(Doubles, n, run_id=f"run-{n}")).result(20)
        async with app.orchestrator(with_worker=False) as orchestrator:
            await orchestrator.start(Doubles, 7, run_id="waits")

    asyncio.run(fill())

    def call(name: str, *words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(command_line, [name, "delete_shop:app", *words], input=stdin)

    return call


def one_line(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_runs_are_deleted_without_a_question_where_it_is_said(floxide: Command) -> None:
    done = floxide("delete", "run-0", "run-2", "--yes")
    assert (done.exit_code, done.stdout) == (0, "Run run-0 is deleted.\nRun run-2 is deleted.\n")
    listed = floxide("list").stdout
    assert "run-1" in listed
    assert "run-0" not in listed
    gone = floxide("status", "run-0")
    assert gone.exit_code == 4
    assert "Run 'run-0' completed at" in one_line(gone)


def test_nothing_is_deleted_without_a_terminal_to_ask_on(floxide: Command) -> None:
    refused = floxide("delete", "run-0")
    assert refused.exit_code == 2
    assert "give --yes" in one_line(refused)
    assert "run-0" in floxide("list").stdout


@pytest.mark.parametrize(("answer", "code"), [("n\n", 2), ("y\n", 0)])
def test_on_a_terminal_it_asks_first(floxide: Command, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    monkeypatch.setattr(deleting, "is_terminal", lambda: True)
    answered = floxide("delete", "run-0", "run-1", stdin=answer)
    assert answered.exit_code == code
    assert "Delete 2 runs" in answered.stderr
    assert ("run-0" in floxide("list").stdout) is (code != 0)


def test_a_run_that_has_not_ended_or_is_not_there_is_an_error(floxide: Command) -> None:
    early = floxide("delete", "waits", "--yes")
    assert early.exit_code == 4
    assert one_line(early).startswith("floxide: Cannot delete run 'waits': it is pending. Cancel it first")
    assert floxide("delete", "unknown", "--yes").exit_code == 4
    assert floxide("delete", "run-0", "--yes").stdout == "Run run-0 is deleted.\n"
    again = floxide("delete", "run-0", "--yes")
    assert (again.exit_code, again.stdout) == (0, "Run run-0 was deleted already.\n")


def test_one_run_that_cannot_be_deleted_keeps_none_of_the_others_from_it(floxide: Command) -> None:
    done = floxide("delete", "run-0", "waits", "unknown", "run-2", "--yes")
    assert done.exit_code == 4
    assert done.stdout == "Run run-0 is deleted.\nRun run-2 is deleted.\n"
    assert "Cannot delete run 'waits'" in one_line(done)
    assert "There is no run 'unknown' in this store." in one_line(done)
    listed = floxide("list").stdout
    assert "waits" in listed
    assert "run-0" not in listed
    assert "run-2" not in listed


def test_the_id_of_a_deleted_run_starts_nothing_and_says_so(floxide: Command) -> None:
    floxide("delete", "run-0", "--yes")
    again = floxide("start", "Doubles", "--input", "0", "--run-id", "run-0")
    assert (again.exit_code, again.stdout) == (4, "")
    assert "Run 'run-0' completed at" in one_line(again)
    assert "use another run id" in one_line(again)
