"""The command line finds runs by their attributes and tells what happened to one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Workflow, WorkflowCtx, node
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.filters import attributes_from, instant_from, value_from
from floxide_amqp.apps.cli.main import app as command_line


@node
async def double(ctx: WorkflowCtx, n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    ctx.set_attribute("stage", "doubled")
    return 2 * n


class Doubles(Workflow[int, int], version="3"):
    start = double


Command = Callable[..., Result]


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on an application with a run that is completed, one that failed and one that has not begun."""
    module = ModuleType("search_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Doubles])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "search_shop", module)

    async def fill() -> None:
        async with app.orchestrator() as orchestrator:
            for n in (1, -1):
                at = datetime(2026, 7, n + 2, tzinfo=UTC)
                attributes = {"tenant": "acme", "n": n, "vip": n > 0, "due": at}
                await orchestrator.start(Doubles, n, run_id=f"run{n}", attributes=attributes)
                await orchestrator.wait(f"run{n}")
        async with app.orchestrator(with_worker=False) as orchestrator:
            await orchestrator.start(Doubles, 7, run_id="fresh")

    asyncio.run(fill())

    def call(name: str, *words: str) -> Result:
        return CliRunner().invoke(command_line, [name, "search_shop:app", *words])

    return call


def listed(result: Result) -> set[str]:
    assert result.exit_code == 0, result.stderr
    return {line.split()[0] for line in result.stdout.splitlines()[1:]}


def test_runs_are_listed_by_attributes_of_every_type(floxide: Command) -> None:
    assert listed(floxide("list")) == {"run1", "run-1", "fresh"}
    assert listed(floxide("list", "--attribute", "tenant=acme")) == {"run1", "run-1"}
    assert listed(floxide("list", "-a", "tenant=acme", "--status", "failed")) == {"run-1"}
    assert listed(floxide("list", "-a", "tenant=acme", "-a", "vip=true")) == {"run1"}
    assert listed(floxide("list", "-a", "n=-1")) == {"run-1"}
    assert listed(floxide("list", "-a", 'n="-1"')) == set()
    assert listed(floxide("list", "-a", "due=2026-07-03T02:00:00+02:00")) == {"run1"}
    assert listed(floxide("list", "--started-after", "2020-01-01", "-a", "stage=doubled")) == {"run1"}
    assert listed(floxide("list", "--started-before", "2020-01-01T00:00:00Z")) == set()


def test_a_run_is_started_with_attributes_and_shows_them(floxide: Command) -> None:
    assert floxide("start", "-i", "4", "--run-id", "new", "-a", "tenant=else", "-a", "cost=1.5").exit_code == 0
    shown = floxide("status", "new").stdout
    assert "tenant=else" in shown
    assert "cost=1.5" in shown
    assert json.loads(floxide("status", "new", "--json").stdout)["run"]["attributes"] == {"cost": 1.5, "tenant": "else"}
    assert listed(floxide("list", "-a", "cost=1.5")) == {"new"}


def test_what_is_no_attribute_is_refused_with_how_to_say_it(floxide: Command) -> None:
    for words, said in (
        (("-a", "tenant"), "not of the form NAME=VALUE"),
        (("-a", "=acme"), "not of the form NAME=VALUE"),
        (("-a", "ten ant=acme"), "letters, digits"),
        (("--started-after", "soon"), "is no time such as"),
    ):
        refused = floxide("list", *words)
        assert refused.exit_code != 0
        assert said in " ".join(refused.stderr.split())


def test_events_tell_what_happened_a_line_each(floxide: Command) -> None:
    told = floxide("events", "run1")
    assert told.exit_code == 0, told.stderr
    words = [line.split("  ", 1)[1] for line in told.stdout.splitlines()]
    assert words[0] == "started: Doubles (version 3)"
    assert words[1].startswith("double done in 0.")
    assert words[2] == "completed"
    failed = floxide("events", "run-1", "--follow").stdout
    assert "double try 1: ValueError: negative (failed)" in failed
    assert failed.rstrip().endswith("failed double: ValueError: negative")


def test_events_as_json_lines_go_on_behind_a_position(floxide: Command) -> None:
    lines = [json.loads(line) for line in floxide("events", "run1", "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["RunStarted", "ItemCompleted", "RunEnded"]
    rest = floxide("events", "run1", "--json", "--after", lines[0]["position"]).stdout.splitlines()
    assert [json.loads(line) for line in rest] == lines[1:]
    assert floxide("events", "fresh", "--json").stdout.count("\n") == 1
    assert floxide("events", "nobody").exit_code != 0
    assert "no position" in floxide("events", "run1", "--after", "x").stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("acme", "acme"), ("", ""), ("0042", "0042"), ("42", 42), ("-1", -1), ("1.5", 1.5), ("true", True),
        ("True", "True"), ('"42"', "42"), ("null", "null"), ("[1]", "[1]"), ("a=b", "a=b"),
        ("2026-07-01", "2026-07-01"),
        ("2026-07-01T12:00:00Z", datetime(2026, 7, 1, 12, tzinfo=UTC)), ("2026-07-01T12:00:00", "2026-07-01T12:00:00"),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(text: str, value: object) -> None:
    found = value_from(text)
    assert (type(found), found) == (type(value), value)
    assert attributes_from([f"name={text}"]) == {"name": value}


def test_a_time_without_a_zone_is_local() -> None:
    assert instant_from(None) is None
    found = instant_from("2026-07-01T12:00:00")
    assert found is not None
    assert found.utcoffset() is not None
    with pytest.raises(UsageError):
        instant_from("99999-01-01")
