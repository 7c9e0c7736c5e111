"""A RabbitMQ cluster on one machine: several private servers that know each other, to take some of them away.

with RabbitMQCluster() as cluster:
    ...connect to cluster.nodes[0].url...
    cluster.nodes[0].kill()
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.private_rabbitmq import PeerGroup, PrivateRabbitMQ
from floxide_amqp.testing.server_processes import ServerProcess

NODES: Final = 3
"""The least with which a quorum queue outlives the loss of a node."""


class RabbitMQCluster:
    """Private servers with one port mapper, formed into a cluster; all methods block."""

    def __init__(self, size: int = NODES, *, configuration: str = "") -> None:
        """Prepare the nodes; nothing runs yet.

        Args:
            size: How many nodes; 3 or more.
            configuration: More lines for the ``rabbitmq.conf`` of each; see `PrivateRabbitMQ`.

        Raises:
            ConfigurationError: RabbitMQ is not installed here.
        """
        (port,) = free_ports(1)
        self._peers = PeerGroup(epmd_port=port, cookie=secrets.token_hex(16))
        self._mapper_folder = Path(tempfile.mkdtemp(prefix="floxide-epmd-"))
        self._mapper = ServerProcess(self._mapper_folder)
        self.nodes: Final = tuple(PrivateRabbitMQ(configuration=configuration, peers=self._peers) for _ in range(size))

    def __enter__(self) -> Self:
        """Start it."""
        with ExitStack() as stack:
            stack.callback(self.close)
            self.start()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def start(self) -> None:
        """Start all nodes, side by side, and have them join the first."""
        # Apart from the nodes, for it must outlive each of them.
        self._mapper.start(["epmd", "-address", "127.0.0.1", "-port", str(self._peers.epmd_port)], os.environ)
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(PrivateRabbitMQ.start, self.nodes))
        for node in self.nodes[1:]:  # one after the other: two at once may refuse each other
            node.ctl("stop_app")
            node.ctl("join_cluster", self.nodes[0].node)
            node.ctl("start_app")

    def node_called(self, name: str) -> PrivateRabbitMQ:
        """Return the node of a name, as the broker's own listings give it."""
        return next(node for node in self.nodes if node.node == name)

    def close(self) -> None:
        """End all nodes for good and remove what they left."""
        for node in self.nodes:
            node.close()
        self._mapper.kill()
        shutil.rmtree(self._mapper_folder, ignore_errors=True)
