"""A small file system of its own for the store, so that it can be filled without filling anything else."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

SPARE_BYTES = 64 * 1024


class SmallDisk:
    """A size-limited tmpfs where that may be mounted; else a plain folder, which cannot be filled."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.folder = folder
        self.is_limited = False
        self._megabytes = megabytes
        self._filler = folder / "filler"

    def mount(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m,mode=755", "tmpfs", str(self.folder)]
        try:
            self.is_limited = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            self.is_limited = False

    def fill(self) -> int:
        """Take all that is left; return how many bytes that was."""
        taken = 0
        file = os.open(self._filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            size = 1 << 26
            while size >= 4096:
                try:
                    os.posix_fallocate(file, taken, size)
                    taken += size
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 4
        finally:
            os.close(file)
        return taken

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.is_limited:
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)
            self.is_limited = False
