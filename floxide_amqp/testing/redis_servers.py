"""The Redis servers that `floxide_amqp.testing.services` hands out: somebody else's, a private one, a container."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.amqp_handshake import SERVER_PORTS, free_ports
from floxide_amqp.testing.named_servers import NamedServer
from floxide_amqp.testing.private_servers import PrivateServer
from floxide_amqp.testing.server import Server
from floxide_amqp.testing.server_containers import ContainedServer

URL_VARIABLE: Final = "FLOXIDE_TEST_REDIS_URL"
"""Names a running server to use instead of launching one; it must write an append-only file."""

IMAGE: Final = "redis:7"

BUS_DISTANCE: Final = 10_000
"""How far above a node's port is the one on which it talks with the other nodes of its cluster; fixed by Redis."""

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 10.0

_PROGRAMS: Final = ("redis-server", "valkey-server")

_CONFIGURATION: Final = """\
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
loglevel warning
"""


class Redis(Server, Protocol):
    """A Redis for tests; its URL is ``redis://…``."""

    def command(self, *words: str | bytes | int) -> Any:
        """Give it a command and return what it says."""
        ...


class ExternalRedis(NamedServer):
    """A server somebody else runs; it can be used, not mistreated."""

    product = "Redis"
    variable = URL_VARIABLE

    def command(self, *words: str | bytes | int) -> Any:
        """Give it a command; those that set up or end a server are for its owner to give."""
        if str(words[0]).upper() in {"CONFIG", "DEBUG", "FLUSHALL", "FLUSHDB", "SHUTDOWN", "SCRIPT"}:
            self._refuse()
        return command(self.url, *words)

    def _answers(self) -> bool:
        return answers(self.url)


class PrivateRedis(PrivateServer):
    """A server of one's own: own folder, port and data.

    Args:
        lives_with: The process with which it ends; None for this one.
        configuration: More lines for its ``redis.conf``; they win over the lines there are.
        folder: Where it keeps its data, to give it a disk of its own; by default a folder that goes with it.

    Raises:
        ConfigurationError: Redis is not installed here.
    """

    product = "Redis"
    start_seconds = START_SECONDS
    stop_seconds = STOP_SECONDS

    def __init__(self, *, lives_with: int | None = None, configuration: str = "", folder: Path | None = None) -> None:
        self._program = find_program()
        super().__init__(lives_with=lives_with)
        self._data = folder or self._folder / "data"
        (self._port,) = client_ports(1)
        self._configuration = configuration

    @property
    def port(self) -> int:
        """Where it listens; stays the same over restarts."""
        return self._port

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self._data

    def reconfigure(self, configuration: str) -> None:
        """Give it other settings, as when it was made; they hold from its next start."""
        self._configuration = configuration

    def command(self, *words: str | bytes | int) -> Any:
        """Give it a command."""
        return command(self.url, *words)

    def _answers(self) -> bool:
        return answers(self.url)

    def _launch(self) -> None:
        self._data.mkdir(exist_ok=True)
        settings = f"bind 127.0.0.1\nport {self._port}\ndir {self._data}\n{_CONFIGURATION}{self._configuration}\n"
        (self._folder / "redis.conf").write_text(settings)
        self._process.start([self._program, str(self._folder / "redis.conf")], {"LC_ALL": "C.UTF-8", "TZ": "UTC"})


class ContainerRedis(ContainedServer):
    """A server in a container of the engine that testcontainers finds.

    Args:
        image: What to run.
        lives_with: The process with which it ends; None for this one.
    """

    inner_port = 6379
    start_seconds = START_SECONDS
    stop_seconds = STOP_SECONDS

    def __init__(self, image: str = IMAGE, *, lives_with: int | None = None) -> None:
        words = [word.strip('"') for line in _CONFIGURATION.splitlines() for word in f"--{line}".split(" ", 1)]
        super().__init__(image, arguments=words, lives_with=lives_with)

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"redis://127.0.0.1:{self._port}/0"

    def command(self, *words: str | bytes | int) -> Any:
        """Give it a command."""
        return command(self.url, *words)

    def _answers(self) -> bool:
        return answers(self.url)


def find_program() -> str:
    """Return the path of the local server.

    Raises:
        ConfigurationError: There is none; the message has the one command that installs it.
    """
    found = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        install = "brew install redis" if sys.platform == "darwin" else "sudo apt-get install redis-server"
        raise ConfigurationError(
            f"There is no Redis to launch. Run `{install}`, start a container engine, "
            f"or set {URL_VARIABLE} to the URL of a running server."
        )
    return found


def client_ports(count: int) -> list[int]:
    """Return free ports of which the number 10,000 higher is one too, for that is where a cluster's nodes talk.

    The system gives neither to a client by itself (`free_ports`).
    """
    found: list[int] = []
    while len(found) < count:
        for port in free_ports(count):
            with socket.socket() as bus, suppress(OSError):
                bus.bind(("127.0.0.1", port + BUS_DISTANCE))
                found += [port] if port + BUS_DISTANCE in SERVER_PORTS and port not in found else []
    return found[:count]


def answers(url: str) -> bool:
    """Tell whether a server answers and has loaded its data."""
    try:
        command(url, "PING")
    except ConfigurationError:
        raise
    except Exception:  # noqa: BLE001 - whatever keeps one out, one is not in
        return False
    return True


def command(url: str, *words: str | bytes | int) -> Any:
    """Give a server one command, over a connection of its own, and return what it says; blocks."""
    try:
        redis: Any = import_module("redis")
    except ImportError:
        raise ConfigurationError(
            "A Redis for tests needs redis-py. Install it: pip install 'floxide-amqp[redis]'"
        ) from None
    retry: Any = import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)
    client = redis.Redis.from_url(url, socket_timeout=30, socket_connect_timeout=30, retry=retry)
    try:
        return client.execute_command(*words)
    finally:
        client.close()


def forget(url: str, prefix: str) -> None:
    """Delete all keys that begin with a prefix, in a server somebody else goes on using."""
    cursor: Any = 0
    while True:
        cursor, keys = command(url, "SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1_000)
        if keys:
            command(url, "UNLINK", *keys)
        if not int(cursor):
            return


def is_named() -> bool:
    """Whether the environment names a server."""
    return bool(os.environ.get(URL_VARIABLE))
