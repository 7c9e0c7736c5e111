"""Servers for tests and demos: the one the environment names, a container, or a private local server.

`launch_rabbitmq` and its sisters take the first of these that there is. A server launched here ends with the process
that launched it, also when that is killed; it shares no port, data or node name with any other.

As a program: ``python -m floxide_amqp.testing.services rabbitmq`` (or ``postgresql``, ``redis``) launches one, prints
its URL and keeps it until interrupted; ``… install`` makes sure that there is one of each to launch.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import postgresql_servers, redis_servers
from floxide_amqp.testing.container_keeper import engine_client
from floxide_amqp.testing.postgresql_servers import (
    ContainerPostgreSQL,
    ExternalPostgreSQL,
    PostgreSQL,
    PrivatePostgreSQL,
)
from floxide_amqp.testing.rabbitmq_servers import (
    URL_VARIABLE,
    ContainerRabbitMQ,
    ExternalRabbitMQ,
    PrivateRabbitMQ,
    RabbitMQ,
    find_scripts,
)
from floxide_amqp.testing.redis_servers import ContainerRedis, ExternalRedis, PrivateRedis, Redis

__all__ = [
    "URL_VARIABLE",
    "ContainerPostgreSQL",
    "ContainerRabbitMQ",
    "ContainerRedis",
    "ExternalPostgreSQL",
    "ExternalRabbitMQ",
    "ExternalRedis",
    "PostgreSQL",
    "PrivatePostgreSQL",
    "PrivateRabbitMQ",
    "PrivateRedis",
    "RabbitMQ",
    "Redis",
    "has_container_engine",
    "install_missing",
    "launch_own_postgresql",
    "launch_own_rabbitmq",
    "launch_own_redis",
    "launch_postgresql",
    "launch_rabbitmq",
    "launch_redis",
    "new_namespace",
]


def launch_rabbitmq(*, lives_with: int | None = None) -> RabbitMQ:
    """Return a running broker: the one the environment names, a container, or a private local server.

    Args:
        lives_with: The process with which it ends, if it is launched here; None for this one.

    Raises:
        ConfigurationError: There is none of them; the message has the one command that changes it.
    """
    url = os.environ.get(URL_VARIABLE)
    broker = ExternalRabbitMQ(url) if url else launch_own_rabbitmq(lives_with=lives_with)
    broker.start()
    return broker


def launch_own_rabbitmq(*, lives_with: int | None = None) -> RabbitMQ:
    """Return a running broker that may be mistreated: a container, or a private local server; raises as above."""
    kind = ContainerRabbitMQ if has_container_engine() else PrivateRabbitMQ
    broker: RabbitMQ = kind(lives_with=lives_with)
    broker.start()
    return broker


def launch_postgresql(*, lives_with: int | None = None) -> PostgreSQL:
    """Return a running PostgreSQL: the one the environment names, a container, or a private local server.

    Args:
        lives_with: The process with which it ends, if it is launched here; None for this one.

    Raises:
        ConfigurationError: There is none of them; the message has the one command that changes it.
    """
    url = os.environ.get(postgresql_servers.URL_VARIABLE)
    if not url:
        return launch_own_postgresql(lives_with=lives_with)
    server = ExternalPostgreSQL(url)
    server.start()
    return server


def launch_own_postgresql(*, lives_with: int | None = None) -> PostgreSQL:
    """Return a running PostgreSQL that may be mistreated: a container, or a private local server; raises as above."""
    kind = ContainerPostgreSQL if has_container_engine() else PrivatePostgreSQL
    server: PostgreSQL = kind(lives_with=lives_with)
    server.start()
    return server


def launch_redis(*, lives_with: int | None = None) -> Redis:
    """Return a running Redis: the one the environment names, a container, or a private local server.

    Args:
        lives_with: The process with which it ends, if it is launched here; None for this one.

    Raises:
        ConfigurationError: There is none of them; the message has the one command that changes it.
    """
    url = os.environ.get(redis_servers.URL_VARIABLE)
    if not url:
        return launch_own_redis(lives_with=lives_with)
    server = ExternalRedis(url)
    server.start()
    return server


def launch_own_redis(*, lives_with: int | None = None) -> Redis:
    """Return a running Redis that may be mistreated: a container, or a private local server; raises as above."""
    kind = ContainerRedis if has_container_engine() else PrivateRedis
    server: Redis = kind(lives_with=lives_with)
    server.start()
    return server


def new_namespace(prefix: str = "test") -> str:
    """Return a namespace nobody else uses, so that tests can share a broker."""
    return f"{prefix}-{secrets.token_hex(6)}"


def has_container_engine() -> bool:
    """Whether testcontainers is installed and a container engine answers it."""
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
        return False
    try:
        return bool(engine_client().ping())
    except Exception:  # noqa: BLE001 - whatever keeps an engine from answering, there is none to use
        return False


def install_missing() -> None:
    """Make sure that there is one of each server to launch: as root on Debian, install what is missing.

    Raises:
        ConfigurationError: Something must be installed and this process may not; the message has the one command.
    """
    if has_container_engine():
        return
    for variable, find, package in _INSTALLABLE:
        if not os.environ.get(variable):
            _install(find, package)


_INSTALLABLE: tuple[tuple[str, Callable[[], object], str], ...] = (
    (URL_VARIABLE, find_scripts, "rabbitmq-server"),
    (postgresql_servers.URL_VARIABLE, postgresql_servers.find_programs, "postgresql"),
    (redis_servers.URL_VARIABLE, redis_servers.find_program, "redis-server"),
)
"""What names a running server, what finds a local one or raises ConfigurationError, and Debian's package of it."""


def _install(find: Callable[[], object], package: str) -> None:
    try:
        find()
    except ConfigurationError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    else:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    print(f"There is no {package}: installing Debian's with `{' '.join(command)}`.", flush=True)  # noqa: T201 - it is asked for
    # RUNLEVEL=1 keeps the package from starting a system-wide server that nobody asked for.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "--quiet"], env=environment, check=True)
    subprocess.run(command, env=environment, check=True)
    find()


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    launchers: dict[str, Callable[[], RabbitMQ | PostgreSQL | Redis]] = {
        "rabbitmq": launch_rabbitmq,
        "postgresql": launch_postgresql,
        "redis": launch_redis,
    }
    if len(arguments) != 1 or arguments[0] not in {*launchers, "install"}:
        usage = " | ".join([*launchers, "install"])
        print(f"usage: python -m floxide_amqp.testing.services {usage}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        if arguments == ["install"]:
            install_missing()
            return 0
        broker = launchers[arguments[0]]()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one paragraph a user needs
        return 1
    print(broker.url, flush=True)  # noqa: T201 - the answer
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return 0
    finally:
        broker.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
