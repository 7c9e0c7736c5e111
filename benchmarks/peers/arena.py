"""Where a contestant works, and what each has to offer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from benchmarks.peers.payload import Order

ROOT = Path(__file__).parents[2]

VARIABLE = "BENCH_ARENA"

STOP_SECONDS = 15.0
"""Longest time that a process may take to end before it is killed."""

ASKS_PER_SECOND = 2000
"""How often a client that must ask for results does so, for all its runs together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The servers of one measurement, and a name that nobody else uses.

    Attributes:
        workers: How many worker processes shall work; what a process is, each contestant's `Facts` say.
        folder: Empty; gets logs and files.
        tools: The environment of the other projects, with npm's packages in its folder ``npm``.
        quorum_broker: The broker's virtual host in which queues are quorum queues unless they are declared otherwise.
        is_waiting: Whether steps will mostly wait, for which some are set up in another way.
    """

    broker: str
    postgresql: str
    redis: str
    folder: str
    name: str
    workers: int
    tools: str
    quorum_broker: str = ""
    is_waiting: bool = False

    @classmethod
    def given(cls) -> Arena:
        """Return the one that the parent process told of."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def environment(self) -> dict[str, str]:
        """Return this process's variables, and those that tell of this arena."""
        return os.environ | {VARIABLE: json.dumps(asdict(self))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one must know of a contestant to read its figures.

    Attributes:
        title: Its name, for people.
        packages: Their installed versions are recorded.
        setting: What it works on, and how it is configured.
        is_synced: Whether what was reported survives a power loss: each step's commit is synced to disk.
        durability: Why, in one sentence.
        processes: How many processes of it run steps, for each worker.
        is_apart: Whether the client is another process than the one that runs the steps.
        manual: Pages of its manual that its configuration follows.
        has_waiting_form: Whether it is set up in another way for steps that wait: `Arena.is_waiting`.
    """

    title: str
    packages: Sequence[str]
    setting: str
    is_synced: bool
    durability: str
    processes: int = 1
    is_apart: bool = True
    manual: Sequence[str] = ()
    has_waiting_form: bool = False


@runtime_checkable
class Awaiting(Protocol):
    """A contestant whose client waits with asyncio."""

    facts: Facts

    async def open(self) -> None:
        """Start its processes, and connect."""
        ...

    async def run(self, order: Order, steps: int) -> Order:
        """Start one run, and return its output once that is visible here."""
        ...

    async def close(self) -> None:
        """End everything that was started."""
        ...


@runtime_checkable
class Blocking(Protocol):
    """A contestant whose client blocks.

    Attributes:
        client_threads: How many threads of the client start runs and wait for them, each for its share of those in
            flight.
    """

    facts: Facts
    client_threads: int

    def open(self) -> None:
        """Start its processes, and connect."""
        ...

    def start(self, order: Order, steps: int) -> Any:
        """Start one run, and return what its result is asked of."""
        ...

    def result(self, started: Any) -> Order:
        """Wait for the output of a run."""
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...


@runtime_checkable
class Asking(Protocol):
    """A contestant that asks for results again and again.

    Attributes:
        in_flight: How many runs it has in flight from now on, which decides how often it asks: `asking_seconds`.
    """

    in_flight: int


@dataclass
class Processes:
    """The processes that a contestant started."""

    arena: Arena
    started: list[subprocess.Popen[bytes]] = field(default_factory=list[Any])

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start one in the repository's folder; what it prints goes into a log in the arena's folder."""
        with (Path(self.arena.folder) / f"process-{len(self.started)}.log").open("wb") as log:
            self.started.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=self.arena.environment() | dict(environment or {}), stdout=log,
                    stderr=log, stdin=subprocess.DEVNULL,
                )
            )  # fmt: skip

    def python(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a Python program of this environment."""
        self.start(sys.executable, *arguments, environment=environment)

    def close(self) -> None:
        """End them all, the last one first."""
        for process in reversed(self.started):
            process.terminate()
        for process in reversed(self.started):
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def asking_seconds(in_flight: int) -> float:
    """Return how long to wait between two questions for the same result, with so many runs in flight."""
    return max(0.001, in_flight / ASKS_PER_SECOND)


def free_port() -> int:
    """Return a port of this machine that nobody listens on at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
