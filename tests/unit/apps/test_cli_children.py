"""What the command line says of parents and children."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Abort, ChildRunFailedError, ChildWorkflow, Floxide, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line


@node
async def double(n: int) -> int | Abort:
    return 2 * n if n < 100 else Abort(ValueError("too much"))


class Doubles(Workflow[int, int], version="3"):
    start = double


@node
async def shrug(n: int) -> int:
    return n


doubling = ChildWorkflow(Doubles, name="doubling")


class Parent(Workflow[int, int]):
    start = doubling
    edges = (doubling, doubling.on_failure(ChildRunFailedError) >> shrug)


Command = Callable[..., Result]


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on an application with a parent whose child completed and one whose child failed."""
    module = ModuleType("family_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Parent])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "family_shop", module)

    async def fill() -> None:
        async with app.orchestrator() as orchestrator:
            for run_id, number in (("happy", 1), ("sad", 100)):
                run = await orchestrator.start(Parent, number, run_id=run_id)
                await run.result(60)

    asyncio.run(fill())

    def call(name: str, *words: str) -> Result:
        return CliRunner().invoke(command_line, [name, "family_shop:app", *words])

    return call


def test_a_parent_shows_its_children_and_a_child_its_parent(floxide: Command) -> None:
    (child,) = json.loads(floxide("children", "happy", "--json").stdout)["children"]
    assert (child["workflow"], child["version"], child["node"], child["status"]) == (
        "Doubles", "3", "doubling", "completed",
    )  # fmt: skip
    assert f"{child['run_id']} (doubling): completed" in " ".join(floxide("status", "happy").stdout.split())
    told = json.loads(floxide("status", child["run_id"], "--json").stdout)
    assert told["run"]["parent"] == "happy"
    assert told["children"] == []
    assert "parent" in floxide("status", child["run_id"]).stdout
    assert "parent" not in floxide("status", "happy").stdout


def test_a_child_that_failed_is_shown_with_its_reason(floxide: Command) -> None:
    shown = " ".join(floxide("children", "sad").stdout.split())
    assert "Doubles@3 doubling failed" in shown
    assert "double: ValueError: too much" in shown


def test_children_of_a_run_that_is_not_there_are_an_error(floxide: Command) -> None:
    assert floxide("children", "nobody").exit_code != 0
