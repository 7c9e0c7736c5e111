"""`floxide sources` on the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import AmqpSource, Floxide, Workflow, node
from floxide_amqp.apps.cli.failures import ExitCode
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.sources import SourceCounts, SourceProblem


@node
async def double(n: int) -> int:
    return 2 * n


class Doubling(Workflow[int, int]):
    start = double


ORDERS = AmqpSource("orders", Doubling, queue="shop.orders")
Command = Callable[..., Result]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, of an application whose source has begun."""
    module = ModuleType("source_shop")
    app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Doubling], sources=[ORDERS])
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "source_shop", module)

    async def begin() -> None:
        async with app.orchestrator(with_worker=False) as orchestrator:
            store = orchestrator.services.source_store
            await store.put(ORDERS.spec)
            counts = SourceCounts(received=7, started=4, duplicates=2, quarantined=1)
            await store.count("orders", counts, 1_700_000_000_000, [RunId("orders:1")])
            await orchestrator.start(Doubling, 1, run_id="orders:1", delay=3600)
            problem = SourceProblem(text="there is no queue", at_ms=1_700_000_000_000, worker="worker-1")
            await store.put_problem("orders", problem)

    asyncio.run(begin())

    def call(name: str, *words: str) -> Result:
        return CliRunner().invoke(command_line, ["sources", name, "source_shop:app", *words])

    return call


def test_sources_are_listed_with_what_became_of_their_items(sources: Command) -> None:
    (listed,) = json.loads(sources("list", "--json").stdout)
    assert (listed["name"], listed["received"], listed["started"], listed["origin"]) == (
        "orders", 7, 4, "queue shop.orders",
    )  # fmt: skip
    table = sources("list", "--limit", "1").stdout
    assert "has a problem" in table
    assert "There may be more: --after 'orders'" in table


def test_a_source_is_shown_with_what_keeps_it_from_its_queue(sources: Command) -> None:
    shown = sources("show", "orders").stdout
    for part in ("shop.orders", "there is no queue", "worker-1"):
        assert part in shown
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("runs not over")] == ["1"]
    assert json.loads(sources("show", "orders", "--json").stdout)["duplicates"] == 2


def test_a_source_is_paused_and_resumed(sources: Command) -> None:
    assert sources("pause", "orders", "--reason", "stock-taking").stdout == "Source orders is paused.\n"
    assert "yes (stock-taking)" in sources("show", "orders").stdout
    assert "paused" in sources("list").stdout
    assert sources("resume", "orders").stdout == "Source orders takes items again.\n"
    assert "stock-taking" not in sources("show", "orders").stdout


def test_a_source_that_is_not_there_ends_with_a_sentence(sources: Command) -> None:
    for name in ("show", "pause", "resume"):
        result = sources(name, "other")
        assert result.exit_code == ExitCode.CONFLICT
        assert "There is no source 'other' in this store" in " ".join(result.stderr.split())


def test_running_a_source_without_a_broker_says_what_is_missing(sources: Command) -> None:
    result = sources("run", "orders")
    assert result.exit_code != 0
    assert "Source 'orders' has no broker" in " ".join(result.stderr.split())
