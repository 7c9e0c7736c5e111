"""Servers in containers: what a test is told when there is none to be had, and what is left of one that ended."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import postgresql_servers
from floxide_amqp.testing.container_keeper import engine_client
from floxide_amqp.testing.server_containers import OWNER_LABEL
from floxide_amqp.testing.services import ContainerRedis, has_container_engine
from tests.integration.server_kinds import KINDS, ServerKind, named

pytestmark = [
    pytest.mark.skipif(not has_container_engine(), reason="no container engine answers"),
    pytest.mark.xdist_group("launchers"),
]


@pytest.fixture
def containers() -> set[str]:
    return all_containers()


def all_containers() -> set[str]:
    """Those that this process has made: other tests may run beside it."""
    with closing(engine_client()) as engine:
        mine = {"label": f"{OWNER_LABEL}={os.getpid()}"}
        return {container.id for container in engine.containers.list(all=True, filters=mine)}


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_nothing_is_left_of_a_server_that_is_closed(kind: ServerKind, containers: set[str]) -> None:
    with kind.classes["Container"]() as server:
        assert len(all_containers() - containers) == 1
        url = server.url
        server.pause()
    assert not kind.answers(url)
    assert all_containers() <= containers
    server.close()


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_the_engine_comes_before_what_is_installed(kind: ServerKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kind.variable, raising=False)
    with closing(kind.launch()) as server:
        assert isinstance(server, kind.classes["Container"])


def test_an_image_that_is_not_to_be_had_is_named(containers: set[str]) -> None:
    with (
        closing(ContainerRedis("registry.invalid/redis:7")) as server,
        pytest.raises(ConfigurationError, match=r"registry\.invalid/redis:7"),
    ):
        server.start()
    assert all_containers() <= containers


def test_a_container_that_ends_at_its_start_shows_its_log_at_once(containers: set[str]) -> None:
    with (
        closing(ContainerRedis(postgresql_servers.IMAGE)) as server,  # which knows none of the settings of a Redis
        pytest.raises(ConfigurationError, match=r"(?s)The end of its log:.*(appendonly|password)"),
    ):
        server.start()
    assert all_containers() <= containers
