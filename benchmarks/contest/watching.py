"""What happened on the machine during a measurement: syncs that reached the disk, and who had the processors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from floxide_amqp.testing.postgresql_servers import execute
from floxide_amqp.testing.redis_servers import command
from floxide_amqp.testing.server_processes import descendants

SERVERS = {"beam.smp": "broker", "postgres": "PostgreSQL", "redis-server": "Redis", "restate-server": "Restate"}
"""Whose processor time is told apart, by the name of the program."""

PREFECT = "Prefect"
"""The part of its API server, a Python program that its arguments tell."""

WAITING_FLAG = "-sbwt"
"""How the names of the emulator's flags begin that say for how long schedulers spin before they sleep.

The command erl takes them with a plus, and hands them to the emulator with a minus.

Source:
    Erlang's manual of the command erl, "Emulator Flags".
"""

FLUSHES_FIELD = 16
"""Flush requests completed, in /proc/diskstats, counted from the device's name on.

Source:
    The kernel's Documentation/admin-guide/iostats.rst, field 16.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What has happened so far.

    Attributes:
        wal_syncs: Of PostgreSQL, in ``pg_stat_wal``; its sessions report what they did within about a second.
        flushes: Flushes that disks completed, of the whole machine.
        processor: Seconds of processor time, by part; the client tells its own.
    """

    wal_syncs: int
    flushes: int
    processor: Mapping[str, float]

    def since(self, earlier: Moment) -> dict[str, Any]:
        """Return what has happened between the two, as plain data."""
        shares = {part: round(took - earlier.processor.get(part, 0.0), 2) for part, took in self.processor.items()}
        return {
            "wal_syncs": self.wal_syncs - earlier.wal_syncs, "disk_flushes": self.flushes - earlier.flushes,
            "processor_seconds": {part: took for part, took in shares.items() if took > 0},
        }  # fmt: skip


def look(postgresql: str, client: int) -> Moment:
    """Return what has happened until now.

    Args:
        postgresql: URL of the server.
        client: The client's process, which is not looked at; those that it started are workers, unless they are
            servers.
    """
    return Moment(wal_syncs=wal_syncs(postgresql), flushes=disk_flushes(), processor=processor_shares(client))


def wal_syncs(postgresql: str) -> int:
    """Return how often PostgreSQL has synced its log."""
    return int(execute(postgresql, "SELECT wal_sync FROM pg_stat_wal")[0][0])


def disk_flushes() -> int:
    """Return how many flushes the disks of this machine have completed; 0 where the kernel does not tell."""
    try:
        lines = Path("/proc/diskstats").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    rows = [line.split()[2:] for line in lines]
    return sum(int(fields[FLUSHES_FIELD]) for fields in rows if len(fields) > FLUSHES_FIELD)


def processor_shares(client: int) -> dict[str, float]:
    """Return the processor time of a client's workers and of the servers, ended children of theirs included."""
    shares = dict[str, float]()
    theirs = set(descendants(client))
    for process in descendants(os.getpid()):
        with suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
            name = text.partition("(")[2].rpartition(")")[0]
            part = SERVERS.get(name) or (part_of(arguments_of(process)) if process in theirs else "")
            if part:
                fields = text.rpartition(")")[2].split()
                ticks = sum(int(each) for each in fields[11:15])
                shares[part] = shares.get(part, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return shares


def arguments_of(process: int) -> list[str]:
    """Return the command line of a process.

    Raises:
        OSError: It has ended.
    """
    return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")


def part_of(arguments: Sequence[str]) -> str:
    """Return of which part a process is that the client started, by its command line."""
    is_prefect = {"prefect", "server"} <= set(arguments) or any(each.startswith("prefect.server") for each in arguments)
    return PREFECT if is_prefect else "workers"


def describe_servers(rabbitmq: str, postgresql: str, redis: str) -> dict[str, str]:
    """Return the versions of the servers, and the settings that decide what a commit survives."""
    names = (
        "server_version", "fsync", "full_page_writes", "synchronous_commit", "wal_sync_method", "shared_buffers",
        "max_wal_size",
    )  # fmt: skip
    shown = {name: str(execute(postgresql, f"SHOW {name}")[0][0]) for name in names}
    settings = {name: _text(command(redis, "CONFIG", "GET", name)) for name in ("appendonly", "appendfsync")}
    return {
        "RabbitMQ": f"{rabbitmq} ({flags})" if (flags := erlang_flags()) else rabbitmq,
        "PostgreSQL": f"{shown.pop('server_version')} ({', '.join(f'{key}={value}' for key, value in shown.items())})",
        "Redis": f"{_redis_version(redis)} ({', '.join(f'{key}={value}' for key, value in settings.items())})",
    }


def erlang_flags() -> str:
    """Return how the schedulers of the broker's virtual machine wait; nothing where it is no process of this one's."""
    for process in descendants(os.getpid()):
        with suppress(OSError):
            arguments = arguments_of(process)
            if Path(arguments[0]).name == "beam.smp":
                flags = [each for each in pairwise(arguments) if each[0].startswith(WAITING_FLAG)]
                return ", ".join(dict.fromkeys(f"+{flag[1:]} {value}" for flag, value in flags))
    return ""


def _redis_version(redis: str) -> str:
    info = command(redis, "INFO", "server")
    return str(info["redis_version"]) if isinstance(info, dict) else "?"


def _text(found: Any) -> str:
    values = list(found.values()) if isinstance(found, dict) else list(found)[1:]
    return values[0].decode() if isinstance(values[0], bytes) else str(values[0])
