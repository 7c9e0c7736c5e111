"""What launchers of private servers for tests have in common: a process that ends with whoever asked for it.

A launcher (`private_postgresql`, …) puts one of these together with what it knows of its server: the command, the
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
from typing import Final

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import guardian

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


def wait_until_ready(answers: Callable[[], bool], has_ended: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until a server answers.

    Raises:
        ConfigurationError: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while not answers():
        if has_ended():
            raise ConfigurationError(f"{what} ended before it answered.")
        if time.monotonic() > deadline:
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
