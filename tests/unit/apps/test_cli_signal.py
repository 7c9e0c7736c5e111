"""`floxide signal`, and the times of `floxide start`, on the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Hold, Signal, VersionPolicy, Workflow, WorkflowCtx, node
from floxide_amqp.apps.cli.main import app as command_line

APPROVAL = Signal("approval", bool)


@node
async def ask(ctx: WorkflowCtx[Any], n: int) -> bool | Hold:
    approved = ctx.received(APPROVAL)
    return Hold(until=APPROVAL) if approved is None else approved


@node
async def double(n: int) -> int:
    return 2 * n


class Asking(Workflow[int, bool]):
    start = ask
    signals = (APPROVAL,)


class Silent(Workflow[int, int]):
    start = double


Command = Callable[..., Result]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Floxide:
    module = ModuleType("signal_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Asking, Silent])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "signal_shop", module)
    return app


@pytest.fixture
def floxide(shop: Floxide) -> Command:
    """The command, on an application with two runs that wait and one that does not say what it takes."""

    async def fill() -> None:
        async with shop.orchestrator(with_worker=False) as orchestrator:
            for n in range(2):
                await orchestrator.start(Asking, n, run_id=f"run-{n}")
            await orchestrator.start(Silent, 1, run_id="silent")

    asyncio.run(fill())

    def call(name: str, *words: str) -> Result:
        return CliRunner().invoke(command_line, [name, "signal_shop:app", *words])

    return call


def one_line(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_a_signal_is_sent_to_runs_and_they_go_on_with_it(floxide: Command, shop: Floxide) -> None:
    sent = floxide("signal", "approval", "true", "run-0", "run-1", "--id", "a")
    accepted = "Run run-0 has accepted signal approval.\nRun run-1 has accepted signal approval.\n"
    assert (sent.exit_code, sent.stdout) == (0, accepted)
    again = floxide("signal", "approval", "true", "run-0", "--id", "a")
    assert (again.exit_code, again.stdout) == (0, "Run run-0 had accepted signal approval with the id a already.\n")
    assert floxide("signal", "approval", "false", "run-0", "--id", "a").exit_code == 4

    async def results() -> list[bool]:
        async with shop.orchestrator() as orchestrator:
            return [await orchestrator.handle(Asking, f"run-{n}").result(20) for n in range(2)]

    assert asyncio.run(results()) == [True, True]
    over = floxide("signal", "approval", "true", "run-0")
    assert over.exit_code == 4
    assert "Cannot signal run 'run-0': it is completed" in one_line(over)


def test_what_is_no_signal_of_the_run_or_no_value_of_it_is_refused(floxide: Command) -> None:
    unknown = floxide("signal", "aproval", "true", "run-0")
    assert unknown.exit_code == 2
    assert "takes no signal 'aproval': it takes approval" in one_line(unknown)
    wrong = floxide("signal", "approval", '"yes, please"', "run-0")
    assert wrong.exit_code == 2
    assert "The value of signal 'approval' must be bool" in one_line(wrong)
    undeclared = floxide("signal", "approval", "true", "silent")
    assert undeclared.exit_code == 2
    assert "signals = (APPROVAL,)" in one_line(undeclared)
    assert floxide("signal", "approval", "true", "nobody").exit_code == 4


@pytest.mark.parametrize(("policy", "code"), [("COMPATIBLE", 0), ("AUTO_UPGRADE", 0), ("STRICT", 2)])
def test_code_of_a_newer_version_signals_the_runs_that_it_goes_on_with(
    floxide: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, code: int
) -> None:
    class Newer(Workflow[int, bool], name="Asking", version="2", versions=VersionPolicy[policy]):
        start = ask
        signals = (APPROVAL,)

    module = ModuleType("newer_shop")
    module.app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Newer])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "newer_shop", module)
    sent = CliRunner().invoke(command_line, ["signal", "newer_shop:app", "approval", "true", "run-0"])
    assert sent.exit_code == code
    if code:
        assert "lacks version '1' of workflow 'Asking'" in one_line(sent)
        assert "It has: Asking@2." in one_line(sent)
    else:
        assert sent.stdout == "Run run-0 has accepted signal approval.\n"


def test_a_run_is_started_for_later_with_a_timeout_of_its_own(floxide: Command) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    words = ("Asking", "--input", "1", "--run-id", "later", "--start-at", later, "--run-timeout", "3600")
    assert floxide("start", *words).exit_code == 0
    assert floxide("start", "Asking", "--input", "1", "--run-id", "soon", "--delay", "7200").exit_code == 0
    shown = json.loads(floxide("status", "later", "--json").stdout)["run"]
    assert shown["status"] == "waiting"
    assert shown["waits"][0]["what"] == "its start"
    deadline, start = datetime.fromisoformat(shown["deadline_at"]), datetime.fromisoformat(later)
    assert abs(deadline - start - timedelta(hours=1)) < timedelta(seconds=1)
    assert floxide("start", "Asking", "--input", "1", "--delay", "5", "--start-at", later).exit_code == 2
