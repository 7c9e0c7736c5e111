"""What only the launchers of Redis have; `tests/integration/test_services.py` has what holds for every launcher."""

from __future__ import annotations

import asyncio
import socket

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.amqp_handshake import SERVER_PORTS
from floxide_amqp.testing.redis_cluster import RedisCluster
from floxide_amqp.testing.redis_servers import BUS_DISTANCE, ExternalRedis, Redis, answers, client_ports, forget
from tests.integration.redis.support import opened, put, value

pytestmark = pytest.mark.xdist_group("own_redis")


async def test_a_paused_server_answers_once_it_goes_on(own_redis: Redis) -> None:
    async with opened(f"{own_redis.url}?prefix=test-pause") as store:
        own_redis.pause()
        waiting = asyncio.create_task(put(store, b"x"))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        own_redis.resume()
        assert not done
        await waiting
        assert await value(store) == b"x"


def test_somebody_elses_server_is_used_and_left_as_it_was(own_redis: Redis) -> None:
    server = ExternalRedis(own_redis.url)
    server.start()
    server.command("SET", "mine{0}:a", "1")
    server.command("SET", "theirs", "1")
    with pytest.raises(ConfigurationError, match="not ours to stop or change"):
        server.command("FLUSHALL")
    forget(own_redis.url, "mine")
    assert own_redis.command("MGET", "mine{0}:a", "theirs") == [None, b"1"]
    server.close()


def test_a_cluster_of_which_a_node_does_not_start_leaves_no_node_behind() -> None:
    cluster = RedisCluster()
    taken = cluster.nodes[1].port + BUS_DISTANCE
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(ConfigurationError) as failed:
        cluster.start()
    assert "ended before it answered" in str(failed.value)
    assert f"Failed listening on port {taken}" in str(failed.value)
    assert [answers(node.url) for node in cluster.nodes] == [False] * len(cluster.nodes)
    cluster.close()


def test_no_client_is_given_the_port_on_which_a_node_talks_with_the_others() -> None:
    for port in client_ports(20):
        assert {port, port + BUS_DISTANCE} <= set(SERVER_PORTS)
