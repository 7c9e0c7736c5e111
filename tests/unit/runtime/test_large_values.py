"""Runs whose steps hand on large values: each is written once, and is whole whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import Encryption, RetryPolicy, RunFailedError, RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.ports.codec import Codec
from floxide_amqp.ports.key_value import Key
from floxide_amqp.runtime.settings import Retention
from floxide_amqp.runtime.upgrading import Raised
from floxide_amqp.stores import keys
from floxide_amqp.testing.faults import StoreFaults
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_large_payloads_sealed import CodedCluster
from tests.unit.runtime.test_raising_runs import raised
from tests.unit.runtime.test_versions import AUTO

MakeCluster = Callable[..., Cluster]

LARGE = "large" * 2_000


@node
async def first(text: str) -> str:
    return f"{text}1"


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=1))
async def second(ctx: WorkflowCtx, text: str) -> str:
    if ctx.attempt == 1:
        raise RuntimeError("once more")
    return f"{text}2"


@node
async def third(text: str) -> str:
    return f"{text}3"


class Chain(Workflow[str, str], version="1"):
    start = first
    edges = (first >> second >> third,)


@node
async def fails(text: str) -> str:
    raise ValueError("too long")


class Branches(Workflow[str, list[str]], version="1"):
    start = first
    edges = (first >> (third, third.named("fourth")),)


class Fallback(Workflow[str, str], version="1"):
    start = first
    edges = (first >> fails, fails.on_failure >> third)


class Fails(Workflow[str, str], version="1"):
    start = fails


def sizes_apart(here: Cluster, run_id: str) -> list[int]:
    """Return the sizes of what a run has in cells of inputs."""
    cells = here.store._slots[slot_of(RunId(run_id))].cells
    return [len(cell.value) for key, cell in cells.items() if key.partition == run_id and key.name.startswith("v:")]


def watch_puts(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the names of cells are added that are put apart."""
    put: list[str] = []
    guard = here.store._guard

    def noting(key: Key, *rest: Any) -> None:
        guard(key, *rest)
        if key.name.startswith("v:"):
            put.append(key.name)

    monkeypatch.setattr(here.store, "_guard", noting)
    return put


async def inputs_of(here: Cluster, run_id: str) -> list[str]:
    """Return the inputs of a run's ended items as the store has them, in the order in which they ended."""
    items = here.client().services.items
    history = await items.history(RunId(run_id))
    found = await items.find(RunId(run_id), [WorkItemId(entry.item_id) for entry in history])
    return [each.item.input.payload.decode(errors="ignore")[-4:] for each in found if each is not None]


async def test_a_step_writes_only_what_it_came_to(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    here = cluster(Chain)
    put = watch_puts(here, monkeypatch)
    await here.start_worker()
    run = await here.client().start(Chain, LARGE, run_id="run")
    assert await run.result(60) == f"{LARGE}123"
    assert len(put) == len(set(put)) == 3
    assert await inputs_of(here, "run") == ["arge", "rge1", "ge12"]


async def test_whatever_becomes_of_commits_the_values_are_whole(cluster: MakeCluster) -> None:
    trouble = StoreFaults(lost_reply=0.2, unavailable=0.1, touched=0.2, may_touch=lambda key: key.name == "state")
    here = cluster(Chain, store_faults=trouble)
    for _ in range(2):
        await here.start_worker()
    client = here.client()
    runs = [await client.start(Chain, f"{number}{LARGE}", run_id=f"run-{number}") for number in range(20)]
    for number, run in enumerate(runs):
        assert await run.result(600) == f"{number}{LARGE}123"
        assert await inputs_of(here, f"run-{number}") == ["arge", "rge1", "ge12"]


@pytest.mark.parametrize("keeps", [True, False])
async def test_what_is_not_kept_takes_no_room(cluster: MakeCluster, keeps: bool) -> None:
    here = cluster(Chain, retention=Retention(keep_inputs=keeps))
    await here.start_worker()
    run = await here.client().start(Chain, LARGE, run_id="run")
    assert await run.result(60) == f"{LARGE}123"
    left = sizes_apart(here, "run")
    assert [size > len(LARGE) for size in left] == [keeps] * 3
    assert keeps or not any(left)


@pytest.mark.parametrize("workflow", [Chain, Branches])
@pytest.mark.parametrize("codecs", [(), (Encryption({"key": bytes(range(32))}),)])
async def test_so_it_is_with_codecs_and_of_every_successor(workflow: Any, codecs: tuple[Codec, ...]) -> None:
    here = CodedCluster(workflow, retention=Retention(keep_inputs=False))
    here.codecs = codecs
    try:
        await here.start_worker()
        run = await here.client().start(workflow, LARGE, run_id="run")
        assert await run.wait(60) is RunStatus.COMPLETED
    finally:
        await here.close()
    assert sizes_apart(here, "run") == [0, 0, 0]


async def test_a_fallback_leaves_nothing_of_the_input_that_it_takes_over(cluster: MakeCluster) -> None:
    here = cluster(Fallback, retention=Retention(keep_inputs=False))
    await here.start_worker()
    run = await here.client().start(Fallback, LARGE, run_id="run")
    assert await run.result(60) == f"{LARGE}13"
    assert sorted(size > 0 for size in sizes_apart(here, "run")) == [False, False, True]  # what failed keeps it


async def test_of_several_successors_each_writes_its_input_once(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster(Branches)
    put = watch_puts(here, monkeypatch)
    await here.start_worker()
    run = await here.client().start(Branches, LARGE, run_id="run")
    assert await run.wait(60) is RunStatus.COMPLETED
    assert len(put) == len(set(put)) == 3


async def test_a_large_input_is_gone_once_somebody_gives_the_item_a_small_one(cluster: MakeCluster) -> None:
    here = cluster(Fails)
    await here.start_worker()
    client = here.client()
    run = await client.start(Fails, LARGE, run_id="run")
    for text in ("small", LARGE[1:]):
        with pytest.raises(RunFailedError):
            await run.result(60)
        await client.retry("run", input=text)
        assert [size > 0 for size in sizes_apart(here, "run")] == [text != "small"]


async def test_and_once_migrate_makes_a_small_one_of_it(cluster: MakeCluster) -> None:
    class Newer(Workflow[str, str], name="Fails", version="2", versions=AUTO):
        start = fails

        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            for step in run.steps:
                step.plain = "small"

    here = cluster(Fails)
    await here.client().start(Fails, LARGE, run_id="run")
    assert await raised(here, Newer) is Raised.DONE
    assert sizes_apart(here, "run") == [0]


async def test_an_input_that_is_missing_is_named_and_the_run_goes_on_once_it_is_back(cluster: MakeCluster) -> None:
    here = cluster(Chain)
    client = here.client()
    run = await client.start(Chain, LARGE, run_id="run")
    header = (await client.services.runs.load(RunId("run"))).header
    cells, key = here.store._slots[slot_of(RunId("run"))].cells, keys.item_input(RunId("run"), header.start_item)
    lost = cells.pop(key)
    await here.start_worker()
    failed = await run.wait(60)
    assert failed is RunStatus.FAILED
    cells[key] = lost
    await client.resume("run")
    assert await run.result(60) == f"{LARGE}123"
