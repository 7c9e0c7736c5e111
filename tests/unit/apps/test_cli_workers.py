"""`floxide workers` and what `floxide worker` is told to serve."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.runtime.vitals import new_record


@node(labels={"gpu"})
async def draw(n: int) -> int:
    return n


class Drawing(Workflow[int, int]):
    start = draw


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Floxide:
    module = ModuleType("worker_shop")
    module.app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Drawing])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "worker_shop", module)
    found: Floxide = module.app
    return found


@pytest.fixture
def floxide(app: Floxide) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(command_line, arguments)


async def beat(app: Floxide) -> None:
    async with app.orchestrator(with_worker=False) as orchestrator:
        services = orchestrator.services
        record = new_record(
            WorkerId("painter"), now_ms=services.now_ms(), queues=("default/gpu",), workflows=("Drawing@1",),
            concurrency=3, labels=("eu", "gpu"),
        )  # fmt: skip
        await services.liveness.beat(record)


def test_workers_are_listed_with_their_labels_and_the_queues_they_serve(
    app: Floxide, floxide: Callable[..., Result]
) -> None:
    asyncio.run(beat(app))

    shown = " ".join(floxide("workers", "worker_shop:app").output.split())
    (told,) = json.loads(floxide("workers", "worker_shop:app", "--json").output)

    assert "painter starting alive eu, gpu default/gpu Drawing@1 0 0" in shown
    assert (told["worker_id"], told["labels"], told["queues"]) == ("painter", ["eu", "gpu"], ["default/gpu"])


def test_a_worker_is_given_the_labels_of_the_command_line(
    app: Floxide, floxide: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    class Opened:
        def stop(self) -> None:
            pass

        async def run_forever(self) -> None:
            pass

    @asynccontextmanager
    async def worker(**options: Any) -> AsyncIterator[Opened]:
        given.update(options)
        yield Opened()

    monkeypatch.setattr(app, "worker", worker)
    done = floxide("worker", "worker_shop:app", "--label", "gpu", "--label", "eu", "--only-labelled", "--queue", "a")

    assert done.exit_code == 0
    assert (given["labels"], given["only_labelled"], given["queues"]) == ({"gpu", "eu"}, True, ["a"])


def test_a_worker_that_would_serve_nothing_ends_with_the_reason(floxide: Callable[..., Result]) -> None:
    done = floxide("worker", "worker_shop:app", "--label", "ssd", "--only-labelled")

    assert done.exit_code == 3
    assert "would serve no task queue" in " ".join(done.stderr.split())


def test_a_wrong_label_is_told(floxide: Callable[..., Result]) -> None:
    done = floxide("worker", "worker_shop:app", "--label", "a b")

    assert done.exit_code == 3
    assert "the label 'a b' must consist of" in " ".join(done.stderr.split())
