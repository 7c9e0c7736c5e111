"""pytest fixtures that hand tests a Redis: `redis_url`, `redis_cluster_url`, shared, and `own_redis`, to mistreat.

Import them into a ``conftest.py``, or into the module that uses them. The shared server and the shared cluster are
launched once per run, by whichever pytest-xdist worker needs them first, and end with the run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import redis_cluster
from floxide_amqp.testing.redis_cluster import RedisCluster
from floxide_amqp.testing.redis_servers import Redis, forget, is_named
from floxide_amqp.testing.services import launch_own_redis, launch_redis
from floxide_amqp.testing.shared_servers import shared_url


@pytest.fixture(scope="session")
def redis_server_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a server that the whole run shares."""
    return shared_url("redis", lambda owner: launch_redis(lives_with=owner), tmp_path_factory)


@pytest.fixture
def redis_url(redis_server_url: str) -> Iterator[str]:
    """Return the URL of a store that no other test has: one prefix in the shared server."""
    prefix = f"test-{secrets.token_hex(6)}"
    yield f"{redis_server_url}?prefix={prefix}"
    if is_named():
        forget(redis_server_url, prefix)


@pytest.fixture(scope="session")
def redis_cluster_server_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a Redis Cluster that the whole run shares."""

    def launch(owner: int | None) -> RedisCluster:
        cluster = RedisCluster(lives_with=owner)
        cluster.start()
        return cluster

    named = os.environ.get(redis_cluster.URL_VARIABLE)
    return named or shared_url("redis-cluster", launch, tmp_path_factory)


@pytest.fixture
def redis_cluster_url(redis_cluster_server_url: str) -> str:
    """Return the URL of a store that no other test has: one prefix in the shared cluster."""
    return f"{redis_cluster_server_url}?prefix=test-{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def launched_redis() -> Iterator[Redis]:
    """Launch a server that this process alone uses."""
    try:
        server = launch_own_redis()
    except ConfigurationError as error:
        pytest.skip(f"needs a Redis that may be stopped: {error}")
    yield server
    server.close()


@pytest.fixture
def own_redis(launched_redis: Redis) -> Redis:
    """Return a running server that a test may stop, kill, wipe and pause; mark such tests with one ``xdist_group``."""
    launched_redis.start()
    return launched_redis
