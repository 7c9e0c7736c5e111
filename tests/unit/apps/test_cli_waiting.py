"""What the command line says of a run that waits for a worker which has its node."""

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

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.apps.cli.printing import wait_in_words
from floxide_amqp.core import moves
from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.ids import RunId, derive_item_id
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.runtime.views import WaitInfo
from floxide_amqp.runtime.waits import missing_node


@node
async def double(n: int) -> int:
    return 2 * n


class Doubles(Workflow[int, int], version="3"):
    start = double


Command = Callable[..., Result]
WHAT = "a worker that has node 'double' of workflow 'Doubles' version '3'"


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on an application with a run that is parked and one that has not begun."""
    module = ModuleType("waiting_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Doubles])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "waiting_shop", module)

    async def fill() -> None:
        async with app.orchestrator(with_worker=False) as orchestrator:
            await orchestrator.start(Doubles, 1, run_id="fresh")
            await orchestrator.start(Doubles, 2, run_id="parked")
            services, run_id = orchestrator.services, RunId("parked")
            run, found = await services.runs.find_with_item(run_id, derive_item_id(run_id, "", "start"))
            assert run is not None
            assert found is not None
            decision = moves.park(
                found.item, found.turn, run.epoch, ("Doubles", "3", found.item.node), MessageAnchor("default", ""),
                note=missing_node(run.header, found.item), now_ms=services.now_ms(),
            )  # fmt: skip
            await services.commit(run.writer, decision)

    asyncio.run(fill())

    def call(name: str, *words: str) -> Result:
        return CliRunner().invoke(command_line, [name, "waiting_shop:app", *words])

    return call


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_status_says_what_a_parked_run_waits_for_and_since_when(floxide: Command) -> None:
    shown = one_line(floxide("status", "parked").stdout)
    assert "status waiting" in shown
    assert f"waits for {WHAT}, since 20" in shown
    assert "waits for a worker that serves task queue 'default' to run node 'double'" in one_line(
        floxide("status", "fresh").stdout
    ), "no worker runs"
    told = json.loads(floxide("status", "parked", "--json").stdout)["run"]
    assert told["status"] == "waiting"
    assert [(wait["what"], wait["items"], wait["until"]) for wait in told["waits"]] == [(WHAT, 1, None)]
    assert told["waits"][0]["since"]


def test_list_shows_a_parked_run_among_those_that_wait_with_what_for(floxide: Command) -> None:
    listed = floxide("list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("parked")]
    assert "waiting" in line
    assert f"waits for {WHAT}, since 20" in line
    assert "fresh" not in floxide("list", "--status", "waiting").stdout
    assert "parked" not in floxide("list", "--status", "pending").stdout


def test_resume_does_not_say_that_a_parked_run_goes_on(floxide: Command) -> None:
    done = floxide("resume", "parked")
    assert (done.exit_code, done.stdout) == (4, "")
    said = one_line(done.stderr)
    assert said.startswith("floxide: Cannot resume run 'parked': it is waiting, neither paused nor failed.")
    assert f"It waits for {WHAT}, since" in said
    watched = floxide("resume", "parked", "--watch", "--timeout", "1")
    assert watched.exit_code == 4


def test_resuming_a_run_that_is_not_stopped_says_that_there_was_nothing_to_do(floxide: Command) -> None:
    done = floxide("resume", "fresh")
    assert (done.exit_code, done.stdout) == (0, "Run fresh is pending: there was nothing to resume.\n")


def test_a_paused_run_that_waits_is_resumed_and_says_for_what(floxide: Command) -> None:
    assert floxide("pause", "parked").exit_code == 0
    assert one_line(floxide("status", "parked").stdout).count("paused") == 1
    done = floxide("resume", "parked")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Run parked is resumed; it waits for {WHAT}, since ")


def test_a_reason_that_is_a_sentence_goes_on_with_its_times_without_a_full_stop_before() -> None:
    wait = WaitInfo(
        status=WorkItemStatus.PARKED, node="double", what="somebody: customer: field required.", items=2,
        since=datetime(2026, 7, 1, tzinfo=UTC),
    )  # fmt: skip
    assert wait_in_words(wait) == "somebody: customer: field required, 2 items, since 2026-07-01 00:00:00.000Z"
