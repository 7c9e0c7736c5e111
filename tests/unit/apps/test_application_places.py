from __future__ import annotations

from typing import Any

import pytest

from floxide_amqp import ConfigurationError, Floxide, Workflow, node


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
        app.elsewhere(store="redis://localhost")


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
