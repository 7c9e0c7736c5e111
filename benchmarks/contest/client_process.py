"""The client of a contestant, as a process that answers questions: `benchmarks.peers.client`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from benchmarks.peers.arena import ROOT, Arena
from benchmarks.peers.tally import FOLDER_VARIABLE

OPEN_SECONDS = 240.0
"""Longest time until a contestant is ready."""

STOP_SECONDS = 60.0

LOG_CHARACTERS = 1500
"""So much of the end of each log is told of a failure."""


class ContestantError(Exception):
    """A contestant did not do what was asked of it."""


class ClientProcess:
    """Asks the client one thing at a time; made by `client_process`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._answers: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.facts: dict[str, Any] = self._answer(OPEN_SECONDS)["facts"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: Mapping[str, object], seconds: float) -> dict[str, Any]:
        """Have something measured.

        Raises:
            ContestantError: It failed, gave a wrong output, or took longer than that.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except Empty:
            raise ContestantError(f"no answer in {seconds:.0f} s; {self._ends_of_logs()}") from None
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the client ended"}
        if "error" in answer:
            raise ContestantError(f"{answer['error']}; {self._ends_of_logs()}")
        return answer

    def _ends_of_logs(self) -> str:
        logs = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in self._folder.glob("*.log")}
        ends = [f"{name} ends with: {text[-LOG_CHARACTERS:].strip()}" for name, text in sorted(logs.items()) if text]
        return "\n".join(ends) or "nothing was logged"


@contextmanager
def client_process(name: str, python: Path, arena: Arena) -> Generator[ClientProcess]:
    """Have a contestant ready while the block is open; all its processes end with it.

    Args:
        name: Of its module in `benchmarks.peers`, with a variant behind a hyphen where it has some.
        python: The interpreter of its environment.
    """
    folder = Path(arena.folder)
    (folder / "tally").mkdir()
    with (folder / "client.log").open("w") as errors:
        process = subprocess.Popen(
            [str(python), "-m", "benchmarks.peers.client", name], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            env=arena.environment() | {FOLDER_VARIABLE: str(folder / "tally"), "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
    try:
        yield ClientProcess(process, folder)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Let it end by itself, which ends its workers; then end what is left of them."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
