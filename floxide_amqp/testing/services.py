"""Servers for tests and demos: the one the environment names, a container, or a private local server.

`launch_rabbitmq` and its sisters take the first of these that there is; as root on Debian they install what is missing.
A server launched here ends with the process that launched it, also when that is killed; it shares no port, data or node
name with any other.

As a program: ``python -m floxide_amqp.testing.services rabbitmq`` (or ``postgresql``, ``redis``) launches one, prints
its URL and keeps it until interrupted; ``… install`` makes sure that there is one of each to launch.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import postgresql_servers, redis_servers
from floxide_amqp.testing.container_keeper import engine_client
from floxide_amqp.testing.postgresql_servers import (
    ContainerPostgreSQL,
    ExternalPostgreSQL,
    PostgreSQL,
    PrivatePostgreSQL,
    find_programs,
)
from floxide_amqp.testing.rabbitmq_servers import (
    URL_VARIABLE,
    ContainerRabbitMQ,
    ExternalRabbitMQ,
    PrivateRabbitMQ,
    RabbitMQ,
    find_scripts,
)
from floxide_amqp.testing.redis_servers import ContainerRedis, ExternalRedis, PrivateRedis, Redis, find_program

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

_RABBITMQ_PACKAGE: Final = "rabbitmq-server"
_POSTGRESQL_PACKAGE: Final = "postgresql"
_REDIS_PACKAGE: Final = "redis-server"
_STANDARD_ERROR: Final = 2
"""The number of the file; what goes to standard output is the URL alone."""


class _Startable(Protocol):
    def start(self) -> None: ...


S = TypeVar("S", bound=_Startable)


def launch_rabbitmq(*, lives_with: int | None = None) -> RabbitMQ:
    """Return a running broker: the one the environment names, a container, or a private local server.

    As root on Debian, where there is none of them, Debian's package is installed first.

    Args:
        lives_with: The process with which it ends, if it is launched here; None for this one.

    Raises:
        ConfigurationError: There is none to be had; the message has the one command that changes it.
    """
    return _named(URL_VARIABLE, ExternalRabbitMQ) or launch_own_rabbitmq(lives_with=lives_with)


def launch_own_rabbitmq(*, lives_with: int | None = None) -> RabbitMQ:
    """Return a running broker that may be mistreated: a container, or a private local server; raises as above."""
    if has_container_engine():
        return _started(ContainerRabbitMQ(lives_with=lives_with))
    _install(find_scripts, _RABBITMQ_PACKAGE)
    return _started(PrivateRabbitMQ(lives_with=lives_with))


def launch_postgresql(*, lives_with: int | None = None) -> PostgreSQL:
    """Return a running PostgreSQL, chosen as a broker is; see `launch_rabbitmq`."""
    named = _named(postgresql_servers.URL_VARIABLE, ExternalPostgreSQL)
    return named or launch_own_postgresql(lives_with=lives_with)


def launch_own_postgresql(*, lives_with: int | None = None) -> PostgreSQL:
    """Return a running PostgreSQL that may be mistreated: a container, or a private local server; raises as above."""
    if has_container_engine():
        return _started(ContainerPostgreSQL(lives_with=lives_with))
    _install(find_programs, _POSTGRESQL_PACKAGE)
    return _started(PrivatePostgreSQL(lives_with=lives_with))


def launch_redis(*, lives_with: int | None = None) -> Redis:
    """Return a running Redis, chosen as a broker is; see `launch_rabbitmq`."""
    return _named(redis_servers.URL_VARIABLE, ExternalRedis) or launch_own_redis(lives_with=lives_with)


def launch_own_redis(*, lives_with: int | None = None) -> Redis:
    """Return a running Redis that may be mistreated: a container, or a private local server; raises as above."""
    if has_container_engine():
        return _started(ContainerRedis(lives_with=lives_with))
    _install(find_program, _REDIS_PACKAGE)
    return _started(PrivateRedis(lives_with=lives_with))


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
    for variable, find, package in (
        (URL_VARIABLE, find_scripts, _RABBITMQ_PACKAGE),
        (postgresql_servers.URL_VARIABLE, find_programs, _POSTGRESQL_PACKAGE),
        (redis_servers.URL_VARIABLE, find_program, _REDIS_PACKAGE),
    ):
        if not os.environ.get(variable):
            _install(find, package)


def _named(variable: str, kind: Callable[[str], S]) -> S | None:
    """Return the running server that the environment names, if it names one."""
    url = os.environ.get(variable)
    return _started(kind(url)) if url else None


def _started(server: S) -> S:
    server.start()
    return server


def _install(find: Callable[[], object], package: str) -> None:
    """Install Debian's package of a server, unless one is found; one process at a time."""
    try:
        find()
    except ConfigurationError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    else:
        return
    with (Path(tempfile.gettempdir()) / "floxide-install.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            find()  # another process may have installed it meanwhile
        except ConfigurationError:
            _install_by_apt(package)
    find()


def _install_by_apt(package: str) -> None:
    install = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    words = f"There is no {package}: installing Debian's with `{' '.join(install)}`."
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - nobody shall wonder what takes so long
    # RUNLEVEL=1 keeps the package from starting a system-wide server that nobody asked for.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "--quiet"], install):
        done = subprocess.run(command, env=environment, stdout=_STANDARD_ERROR, check=False)
        if done.returncode != 0:
            raise ConfigurationError(f"`{' '.join(command)}` failed with the exit code {done.returncode}.")


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(broker.url, flush=True)  # noqa: T201 - the answer; who reads it may send a signal at once
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return 0
    finally:
        broker.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
