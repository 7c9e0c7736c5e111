"""`floxide terminate`, `retry`, `fork`, `complete`, `edit-context`, `audit` and `bulk`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Compensation, Context, Floxide, Sum, Workflow, WorkflowCtx, node
from floxide_amqp.apps.cli.main import app as command_line

Command = Callable[..., Result]


class Account(Context):
    limit: int = 10
    total: Annotated[int, Sum()] = 0


@node
async def refuse_refund(of: Compensation[int, int]) -> None:
    raise ValueError("the bank is closed")


@node
async def strict(ctx: WorkflowCtx[Account], x: int) -> int:
    if x > ctx.state.limit:
        raise ValueError(f"{x} is too much")
    ctx.state.total += x
    return x


@node(compensation=refuse_refund)
async def pay(x: int) -> int:
    return x


class Strict(Workflow[int, int, Account]):
    start = strict


class Paying(Workflow[int, int, Account]):
    start = pay
    edges = (pay >> strict,)


class Shop:
    """An application with runs that have failed and one that has not begun."""

    def __init__(self, directory: Path) -> None:
        self.app = Floxide(store=f"sqlite:///{directory}/runs.db", workflows=[Strict, Paying])

    async def fill(self) -> None:
        async with self.app.orchestrator() as orchestrator:
            for name, workflow, input in (("failed", Strict, 20), ("undone", Paying, 20), ("done", Strict, 3)):
                run: Any = workflow
                await (await orchestrator.start(run, input, run_id=name)).wait(20)
        async with self.app.orchestrator(with_worker=False) as orchestrator:
            await orchestrator.start(Strict, 7, run_id="waits")

    async def work(self, run_id: str) -> Any:
        async with self.app.orchestrator() as orchestrator:
            return await orchestrator.handle(Strict, run_id).result(20)

    async def failed_item(self) -> str:
        async with self.app.orchestrator(with_worker=False) as orchestrator:
            return (await orchestrator.pending_work("failed"))[0].item_id


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    module = ModuleType("steered_shop")
    module.app = made.app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "steered_shop", module)
    asyncio.run(made.fill())
    return made


def floxide(*words: str) -> Result:
    name, *rest = words if words[0] != "bulk" else (f"bulk {words[1]}", *words[2:])
    return CliRunner().invoke(command_line, [*name.split(), "steered_shop:app", *rest])


def one_line(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_a_failed_step_gets_another_input_and_it_is_on_record(shop: Shop) -> None:
    wrong = floxide("retry", "failed", "--input", '"seven"')
    assert (wrong.exit_code, "The input of node 'strict' must be int" in one_line(wrong)) == (2, True)
    done = floxide("retry", "failed", "--input", "7", "--by", "ann", "--reason", "a typo")
    assert (done.exit_code, done.stdout) == (0, "Run failed goes on.\n")
    assert asyncio.run(shop.work("failed")) == 7
    (noted,) = json.loads(floxide("audit", "failed", "--json").stdout)
    assert (noted["action"], noted["by"], noted["reason"]) == ("retry", "ann", "a typo")
    assert "a typo" in floxide("audit", "failed").stdout


def test_the_context_is_edited_and_the_same_tried_again(shop: Shop) -> None:
    for change, said in (("limit", "no '='"), ("colour=1", "no field 'colour'"), ('limit="x"', "must be int")):
        refused = floxide("edit-context", "failed", "--set", change)
        assert (refused.exit_code, said in one_line(refused)) == (2, True)
    assert floxide("edit-context", "failed", "--set", "limit=50").exit_code == 0
    assert floxide("retry", "failed").exit_code == 0
    assert asyncio.run(shop.work("failed")) == 20
    assert floxide("edit-context", "done", "--set", "limit=50").exit_code == 4


def test_a_step_and_a_run_are_completed_by_hand(shop: Shop) -> None:
    assert floxide("complete", "waits", "--output", "11", "--reason", "done elsewhere").exit_code == 0
    assert json.loads(floxide("status", "waits", "--json").stdout)["result"] == 11
    assert floxide("complete", "waits", "--output", "11").exit_code == 4
    item = asyncio.run(shop.failed_item())
    done = floxide("complete", "failed", "--item", item, "--output", "9")
    assert (done.exit_code, "`floxide resume`" in done.stdout) == (0, True)
    assert floxide("resume", "failed").exit_code == 0
    assert asyncio.run(shop.work("failed")) == 9
    assert floxide("complete", "failed", "--item", "nothing", "--output", "1").exit_code == 4


def test_a_run_is_forked_from_an_item(shop: Shop) -> None:
    (item,) = json.loads(floxide("items", "done", "--json").stdout)
    forked = floxide("fork", "done", "--from", item["item_id"], "--input", "5", "--run-id", "again")
    assert (forked.exit_code, forked.stdout) == (0, "again\n")
    assert asyncio.run(shop.work("again")) == 5
    assert f"done item {item['item_id']}" in floxide("status", "again").stdout
    refused = floxide("fork", "done", "--from", "nothing")
    assert (refused.exit_code, "there is no such item" in one_line(refused)) == (4, True)


def test_a_run_is_terminated(shop: Shop) -> None:
    assert floxide("terminate", "waits").stdout == "Run waits is terminated.\n"
    assert floxide("terminate", "waits").stdout == "Run waits was cancelled already.\n"
    assert floxide("terminate", "done").exit_code == 4


def test_the_status_tells_how_much_was_undone(shop: Shop) -> None:
    shown = floxide("status", "undone").stdout
    assert "0 steps, 1 failed" in shown
    refused = floxide("retry", "undone")
    assert (refused.exit_code, "what it did has been undone" in one_line(refused)) == (4, True)


def test_many_runs_are_counted_and_then_cancelled(shop: Shop) -> None:
    assert floxide("bulk", "cancel").exit_code == 2
    counted = floxide("bulk", "cancel", "--status", "pending", "--dry-run")
    assert (counted.exit_code, counted.stdout) == (0, "1 run would be cancelled, where the status allows it.\n")
    unasked = floxide("bulk", "cancel", "--all")
    assert (unasked.exit_code, "give --yes" in one_line(unasked)) == (2, True)
    done = floxide("bulk", "cancel", "--all", "--yes", "--by", "ann")
    assert (done.exit_code, done.stdout) == (0, "4 runs: 1 cancelled, 3 unchanged, 0 failed.\n")


def test_what_cannot_be_done_to_some_runs_is_told(shop: Shop) -> None:
    done = floxide("bulk", "resume", "--all", "--yes")
    assert (done.exit_code, done.stdout) == (4, "4 runs: 1 resumed, 1 unchanged, 2 failed.\n")
    assert "undone: Cannot resume run 'undone'" in one_line(done)
    assert floxide("bulk", "delete", "--status", "completed", "--yes").stdout == (
        "1 run: 1 deleted, 0 unchanged, 0 failed.\n"
    )
