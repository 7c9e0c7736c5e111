"""`floxide versions`, `floxide check` and `floxide parked` on the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.apps.cli.versions import shown_workers
from floxide_amqp.runtime.version_views import VersionInfo


@dataclass
class Order:
    number: int


@dataclass
class NeedyOrder:
    number: int
    customer: str


def release(order: Any, *, version: str = "1") -> Any:
    """One release of a workflow that takes an order."""

    @node
    async def ship(given: order) -> str:
        return repr(given)

    class Shop(Workflow[order, str], version=version):
        start = ship

    return Shop


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command against an application: ``old`` has started a run; ``new`` reads its order otherwise."""
    for name, workflows in {
        "old": [release(Order)],
        "new": [release(NeedyOrder)],
        "both": [release(Order, version="2"), release(Order, version="10")],
    }.items():
        module = ModuleType(f"{name}_shop")
        module.app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=workflows)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"{name}_shop", module)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command_line, arguments)

    assert run("start", "old_shop:app", "--input", '{"number": 7}', "--run-id", "run").exit_code == 0
    return run


def test_versions_are_listed_with_their_runs(floxide: Callable[..., Result]) -> None:
    shown = floxide("versions", "old_shop:app")
    assert "Shop      1        1 pending" in shown.output
    (found,) = json.loads(floxide("versions", "old_shop:app", "--json").output)
    assert (found["workflow"], found["version"], found["runs"], found["is_here"]) == ("Shop", "1", {"pending": 1}, True)
    assert json.loads(floxide("versions", "old_shop:app", "--workflow", "Other", "--json").output) == []


@pytest.mark.parametrize(
    ("workers", "newer", "shown"), [((), (), "NONE"), (("a",), (), "1"), ((), ("b", "c"), "0 + 2 newer")]
)
def test_workers_of_newer_versions_are_shown_beside_those_that_have_the_version(
    workers: tuple[str, ...], newer: tuple[str, ...], shown: str
) -> None:
    info = VersionInfo(workflow="Shop", version="1", runs={"running": 1}, workers=workers, newer_workers=newer)
    assert shown_workers(info) == shown
    assert shown_workers(replace(info, runs={})) == (f"{len(workers)}" if workers else "none")


def test_a_check_of_a_workflow_that_is_not_there_is_an_error(floxide: Callable[..., Result]) -> None:
    misspelt = floxide("check", "old_shop:app", "--workflow", "Shp")
    assert misspelt.exit_code not in (0, 1)
    assert "There is no workflow 'Shp' here" in misspelt.output


def test_a_check_ends_with_1_where_a_deploy_would_break_a_run_and_says_which(floxide: Callable[..., Result]) -> None:
    fine = floxide("check", "old_shop:app")
    assert (fine.exit_code, fine.output) == (0, "1 open runs checked (1 of Shop@1), 0 would break.\n")
    broken = floxide("check", "new_shop:app")
    assert broken.exit_code == 1
    assert "Would break: Shop@1, node ship: The input of node 'ship' cannot be decoded" in broken.output
    assert "customer" in broken.output
    assert "1 runs, such as run" in broken.output
    told = floxide("check", "new_shop:app", "--json")
    assert told.exit_code == 1
    assert json.loads(told.output)["breaks"][0]["examples"] == ["run"]
    assert floxide("check", "both_shop:app").exit_code == 1


def test_an_item_that_was_set_aside_is_listed_and_requeued(floxide: Callable[..., Result]) -> None:
    assert floxide("parked", "list", "old_shop:app", "--json").output == "[]\n"

    async def work() -> None:
        async with sys.modules["new_shop"].app.orchestrator() as orchestrator:  # with a worker in this process
            while not await orchestrator.set_aside.list():  # noqa: ASYNC110 - the worker tells nobody
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(work(), 30))
    (found,) = json.loads(floxide("parked", "list", "new_shop:app", "--json").output)
    assert (found["run_id"], found["node"]) == ("run", "ship")
    assert "customer" in floxide("parked", "list", "new_shop:app").output
    assert "Say which items are meant" in floxide("parked", "requeue", "new_shop:app").output
    done = floxide("parked", "requeue", "old_shop:app", "--run", "run", "--reason", "deployed")
    assert (done.exit_code, done.output) == (0, "1 items are on their way again.\n")
    assert floxide("parked", "requeue", "old_shop:app", "--all").output == "0 items are on their way again.\n"


def test_a_name_stands_for_the_newest_version_and_one_with_a_version_for_that(floxide: Callable[..., Result]) -> None:
    for name, version in (("Shop", "10"), ("Shop@2", "2")):
        started = floxide("start", "both_shop:app", name, "--input", '{"number": 1}', "--run-id", f"of-{version}")
        assert started.exit_code == 0, started.output
        shown = json.loads(floxide("status", "both_shop:app", f"of-{version}", "--json").output)
        assert shown["run"]["version"] == version
