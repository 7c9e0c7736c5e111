"""A RabbitMQ for tests and demos: the one the environment names, a container, or a private local server.

`launch_rabbitmq` takes the first of these that there is. A server launched here ends with the process that launched
it, also when that is killed; it shares no port, data or node name with any other.

As a program: ``python -m floxide_amqp.testing.services rabbitmq`` launches one, prints its URL and keeps it until
interrupted; ``… install`` makes sure that there is one to launch.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.container_keeper import engine_client
from floxide_amqp.testing.rabbitmq_servers import (
    URL_VARIABLE,
    ContainerRabbitMQ,
    ExternalRabbitMQ,
    PrivateRabbitMQ,
    RabbitMQ,
    find_scripts,
)

__all__ = [
    "URL_VARIABLE",
    "ContainerRabbitMQ",
    "ExternalRabbitMQ",
    "PrivateRabbitMQ",
    "RabbitMQ",
    "has_container_engine",
    "install_missing",
    "launch_own_rabbitmq",
    "launch_rabbitmq",
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
    """Make sure that `launch_rabbitmq` will find something: as root on Debian, install RabbitMQ if need be.

    Raises:
        ConfigurationError: Something must be installed and this process may not; the message has the one command.
    """
    if os.environ.get(URL_VARIABLE) or has_container_engine():
        return
    try:
        find_scripts()
    except ConfigurationError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    else:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "rabbitmq-server"]
    print(f"There is no RabbitMQ: installing Debian's with `{' '.join(command)}`.", flush=True)  # noqa: T201 - it is asked for
    # RUNLEVEL=1 keeps the package from starting a system-wide server that nobody asked for.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "--quiet"], env=environment, check=True)
    subprocess.run(command, env=environment, check=True)
    find_scripts()


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    if arguments not in (["rabbitmq"], ["install"]):
        print("usage: python -m floxide_amqp.testing.services rabbitmq | install", file=sys.stderr)  # noqa: T201
        return 2
    try:
        if arguments == ["install"]:
            install_missing()
            return 0
        broker = launch_rabbitmq()
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
