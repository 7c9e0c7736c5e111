"""A Redis Cluster on one machine: several private servers that share the hash slots, to take some of them away.

with RedisCluster() as cluster:
    ...connect to cluster.url...
    cluster.nodes[0].kill()
"""

from __future__ import annotations

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.redis_servers import PrivateRedis
from floxide_amqp.testing.server import UsableInBlock

URL_VARIABLE: Final = "FLOXIDE_TEST_REDIS_CLUSTER_URL"
"""Names a running cluster to use instead of launching one, ``redis+cluster://…``."""

NODES: Final = 3
"""The least that `redis-cli` makes a cluster of."""

SETTLE_SECONDS: Final = 120.0

_CONFIGURATION: Final = """\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 2000
"""


class RedisCluster(UsableInBlock):
    """Private servers formed into a cluster without replicas; all methods block.

    Args:
        size: How many nodes; 3 or more.
        lives_with: The process with which they end; None for this one.
        configuration: More lines for the ``redis.conf`` of each.

    Raises:
        ConfigurationError: Redis is not installed here.
    """

    def __init__(self, size: int = NODES, *, lives_with: int | None = None, configuration: str = "") -> None:
        lines = f"{_CONFIGURATION}{configuration}"
        self.nodes: Final = tuple(PrivateRedis(lives_with=lives_with, configuration=lines) for _ in range(size))

    @property
    def url(self) -> str:
        """Where to connect."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start all nodes and give each its share of the hash slots.

        Raises:
            ConfigurationError: They did not become a cluster.
        """
        try:
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(PrivateRedis.start, self.nodes))
            self._form()
            self.wait_until_whole()
        except BaseException:
            for node in self.nodes:  # those that have started would live on with nobody to end them
                node.kill()
            raise

    def _form(self) -> None:
        client = shutil.which("redis-cli") or shutil.which("valkey-cli") or "redis-cli"
        places = [f"127.0.0.1:{node.port}" for node in self.nodes]
        command = [client, "--cluster", "create", *places, "--cluster-yes"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SETTLE_SECONDS)
        if done.returncode != 0:
            raise ConfigurationError(f"The private Redis Cluster could not be made: {done.stdout[-1000:]}")

    def wait_until_whole(self) -> None:
        """Wait until every node finds that all hash slots are served.

        Raises:
            ConfigurationError: They do not.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while not all(b"cluster_state:ok" in _raw(node.command("CLUSTER", "INFO")) for node in self.nodes):
            if time.monotonic() > deadline:
                raise ConfigurationError(f"The private Redis Cluster was not whole within {SETTLE_SECONDS:g} s.")
            time.sleep(0.05)

    def close(self) -> None:
        """End all nodes for good and remove what they left."""
        for node in self.nodes:
            node.close()


def _raw(said: Any) -> bytes:
    """Return what CLUSTER INFO says; redis-py takes it apart."""
    if isinstance(said, bytes):
        return said
    return b"\n".join(f"{name}:{value}".encode() for name, value in dict(said).items())
