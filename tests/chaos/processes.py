"""The processes of the chaos: workers and clients, started again whenever they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
READY_SECONDS = 300.0
ANSWER_SECONDS = 120.0
PAUSE_AFTER_FAILURE_SECONDS = 0.5
STOP_SECONDS = 180.0


class Slot:
    """A place for one process at a time: each that ends is followed by another, until the slot is closed."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], *, logs: Path) -> None:
        self.name = name
        self.generation = 0
        self.exits: list[tuple[str, int]] = []
        self._deaths: dict[int, str] = {}
        self.answered = 0
        self.starts_again = True
        self._module = module
        self._arguments = tuple(arguments)
        self._logs = logs
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @property
    def process_name(self) -> str:
        return f"{self.name}-{self.generation}"

    @property
    def pid(self) -> int:
        """The process's id; 0 while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    @property
    def is_ready(self) -> bool:
        return self.pid != 0 and self._ready.is_set()

    async def open(self) -> None:
        """Start the first process and return once it is ready; raises if it ends before that."""
        self._task = asyncio.create_task(self._supervise())
        first = asyncio.create_task(self.ended(1))
        ready = asyncio.create_task(self.ready())
        await asyncio.wait({first, ready}, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if not ready.done():
            ready.cancel()
            told = (self._logs / f"{self.name}-1.err").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended before it was ready:\n{told}")
        ready.result()

    async def ready(self) -> None:
        async with asyncio.timeout(READY_SECONDS):
            await self._ready.wait()

    async def _supervise(self) -> None:
        while self.starts_again:
            self.generation += 1
            arguments = (sys.executable, "-m", self._module, self.process_name, *self._arguments)
            with (self._logs / f"{self.process_name}.err").open("wb") as errors:
                self._process = await asyncio.create_subprocess_exec(
                    *arguments, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors
                )
            self.answered = 0
            await self._hear(self._process)
            code = await self._process.wait()
            self._ready.clear()
            self.exits.append((self.process_name, code))
            if code > 0:
                await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            with suppress(json.JSONDecodeError):
                word = json.loads(line)
                if word["kind"] == "ready":
                    self._ready.set()
                elif word["kind"] == "report":
                    self._reports.put_nowait(word)
                elif word["kind"] == "started":
                    self.answered += word["count"]
                elif word["kind"] == "dying":
                    self._deaths[self.generation] = word["gap"]

    def tell(self, line: str) -> bool:
        """Give the process a command; return whether there is one to take it."""
        process = self._process
        if process is None or process.returncode is not None or process.stdin is None or not self._ready.is_set():
            return False
        with suppress(OSError):
            process.stdin.write(f"{line}\n".encode())
            return True
        return False

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; return whether there was a process to send it to."""
        if not self.pid:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    async def ended(self, generation: int) -> int:
        """Wait until the process of a generation has ended, and return its exit code."""
        while len(self.exits) < generation:  # noqa: ASYNC110 - the supervisor notes it
            await asyncio.sleep(0.02)
        return self.exits[generation - 1][1]

    def died_in(self, generation: int) -> str:
        """Return the gap that the process of a generation said to die in; empty if it said nothing."""
        return self._deaths.get(generation, "")

    async def report(self) -> dict[str, Any]:
        """Ask the process how it is."""
        while not self._reports.empty():
            self._reports.get_nowait()
        self.tell("report")
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._reports.get()

    async def close(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process for good and return its exit code."""
        self.starts_again = False
        if self._task is None:
            return 0
        self.send(number)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(self._task)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._task
        return self.exits[-1][1] if self.exits else 0
