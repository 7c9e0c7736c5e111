"""What launchers of servers for tests have in common: a process or a container that ends with whoever asked for it.

A launcher (`postgresql_servers`, …) puts one of these together with what it knows of its server: the command, the
folder, how to tell that it answers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import container_keeper, guardian
from floxide_amqp.testing.container_keeper import engine_client

POLL_SECONDS: Final = 0.05
KILL_SECONDS: Final = 2.0


class ServerProcess:
    """A command under a guardian, which ends it when its owner is gone, and then removes the folder.

    Args:
        folder: Where it runs and logs (``output.log``); removed by the guardian only.
        lives_with: The process with which it ends; None for this one.
    """

    def __init__(self, folder: Path, *, lives_with: int | None = None) -> None:
        self._folder = folder
        self._lives_with = lives_with
        self._guardian: subprocess.Popen[bytes] | None = None

    @property
    def is_started(self) -> bool:
        """Whether it was started, and not ended by us since."""
        return self._guardian is not None

    @property
    def has_ended(self) -> bool:
        """Whether it was started and ended by itself."""
        return self._guardian is not None and self._guardian.poll() is not None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command; it must not go into the background."""
        tie = [str(self._lives_with or 0), str(self._folder)]
        with (self._folder / "output.log").open("ab") as log:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, *tie, *command],
                stdin=subprocess.PIPE if self._lives_with is None else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                cwd=self._folder,
                start_new_session=True,
            )

    def stop(self, seconds: float) -> None:
        """Ask it to end (SIGTERM), and kill it where it has not after so many seconds."""
        if self._guardian is not None:
            self._guardian.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._guardian.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it and all it started at once."""
        process, self._guardian = self._guardian, None
        if process is None:
            return
        offspring = descendants(process.pid)
        process.send_signal(signal.SIGUSR1)
        signal_all(offspring, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        wait_until_gone(offspring)

    def suspend(self) -> None:
        """Let it and all it started stand still (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def log_end(self) -> str:
        """Return the end of what it printed."""
        log = self._folder / "output.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self._guardian is not None:
            signal_all(descendants(self._guardian.pid), number)


class ServerContainer:
    """A container of the engine that testcontainers finds; who asked for it may be killed, and it is removed still.

    Args:
        image: What to run.
        ports: Port inside, such as ``5432/tcp`` → port of 127.0.0.1.
        environment: Its variables.
        command: In place of the image's own.
        lives_with: The process with which it ends; None for this one.
    """

    def __init__(
        self,
        image: str,
        *,
        ports: Mapping[str, int],
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        lives_with: int | None = None,
    ) -> None:
        self._image = image
        self._options: dict[str, Any] = {
            "ports": {inside: ("127.0.0.1", port) for inside, port in ports.items()},
            "environment": dict(environment or {}),
            "command": None if command is None else list(command),
        }
        self._lives_with = lives_with
        self._container: Any = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self.is_started = False

    def start(self) -> None:
        """Start it, making it where there is none."""
        if self._container is None:
            self._container = engine_client().containers.run(self._image, detach=True, **self._options)
            self._keeper = self._tie(self._container.id)
        else:
            self._container.start()
        self.is_started = True

    def stop(self, seconds: float) -> None:
        """Stop it in good order."""
        if self.is_started:
            self._container.stop(timeout=int(seconds))
            self.is_started = False

    def kill(self) -> None:
        """End it at once; its data stays."""
        if self.is_started:
            self._container.kill()
            self.is_started = False

    def suspend(self) -> None:
        """Let it stand still."""
        self._container.pause()

    def go_on(self) -> None:
        """Let it run again."""
        self._container.unpause()

    def run(self, *command: str) -> str:
        """Run a command inside it and return what that printed."""
        code, output = self._container.exec_run(list(command))
        if code != 0:
            raise subprocess.CalledProcessError(code, list(command), output)
        return str(output.decode())

    def remove(self) -> None:
        """Remove it with its data; `start` makes another."""
        if self._container is not None:
            self._container.remove(force=True, v=True)
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
        self._container = self._keeper = None
        self.is_started = False

    def _tie(self, container: str) -> subprocess.Popen[bytes]:
        """Start who removes the container if we cannot."""
        return subprocess.Popen(
            [sys.executable, "-m", container_keeper.__name__, str(self._lives_with or 0), container],
            stdin=subprocess.PIPE if self._lives_with is None else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def wait_until_ready(answers: Callable[[], bool], has_ended: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until a server answers.

    Raises:
        ConfigurationError: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while not answers():
        if has_ended() or time.monotonic() > deadline:
            raise ConfigurationError(f"{what} did not start within {seconds:g} s.")
        time.sleep(POLL_SECONDS)


def descendants(root: int) -> list[int]:
    """Return the processes that a process started, and those they started, as far as the system tells."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            status = (folder / "stat").read_text()
            parent = int(status.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += born
    return found


def signal_all(processes: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def wait_until_gone(processes: Sequence[int], *, seconds: float = 10.0) -> None:
    """Wait until none of the processes holds anything any more; those nobody has reaped count as gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_runs(process) for process in processes):
        time.sleep(POLL_SECONDS / 5)


def _runs(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
