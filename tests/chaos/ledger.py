"""The side ledger: what node bodies say of themselves, in files that the engine does not know.

One file per process, only appended to, a line per event, each written in one call. Lines survive a SIGKILL, since the
kernel has them; only a line that was not begun is missing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = "ledger"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a body began (`what` is ``begin``), returned (``end``) or raised (``fail``)."""

    what: str
    run_id: str
    item_id: str
    node: str
    key: str
    attempt: int
    at_ms: int
    process: str


class Ledger:
    """Appends to the ledger of this process; from any thread."""

    def __init__(self, folder: Path, process: str) -> None:
        (folder / FOLDER).mkdir(exist_ok=True)
        self._process = process
        self._file = os.open(
            folder / FOLDER / f"{process}-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        self._lock = threading.Lock()

    def write(self, what: str, run_id: str, item_id: str, node: str, key: str, attempt: int) -> None:
        line = f"{what}\t{run_id}\t{item_id}\t{node}\t{key}\t{attempt}\t{time.time_ns() // 1_000_000}\n"
        with self._lock:
            os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


def read_ledger(folder: Path) -> Iterator[Entry]:
    """Yield every whole line of every process."""
    for path in sorted((folder / FOLDER).glob("*.log")):
        for line in path.read_text().splitlines(keepends=True):
            parts = line.rstrip("\n").split("\t")
            if line.endswith("\n") and len(parts) == 7:
                what, run_id, item_id, node, key, attempt, at_ms = parts
                yield Entry(what, run_id, item_id, node, key, int(attempt), int(at_ms), path.stem)
