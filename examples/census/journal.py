"""Side files: what the nodes did, written beside the engine, so that an observer outside it can count.

One line per event, each appended with a single write, so that threads and processes can share the files:

- ``parsed.log``: a path for each parse that ended, well or not.
- ``started.log``: item, worker, attempt and path for each parse that began.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

PARSED = "parsed.log"
STARTED = "started.log"


@dataclass(frozen=True, slots=True)
class Begun:
    """One line of ``started.log``."""

    item_id: str
    worker_id: str
    attempt: int
    path: str


def append_line(path: Path, line: str) -> None:
    """Append one line with one write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def note_start(folder: str, begun: Begun) -> None:
    """Note that a parse begins."""
    line = "\t".join((begun.item_id, begun.worker_id, str(begun.attempt), begun.path))
    append_line(Path(folder, STARTED), line)


def note_parsed(folder: str, path: str) -> None:
    """Note that a file was parsed, or found to be unparsable."""
    append_line(Path(folder, PARSED), path)


def read_parsed(folder: Path) -> Counter[str]:
    """Return how often each file was parsed."""
    return Counter(_lines(folder / PARSED))


def read_started(folder: Path) -> list[Begun]:
    """Return every parse that began, in order."""
    begun: list[Begun] = []
    for line in _lines(folder / STARTED):
        item_id, worker_id, attempt, path = line.split("\t", 3)
        begun.append(Begun(item_id, worker_id, int(attempt), path))
    return begun


def clear(folder: Path) -> None:
    """Begin with empty side files."""
    for name in (PARSED, STARTED):
        (folder / name).unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
