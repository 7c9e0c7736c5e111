"""The RabbitMQ servers that `floxide_amqp.testing.services` hands out: somebody else's, a private one, a container."""

from __future__ import annotations

from typing import Final, Protocol

from floxide_amqp.testing.amqp_handshake import can_log_in
from floxide_amqp.testing.named_servers import NamedServer
from floxide_amqp.testing.private_rabbitmq import (
    START_SECONDS,
    STOP_SECONDS,
    URL_VARIABLE,
    PeerGroup,
    PrivateRabbitMQ,
    find_scripts,
)
from floxide_amqp.testing.server import Server
from floxide_amqp.testing.server_containers import ContainedServer

__all__ = [
    "URL_VARIABLE",
    "ContainerRabbitMQ",
    "ExternalRabbitMQ",
    "PeerGroup",
    "PrivateRabbitMQ",
    "RabbitMQ",
    "can_log_in",
    "find_scripts",
]

IMAGE: Final = "rabbitmq:4-management"


class RabbitMQ(Server, Protocol):
    """A RabbitMQ for tests; its URL is ``amqp://…``."""

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against it and return what that printed."""
        ...


class ExternalRabbitMQ(NamedServer):
    """A broker somebody else runs; it can be used, not mistreated."""

    product = "RabbitMQ"
    variable = URL_VARIABLE

    def ctl(self, *arguments: str) -> str:
        """Refuse."""
        del arguments
        self._refuse()

    def _answers(self) -> bool:
        return can_log_in(self.url)


class ContainerRabbitMQ(ContainedServer):
    """A server in a container of the engine that testcontainers finds.

    Args:
        image: What to run.
        lives_with: The process with which it ends; None for this one.
    """

    inner_port = 5672
    start_seconds = START_SECONDS
    stop_seconds = STOP_SECONDS

    def __init__(self, image: str = IMAGE, *, lives_with: int | None = None) -> None:
        super().__init__(image, lives_with=lives_with)

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` inside it."""
        return self._run("rabbitmqctl", "--quiet", *arguments)

    def _answers(self) -> bool:
        return can_log_in(self.url)
