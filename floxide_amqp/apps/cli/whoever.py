"""Who acts: the option that says so, and who it is where nobody says."""

from __future__ import annotations

import getpass
import socket
from typing import Annotated

import typer

By = Annotated[str, typer.Option(metavar="TEXT", help="Who wants it, for the run's audit log; by default you.")]


def whoever(by: str) -> str:
    """Return who acts: what was said, else the user of this machine."""
    if by:
        return by
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # no such user, as in some containers
        return socket.gethostname()
