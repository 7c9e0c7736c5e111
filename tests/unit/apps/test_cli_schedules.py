"""`floxide schedules` on the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line


@node
async def double(n: int) -> int:
    return 2 * n


class Doubling(Workflow[int, int]):
    start = double


Command = Callable[..., Result]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Floxide:
    module = ModuleType("schedule_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Doubling])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "schedule_shop", module)

    async def make() -> None:
        async with app.orchestrator(with_worker=False):
            pass

    asyncio.run(make())
    return app


@pytest.fixture
def schedules(shop: Floxide) -> Command:
    def call(name: str, *words: str) -> Result:
        return CliRunner().invoke(command_line, ["schedules", name, "schedule_shop:app", *words])

    return call


def one_line(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_a_schedule_is_put_looked_at_steered_and_deleted(schedules: Command, shop: Floxide) -> None:
    put = schedules("put", "yearly", "--input", "4", "--cron", "0 0 1 1 *", "--overlap", "queue", "--catch-up", "60")
    assert put.exit_code == 0, put.stderr
    assert put.stdout.startswith("Schedule yearly of workflow Doubling begins next at 2")
    assert put.stdout.endswith("-01-01 00:00:00.000Z.\n")
    first, second = schedules("next", "yearly", "--count", "2").stdout.splitlines()
    assert int(second[:4]) == int(first[:4]) + 1
    assert schedules("pause", "yearly", "--reason", "budget").stdout == "Schedule yearly is paused.\n"
    shown = schedules("show", "yearly")
    assert "yes (budget)" in shown.stdout
    assert "queue" in shown.stdout
    assert "paused" in schedules("list").stdout

    triggered = schedules("trigger", "yearly", "--id", "now")
    assert (triggered.exit_code, triggered.stdout) == (0, "yearly@trigger-now\n")
    assert schedules("trigger", "yearly", "--id", "now").stdout == triggered.stdout

    async def result() -> int:
        async with shop.orchestrator() as orchestrator:
            return await orchestrator.handle(Doubling, "yearly@trigger-now").result(20)

    assert asyncio.run(result()) == 8
    (facts,) = json.loads(schedules("list", "--json").stdout)
    assert (facts["name"], facts["started"], facts["overlap"], facts["paused"]) == ("yearly", 1, "queue", True)
    assert "yearly@trigger-now" in schedules("show", "yearly").stdout
    assert schedules("resume", "yearly").stdout.startswith("Schedule yearly begins next at 2")
    assert schedules("delete", "yearly").stdout == "Schedule yearly is deleted.\n"
    again = schedules("delete", "yearly")
    assert (again.exit_code, again.stdout) == (4, "There is no schedule yearly.\n")


def test_what_cannot_be_a_schedule_or_is_not_there_is_told(schedules: Command) -> None:
    neither = schedules("put", "often", "--input", "4")
    assert neither.exit_code == 2
    assert "either every=... or cron=..." in one_line(neither)
    wrong = schedules("put", "often", "--input", "4", "--cron", "every day")
    assert wrong.exit_code == 2
    assert "no cron expression" in one_line(wrong)
    missing = schedules("show", "often")
    assert missing.exit_code == 4
    assert "There is no schedule 'often'" in one_line(missing)
