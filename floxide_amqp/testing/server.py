"""What a test may do with a server, whatever it is and wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self


class Server(Protocol):
    """A server that a test may use, and one of its own it may also mistreat. All methods block."""

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        ...

    @property
    def is_mine(self) -> bool:
        """Whether it was launched here, so that it may be stopped, killed, wiped, paused and administered."""
        ...

    def start(self) -> None:
        """Start it and wait until one can log in; does nothing if it runs."""
        ...

    def stop(self) -> None:
        """Stop it in good order, without waiting for its clients; does nothing if it is stopped."""
        ...

    def kill(self) -> None:
        """End it at once, with all its processes, as a power cut would."""
        ...

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        ...

    def wipe(self) -> None:
        """Delete its data; it is killed first, and started again if it ran."""
        ...

    def pause(self) -> None:
        """Let all its processes stand still: connections stay, nothing answers."""
        ...

    def resume(self) -> None:
        """Let them go on."""
        ...

    def close(self) -> None:
        """End it for good and remove what it left."""
        ...


class UsableInBlock(ABC):
    """What runs while a ``with`` block is open, and leaves nothing behind where it does not even start."""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until one can log in; does nothing if it runs."""

    @abstractmethod
    def close(self) -> None:
        """End it for good and remove what it left."""

    def __enter__(self) -> Self:
        """Start it."""
        with ExitStack() as stack:
            stack.callback(self.close)
            self.start()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.close()
