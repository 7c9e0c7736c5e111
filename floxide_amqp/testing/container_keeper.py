"""Removes a container with whoever asked for it: `python -m floxide_amqp.testing.container_keeper OWNER CONTAINER`.

What `guardian` is to a process: it waits until its standard input ends or, where OWNER is not 0, until the process of
that id is gone, and removes the container by force.
"""

from __future__ import annotations

import importlib
import signal
import sys
from contextlib import suppress
from typing import Any

from floxide_amqp.testing.guardian import is_wanted


def engine_client() -> Any:
    """Return docker's client for the container engine that testcontainers finds."""
    return importlib.import_module("testcontainers.core.docker_client").DockerClient().client


def main(arguments: list[str]) -> int:
    """Keep the container until it is not wanted any more; return the exit code."""
    owner, container = int(arguments[0]), arguments[1]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while is_wanted(owner):
        pass
    with suppress(importlib.import_module("docker.errors").NotFound):
        engine_client().containers.get(container).remove(force=True, v=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
