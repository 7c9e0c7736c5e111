from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floxide_amqp import ConfigurationError, Floxide, Workflow, node
from floxide_amqp.apps import stores
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import StoreUnavailableError


@node
async def double(n: int) -> int:
    return 2 * n


class Doubles(Workflow[int, int]):
    start = double


def test_an_application_is_moved_and_the_original_stays_where_it_is() -> None:
    app = Floxide(workflows=[Doubles])
    moved = app.elsewhere(broker="amqp://guest:guest@localhost/", store="sqlite:///runs.db")
    assert (app.is_embedded, app.is_in_memory) == (True, True)
    assert (moved.is_embedded, moved.is_in_memory) == (False, False)
    assert moved.registry is app.registry


def test_what_is_not_named_stays_as_it_is() -> None:
    app = Floxide("amqp://guest:guest@localhost/", store="sqlite:///runs.db", workflows=[Doubles])
    assert not app.elsewhere().is_embedded
    assert not app.elsewhere(store="sqlite:///other.db").is_embedded
    assert not Floxide(store="sqlite:///runs.db").elsewhere(connect_timeout=1).is_in_memory


def test_a_place_that_is_wrong_is_refused_as_in_code() -> None:
    app = Floxide(workflows=[Doubles])
    with pytest.raises(ConfigurationError, match="Several processes need a store they share"):
        app.elsewhere(broker="amqp://guest:guest@localhost/")
    with pytest.raises(ConfigurationError, match="is not the URL of a store"):
        app.elsewhere(store="mysql://localhost")


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("a=sqlite:///a.db b", "A shard is given as name=URL"),
        ("a=sqlite:///a.db a=sqlite:///b.db", "needs a name of its own"),
        ("a=sqlite:///a.db b=mysql://root:secret@host/b", "mysql://… is not the URL of a store"),
        ({}, "needs a name of its own"),
        ({"": "sqlite:///a.db"}, "needs a name of its own"),
    ],
)
def test_shards_that_are_given_wrongly_are_refused(location: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        Floxide("amqp://guest:guest@localhost/", store=location)
    assert "secret" not in str(caught.value)


async def test_a_store_of_several_files_is_opened_by_the_names_of_its_shards(tmp_path: Path) -> None:
    shards = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("a", "b", "c")}
    app = Floxide(store=" ".join(f"{name}={url}" for name, url in shards.items()), workflows=[Doubles])
    async with app.orchestrator() as orchestrator:
        handles = [await orchestrator.start(Doubles, n, run_id=f"run-{n}") for n in range(12)]
        assert [await handle.result(timeout=10) for handle in handles] == [2 * n for n in range(12)]
    async with app.elsewhere(store=shards).orchestrator(with_worker=False) as orchestrator:
        page = await orchestrator.list_runs()
        assert sorted(run.run_id for run in page.runs) == sorted(f"run-{n}" for n in range(12))
    with pytest.raises(ConfigurationError, match=r"This server is shard 'a' of a, b, c, and it was named as shard 'a'"):
        async with app.elsewhere(store={"a": shards["a"], "b": shards["b"]}).orchestrator():
            pass


async def test_an_application_of_a_deployment_runs_embedded_and_in_memory() -> None:
    app = Floxide("amqp://nobody:nothing@nowhere.invalid/", store="sqlite:////no/such/folder/x.db", workflows=[Doubles])
    local = app.embedded()
    assert (local.is_embedded, local.is_in_memory) == (True, True)
    async with local.orchestrator() as orchestrator:
        assert await (await orchestrator.start(Doubles, 4)).result(timeout=10) == 8


class NoStart(Workflow[int, int]):
    pass


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([NoStart], "Workflow 'NoStart' has no start, so there is nothing to run"),
        (["Doubles"], "workflows holds 'Doubles', which is not a workflow class"),
        ([int], "workflows holds int, which is not a workflow class"),
        (Doubles, "workflows=Doubles is not a list"),
        ("Doubles", "workflows='Doubles' is not a list"),
    ],
)
def test_what_is_no_workflow_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Floxide(workflows=given)


def test_the_same_workflow_may_be_given_twice() -> None:
    assert Floxide(workflows=[Doubles, Doubles]).registry.names() == ("Doubles@1",)


async def test_running_a_workflow_without_a_start_says_so() -> None:
    with pytest.raises(ConfigurationError, match="has no start"):
        await NoStart.run(1)
    async with Floxide(workflows=[Doubles]).orchestrator() as orchestrator:
        with pytest.raises(ConfigurationError, match="has no start"):
            await orchestrator.start(NoStart, 1)


async def test_a_worker_that_starts_before_its_store_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, tries = MemoryKeyValueStore(), 0

    async def away_at_first(location: object) -> MemoryKeyValueStore:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailableError(store="db", reason="connection refused")
        return made

    monkeypatch.setattr(stores, "open_another", away_at_first)
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.001)
    async with stores.open_store("postgresql://host/db", patience_seconds=60) as opened:
        assert opened is made
    tries = 0
    with pytest.raises(StoreUnavailableError):
        async with stores.open_store("postgresql://host/db"):
            pass
    assert tries == 1
