"""What launchers have in common for a server in a container, which ends with whoever asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import container_keeper
from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.container_keeper import engine_client
from floxide_amqp.testing.server import UsableInBlock
from floxide_amqp.testing.server_processes import wait_until_ready

OWNER_LABEL = "floxide_amqp.owner"
"""The label of a container with the id of the process that asked for it."""


class ContainedServer(UsableInBlock):
    """A server in a container of the engine that testcontainers finds.

    Who asked for it may be killed, and it is removed still. (Not left to testcontainers, whose containers end with the
    process that started them, or not at all.)

    Args:
        image: What to run.
        environment: Variables inside.
        arguments: For the image's own command.
        lives_with: The process with which it ends; None for this one.
    """

    is_mine = True
    inner_port: ClassVar[int]
    start_seconds: ClassVar[float]
    stop_seconds: ClassVar[float]
    stop_signal: ClassVar[str] = "SIGTERM"

    def __init__(
        self,
        image: str,
        *,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        lives_with: int | None = None,
    ) -> None:
        self._image = image
        (self._port,) = free_ports(1)
        self._options: dict[str, Any] = {
            "ports": {f"{self.inner_port}/tcp": ("127.0.0.1", self._port)},
            "environment": dict(environment or {}),
            "command": list(arguments) or None,
            "stop_signal": self.stop_signal,
        }
        self._lives_with = lives_with
        self._engine: Any = None
        self._container: Any = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._is_started = False
        self._is_paused = False

    @property
    @abstractmethod
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether one can log in."""

    def start(self) -> None:
        """Start it, making it where there is none, and wait until one can log in; does nothing if it runs.

        Raises:
            ConfigurationError: The engine has no such container to give, or the server did not answer in time.
        """
        if self._is_started:
            return
        docker_error: type[Exception] = import_module("docker.errors").DockerException
        try:
            container = self._made()
            container.start()
        except docker_error as error:
            self.close()
            raise ConfigurationError(f"The container engine did not start {self._image}: {error}") from None
        self._is_started = True
        what = f"The container {self._image}"
        try:
            wait_until_ready(self._answers, self._has_ended, seconds=self.start_seconds, what=what)
        except ConfigurationError as error:
            log = container.logs(tail=30).decode(errors="replace")[-2000:]
            self.close()
            raise ConfigurationError(f"{error} The end of its log:\n{log}" if log else str(error)) from None

    def stop(self) -> None:
        """Stop it in good order; does nothing if it is stopped."""
        self.resume()
        if self._is_started:
            self._container.stop(timeout=int(self.stop_seconds))
            self._is_started = False

    def kill(self) -> None:
        """End it at once; its data stays."""
        self.resume()
        if self._is_started:
            self._container.kill()
            self._container.wait()
            self._is_started = False

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Throw the container away; a new one at the same port is started if it ran."""
        ran = self._is_started
        self.close()
        if ran:
            self.start()

    def pause(self) -> None:
        """Let it stand still; does nothing if it does not run."""
        if self._is_started and not self._is_paused:
            self._container.pause()
            self._is_paused = True

    def resume(self) -> None:
        """Let it go on."""
        if self._is_paused:
            self._container.unpause()
            self._is_paused = False

    def close(self) -> None:
        """Remove it with its data; `start` makes another."""
        if self._container is not None:
            self._container.remove(force=True, v=True)
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
        if self._engine is not None:
            self._engine.close()
        self._engine = self._container = self._keeper = None
        self._is_started = self._is_paused = False

    def _run(self, *command: str) -> str:
        """Run a command inside it and return what that printed."""
        code, output = self._container.exec_run(list(command))
        if code != 0:
            raise subprocess.CalledProcessError(code, list(command), output)
        return str(output.decode())

    def _made(self) -> Any:
        """Return the container; if there is none, make it and, before it runs, start who removes it if we cannot."""
        if self._container is not None:
            return self._container
        self._engine = engine_client()
        images = self._engine.images
        try:
            images.get(self._image)
        except import_module("docker.errors").ImageNotFound:
            images.pull(self._image)
        self._container = self._engine.containers.create(
            self._image, labels={OWNER_LABEL: str(os.getpid())}, **self._options
        )
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", container_keeper.__name__, str(self._lives_with or 0), self._container.id],
            stdin=subprocess.PIPE if self._lives_with is None else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self._container

    def _has_ended(self) -> bool:
        self._container.reload()
        return self._container.status in {"exited", "dead"}
