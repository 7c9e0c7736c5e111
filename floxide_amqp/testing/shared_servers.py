"""One server for all the processes of a test run: launched by whichever needs it first, ended with the run."""

from __future__ import annotations

import atexit
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest


class Server(Protocol):
    """What is launched."""

    @property
    def url(self) -> str:
        """Where to connect."""
        ...

    def close(self) -> None:
        """End it for good."""
        ...


_launched: list[Server] = []
"""Those this process launched: were they collected, Python would warn of their running processes."""


def shared_url(name: str, launch: Callable[[int | None], Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of the run's server of a name, after launching it if need be.

    Args:
        name: Of the server, such as ``postgresql``.
        launch: Starts it; takes the process with which it ends, None for this one.
        tmp_path_factory: Pytest's, which knows the folder of the run.
    """
    is_xdist_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if is_xdist_worker else base
    return url_noted_in(folder, name, launch, lives_with=os.getppid() if is_xdist_worker else None)


def url_noted_in(folder: Path, name: str, launch: Callable[[int | None], Server], *, lives_with: int | None) -> str:
    """Return the URL that a file of the folder names, after launching a server and writing it there if need be."""
    with (folder / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / f"{name}.url"
        if not note.exists():
            server = launch(lives_with)
            _launched.append(server)
            if lives_with is None:
                atexit.register(server.close)
            note.write_text(server.url)
        return note.read_text()
