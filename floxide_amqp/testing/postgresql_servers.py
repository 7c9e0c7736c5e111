"""The PostgreSQL servers that `floxide_amqp.testing.services` hands out: another's, a private one, a container."""

from __future__ import annotations

import secrets
from typing import Final, Protocol
from urllib.parse import urlsplit

from floxide_amqp.testing.named_servers import NamedServer
from floxide_amqp.testing.postgresql_statements import can_log_in, execute, new_database
from floxide_amqp.testing.private_postgresql import (
    START_SECONDS,
    STOP_SECONDS,
    URL_VARIABLE,
    USER,
    PrivatePostgreSQL,
    find_programs,
)
from floxide_amqp.testing.server import Server
from floxide_amqp.testing.server_containers import ContainedServer

__all__ = [
    "URL_VARIABLE",
    "ContainerPostgreSQL",
    "ExternalPostgreSQL",
    "PostgreSQL",
    "PrivatePostgreSQL",
    "can_log_in",
    "execute",
    "find_programs",
    "new_database",
]

IMAGE: Final = "postgres:17"


class PostgreSQL(Server, Protocol):
    """A PostgreSQL for tests; its URL is ``postgresql://…``."""

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        ...


class ExternalPostgreSQL(NamedServer):
    """A server somebody else runs; it can be used, not mistreated."""

    product = "PostgreSQL"
    variable = URL_VARIABLE

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._made: list[str] = []

    def new_database(self) -> str:
        """Make an empty database; `close` drops it."""
        url = new_database(self.url)
        self._made.append(url)
        return url

    def close(self) -> None:
        """Drop the databases made here, and leave everything else as it is."""
        for url in self._made:
            execute(self.url, f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}"')
        self._made.clear()

    def _answers(self) -> bool:
        return can_log_in(self.url)


class ContainerPostgreSQL(ContainedServer):
    """A server in a container of the engine that testcontainers finds.

    Args:
        image: What to run.
        lives_with: The process with which it ends; None for this one.
    """

    inner_port = 5432
    start_seconds = START_SECONDS
    stop_seconds = STOP_SECONDS
    stop_signal = "SIGINT"  # the server's fast shutdown; at a SIGTERM it waits for its clients

    def __init__(self, image: str = IMAGE, *, lives_with: int | None = None) -> None:
        self._password = secrets.token_hex(12)
        super().__init__(
            image,
            environment={"POSTGRES_USER": USER, "POSTGRES_PASSWORD": self._password, "POSTGRES_DB": "postgres"},
            arguments=["-c", "max_connections=200"],
            lives_with=lives_with,
        )

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    def new_database(self) -> str:
        """Make an empty database."""
        return new_database(self.url)

    def _answers(self) -> bool:
        return can_log_in(self.url)
