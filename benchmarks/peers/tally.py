"""How many bodies of steps ran, whoever ran them: each process counts into a file of its own."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path

FOLDER_VARIABLE = "BENCH_TALLY_FOLDER"

_NUMBER = struct.Struct("<q")


class Tally:
    """The counter of this process, made when its first step runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        self._count = 0
        os.register_at_fork(after_in_child=self._begin_anew)

    def add_one(self) -> None:
        """Count one, whichever thread it is in."""
        with self._lock:
            if self._map is None:
                self._map = self._open()
            self._count += 1
            _NUMBER.pack_into(self._map, 0, self._count)

    def _begin_anew(self) -> None:
        self._lock, self._map, self._count = threading.Lock(), None, 0

    def _open(self) -> mmap.mmap:
        path = Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}.steps"
        path.write_bytes(_NUMBER.pack(0))
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), _NUMBER.size)


_tally = Tally()


def count_step() -> None:
    """Count one body that runs in this process."""
    _tally.add_one()


def counted(folder: Path) -> dict[int, int]:
    """Return how many bodies each process has run so far, by its id."""
    return {int(path.stem): _NUMBER.unpack(path.read_bytes())[0] for path in folder.glob("*.steps")}
