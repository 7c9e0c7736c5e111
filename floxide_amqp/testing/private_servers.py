"""What launchers have in common for a server of one's own: a folder, a process in it, and how to mistreat it.

Ports, passwords and data stay the same over restarts; everything goes with `PrivateServer.close`.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.server import UsableInBlock
from floxide_amqp.testing.server_processes import ServerProcess, wait_until_ready


class PrivateServer(UsableInBlock):
    """A server of one's own, from the programs installed on this machine. All methods block.

    Args:
        lives_with: The process with which it ends; None for this one.
    """

    is_mine = True
    product: ClassVar[str]
    start_seconds: ClassVar[float]
    """Longest start."""
    stop_seconds: ClassVar[float]
    """Longest orderly stop; the server is killed then."""

    def __init__(self, *, lives_with: int | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"floxide-{self.product.lower()}-"))
        self._process = ServerProcess(self._folder, lives_with=lives_with)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self._folder / "data"

    def start(self) -> None:
        """Start it and wait until one can log in; does nothing if it runs.

        Raises:
            ConfigurationError: It ended, or did not answer in time; the message has the end of its log.
        """
        if self._process.is_started:
            return
        self._launch()
        try:
            wait_until_ready(
                self._answers,
                lambda: self._process.has_ended,
                seconds=self.start_seconds,
                what=f"The private {self.product}",
            )
        except ConfigurationError as error:
            log = self._process.log_end()
            self.kill()
            raise ConfigurationError(f"{error} The end of its log:\n{log}" if log else str(error)) from None

    def stop(self) -> None:
        """Stop it in good order; does nothing if it is stopped."""
        self.resume()
        self._process.stop(self.stop_seconds)

    def kill(self) -> None:
        """End it at once, with all its processes."""
        self._process.kill()

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Delete its data; it is killed first, and started again if it ran."""
        ran = self._process.is_started
        self.kill()
        for path in self.data.glob("*"):  # the folder stays: it may be where a disk is mounted
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if ran:
            self.start()

    def pause(self) -> None:
        """Let all its processes stand still: connections stay, nothing answers."""
        self._process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        self._process.go_on()

    def close(self) -> None:
        """End it for good and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @abstractmethod
    def _launch(self) -> None:
        """Write what it needs to start, and start its process."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether one can log in."""
