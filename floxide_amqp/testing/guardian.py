"""Runs one command and ends it with whoever asked for it: `python guardian.py OWNER FOLDER COMMAND…`.

A server started for tests must not outlive them, not even when they are killed. So this small program stands between:
it leads a process group of its own with the command in it, and kills the group when its standard input ends (the other
end was held by the process that started it) or, where OWNER is not 0, when the process of that id is gone. FOLDER is
removed then. A SIGTERM is handed on; a SIGUSR1 kills the command at once.

It is run as a file, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from types import FrameType

POLL_SECONDS = 0.2
"""How soon an end is noticed."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    owner, folder, command = int(arguments[0]), arguments[1], arguments[2:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def hand_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number if number == signal.SIGTERM else signal.SIGKILL)

    signal.signal(signal.SIGTERM, hand_on)
    signal.signal(signal.SIGUSR1, hand_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while child.poll() is None:
        if not is_wanted(owner):
            child.kill()
            child.wait()
            shutil.rmtree(folder, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)  # what the command itself had started, and this program
    return child.returncode


def is_wanted(owner: int) -> bool:
    """Wait a moment and tell whether the process that asked for the command still lives."""
    if owner:
        select.select([], [], [], POLL_SECONDS)
        return _is_alive(owner)
    readable, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
    return not readable or bool(os.read(sys.stdin.fileno(), 1))


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
