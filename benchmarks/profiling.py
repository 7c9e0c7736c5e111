"""Where the processor time of a step goes, by room of the code: ``python -m benchmarks profile``.

Chains run as in a contest (`benchmarks.peers.ours`), and py-spy looks at the client and at its worker meanwhile, a few
hundred times a second, without slowing them much. The shares of what it saw are told as parts of the processor time
that each process had. What compiled code does (uvloop, asyncpg's protocol, pydantic) counts for the Python function
that called it.
"""

from __future__ import annotations

import collections
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest.client_process import client_process
from benchmarks.contest.plan import ALONE, Servers, servers
from benchmarks.contest.watching import look
from benchmarks.peers.arena import Arena
from benchmarks.report import table
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.postgresql_servers import new_database
from floxide_amqp.testing.server_processes import descendants
from floxide_amqp.testing.services import new_namespace

STORES = ("postgresql", "redis", "sqlite")
IN_FLIGHT = 100
FIRST_RUNS = 1_000
"""Runs before, so that nothing is done for the first time."""

LOOKS_PER_SECOND = 200
SETTLE_SECONDS = 0.5
ASK_SECONDS = 600.0

TOP = 12
"""Functions that are named."""

_FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+?)(:\d+)?\)$")
_OURS = re.compile(r"floxide_amqp/(?P<room>drivers/\w+(?=/)|\w+)")
_WAITING = ("threading.py", "selectors.py", "queue.py", "concurrent/futures/thread.py")
"""A thread whose innermost frame is there does nothing, though py-spy may take it for busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one process did.

    Attributes:
        process: ``client`` or ``worker``.
        us_per_step: Its processor time, by room of the code.
        functions: The same by function, without what it calls; the largest first.
    """

    process: str
    us_per_step: Mapping[str, float]
    functions: Mapping[str, float]

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        return {
            "process": self.process, "us_per_step": _rounded(self.us_per_step), "functions": _rounded(self.functions)
        }  # fmt: skip


def measure_profile(store: str, steps: int, runs: int, seconds: float) -> list[Profile]:
    """Look at chains for so long.

    Args:
        store: One of `STORES`; with SQLite everything is in the client's process.
        steps: Of each run, 3 or 10.
        runs: Enough to go on for that time.
        seconds: How long to look.

    Raises:
        ConfigurationError: There is no py-spy.
    """
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise ConfigurationError(f"There is no {program}. Install it: {sys.executable} -m pip install py-spy")
    with servers() as shared, tempfile.TemporaryDirectory(prefix="floxide-bench-") as folder:
        arena = _arena(shared, store, folder)
        with client_process(f"ours-{store}", Path(sys.executable), arena) as client:
            asked: dict[str, object] = {
                "kind": "chain", "steps": steps, "in_flight": IN_FLIGHT, "note_bytes": 0, "pause": 0.0
            }  # fmt: skip
            client.ask(asked | {"runs": FIRST_RUNS}, ASK_SECONDS)
            workers = filter(_is_worker, descendants(client.pid))
            processes = dict(zip(("client", "worker"), (client.pid, *workers), strict=False))
            looking = threading.Thread(target=_look, args=(program, processes, Path(folder), seconds))
            before = look(shared.postgresql.url, client.pid)
            looking.start()
            client.ask(asked | {"runs": runs}, ASK_SECONDS)
            took = look(shared.postgresql.url, client.pid).since(before)["processor_seconds"]
            looking.join()
        parts = {"client": took["client"], "worker": took.get("workers", 0.0)}
        return [
            profile_of(process, Path(folder) / f"{process}.raw", parts[process] / (runs * steps) * 1e6)
            for process in processes
        ]


def _arena(shared: Servers, store: str, folder: str) -> Arena:
    return Arena(
        broker=shared.broker.url, postgresql=new_database(shared.postgresql.url), redis=shared.redis.url, folder=folder,
        name=new_namespace("bench"), workers=0 if f"ours-{store}" in ALONE else 1, tools="",
    )  # fmt: skip


def _is_worker(pid: int) -> bool:
    return b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _look(program: Path, processes: Mapping[str, int], folder: Path, seconds: float) -> None:
    time.sleep(SETTLE_SECONDS)
    looking = [
        subprocess.Popen(
            [program, "record", "--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", str(LOOKS_PER_SECOND),
             "--format", "raw", "--output", folder / f"{process}.raw", "--nonblocking"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for process, pid in processes.items()
    ]  # fmt: skip
    for each in looking:
        each.wait()


def profile_of(process: str, file: Path, us: float) -> Profile:
    """Return what py-spy saw of a process.

    Args:
        process: Which.
        file: What py-spy wrote, in its format ``raw``: a line for each stack, with how often it was seen.
        us: Processor time that the process had for each step.
    """
    rooms, functions = collections.Counter[str](), collections.Counter[str]()
    for name, where, times in _innermost(file):
        rooms[room_of(where)] += times
        functions[f"{name} ({where.removeprefix('floxide_amqp/')})"] += times
    every = sum(rooms.values()) or 1
    return Profile(
        process=process, us_per_step={room: us * times / every for room, times in rooms.most_common()},
        functions={name: us * times / every for name, times in functions.most_common(TOP)},
    )  # fmt: skip


def _innermost(file: Path) -> Iterator[tuple[str, str, int]]:
    """Yield the function and the file in which each stack was, and how often."""
    for line in file.read_text(encoding="utf-8").splitlines():
        stack, _, times = line.rpartition(" ")
        frame = stack.rpartition(";")[2]
        found = _FRAME.match(frame)
        function, where = (found["function"], found["file"]) if found else (frame, "")
        if not where.endswith(_WAITING):
            yield function, where, int(times)


def room_of(file: str) -> str:
    """Return the room of the code that a file belongs to."""
    if ours := _OURS.search(file):
        return ours["room"]
    if file == "asyncio/runners.py":
        return "event loop and sockets (uvloop)"
    if file == "<string>":
        return "records, made (generated code)"
    if file.startswith(("benchmarks/", "pydantic")):
        return "the body and its model"
    package = file.partition("/")[0]
    return package if package in {"asyncio", "asyncpg", "redis", "aiormq", "structlog"} else "standard library"


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in figures.items()}


def profile_table(found: Sequence[Profile]) -> str:
    """Return the profiles as tables."""
    rooms = dict.fromkeys(room for profile in found for room in profile.us_per_step)
    header = ("µs a step", *(profile.process for profile in found))
    rows: list[Sequence[object]] = [
        (room, *(f"{profile.us_per_step.get(room, 0.0):.1f}" for profile in found)) for room in rooms
    ]
    rows.append(("in all", *(f"{sum(profile.us_per_step.values()):.1f}" for profile in found)))
    functions = [
        table(
            (f"{profile.process}: function, without what it calls", "µs a step"),
            [(name, f"{us:.1f}") for name, us in profile.functions.items()],
        )
        for profile in found
    ]
    return "\n\n".join([table(header, rows), *functions])
