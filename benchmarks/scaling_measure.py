"""Measures what a contest does not: what a group of commits costs, what hearing news costs, bytes, and memory.

RabbitMQ and PostgreSQL are private ones, with one worker process; it takes about half a minute.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.apart import peak_mib, processor_seconds
from benchmarks.contest.watching import processor_shares
from benchmarks.peers.arena import Arena
from benchmarks.peers.client import drive
from benchmarks.peers.ours import Ours
from benchmarks.peers.payload import new_order
from benchmarks.peers.tally import FOLDER_VARIABLE
from floxide_amqp.apps.stores import open_another
from floxide_amqp.core.ids import SLOT_COUNT, RunId, Slot
from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.key_value import Batch, Key, Put
from floxide_amqp.runtime.messages import ControlKind, ControlMessage, decode_control, encode_control
from floxide_amqp.testing.postgresql_servers import execute, new_database
from floxide_amqp.testing.server_processes import descendants
from floxide_amqp.testing.services import launch_own_postgresql, launch_own_rabbitmq, new_namespace

SMALL, LARGE = 1, 50
"""Commits in a group, whose costs are compared."""

GROUPS = 400
"""Groups of either size that are committed."""

SHORT, LONG = 3, 10
"""Steps of the chains, whose bytes are compared."""

RUNS, IN_FLIGHT = 300, 100

NEWS = 1_000
"""Messages that every worker hears."""

REPORT_SECONDS = 1.5
"""PostgreSQL's sessions tell what they have done within about a second."""

_BYTES = re.compile(r"\bbytes_(?:sent|received):(\d+)")


@dataclass(frozen=True, slots=True)
class GroupCost:
    """What a group of one size costs: in all, of this process and of the store, in microseconds."""

    took_us: float
    own_us: float
    store_us: float


async def measure() -> dict[str, float]:
    """Return the inputs that it measures, by their names."""
    postgresql = await asyncio.to_thread(launch_own_postgresql)
    broker = await asyncio.to_thread(launch_own_rabbitmq)
    try:
        found = await _groups(new_database(postgresql.url))
        return found | await _work(broker.url, new_database(postgresql.url))
    finally:
        await asyncio.to_thread(broker.close)
        await asyncio.to_thread(postgresql.close)


def fixed_costs(small: GroupCost, large: GroupCost) -> dict[str, float]:
    """Return what a group costs besides its commits, from groups of `SMALL` and of `LARGE`."""
    own, store, took = (
        max(0.0, few - (many - few) / (LARGE - SMALL) * SMALL)
        for few, many in (
            (small.own_us, large.own_us), (small.store_us, large.store_us), (small.took_us, large.took_us),
        )
    )  # fmt: skip
    wait = max(0.0, took - own - store)
    return {"group_us": round(wait), "worker_us_per_group": round(own), "store_us_per_group": round(store)}


async def _groups(url: str) -> dict[str, float]:
    store = await open_another(url)
    try:
        costs: list[GroupCost] = []
        for size in (SMALL, LARGE):
            groups = [[_batch(group * size + each) for each in range(size)] for group in range(GROUPS)]
            before, began, own = _store_seconds(), time.perf_counter(), time.process_time()
            for group in groups:
                await store.commit(group)
            took, own = time.perf_counter() - began, time.process_time() - own
            costs.append(GroupCost(*(each / GROUPS * 1e6 for each in (took, own, _store_seconds() - before))))
        return fixed_costs(*costs)
    finally:
        await store.aclose()


def _batch(number: int) -> Batch:
    """Return what one step writes, about: five cells, of which one has a payload of 300 bytes."""
    writes = [Put(Key(f"bench/{number}", f"{cell}"), f"{number:060}".encode()) for cell in range(4)]
    writes.append(Put(Key(f"bench/{number}", "payload"), f"{number:0300}".encode()))
    return Batch(slot=Slot(number % SLOT_COUNT), writes=tuple(writes))


def _store_seconds() -> float:
    return processor_shares(os.getpid()).get("PostgreSQL", 0.0)


async def _work(broker: str, store: str) -> dict[str, float]:
    """Run chains, and let the worker hear of runs that are none."""
    ports = [urlsplit(url).port or 0 for url in (broker, store)]
    async with _ours(broker, store) as (ours, name, worker):
        numbers = iter(range(1, 1_000_000_000))
        starts, of_runs = _Starts(), dict[int, tuple[float, float]]()
        async with AmqpControlBus(broker, namespace=name) as bus, bus.listen("bench-listener") as heard:
            hearing = asyncio.create_task(starts.count(heard))
            rates: list[float] = []
            for steps in (SHORT, LONG):
                for runs in (1, IN_FLIGHT):  # the first one alone tells the store what its workflow is
                    await drive(ours, [new_order(next(numbers)) for _ in range(runs)], steps, IN_FLIGHT)
                await asyncio.sleep(REPORT_SECONDS)
                told, network, log = starts.number, _network_bytes(ports), _log_bytes(store)
                began = time.perf_counter()
                await drive(ours, [new_order(next(numbers)) for _ in range(RUNS)], steps, IN_FLIGHT)
                seconds = time.perf_counter() - began
                await asyncio.sleep(REPORT_SECONDS)
                rates.append((starts.number - told) / seconds)
                of_runs[steps] = (_network_bytes(ports) - network) / RUNS, (_log_bytes(store) - log) / RUNS
            news_us = await _news_us(bus, worker)
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        network_part, log_part = (_fitted(*each) for each in zip(of_runs[SHORT], of_runs[LONG], strict=True))
        return {
            "network_bytes_per_run": network_part[0], "network_bytes_per_step": network_part[1],
            "log_bytes_per_run": log_part[0], "log_bytes_per_step": log_part[1], "news_us": round(news_us, 1),
            "news_per_second": round(max(rates), 1), "worker_mib": round(peak_mib(worker), 1),
            "client_mib": round(peak_mib(), 1),
        }  # fmt: skip


def _fitted(short: float, long: float) -> tuple[int, int]:
    """Return what a run takes, and each step on top."""
    per_step = max(0.0, (long - short) / (LONG - SHORT))
    return round(max(0.0, short - SHORT * per_step)), round(per_step)


class _Starts:
    """Counts how often workers are told that runs have begun."""

    def __init__(self) -> None:
        self.number = 0

    async def count(self, heard: AsyncIterator[bytes]) -> None:
        async for body in heard:
            self.number += bool(body) and decode_control(body).kind is ControlKind.START


async def _news_us(bus: AmqpControlBus, worker: int) -> float:
    before = processor_seconds(worker)
    for number in range(NEWS):
        runs = (RunId(f"bench-{number}"),)
        await bus.broadcast(encode_control(ControlMessage(kind=ControlKind.START, runs=runs, workflow="None such")))
    await asyncio.sleep(REPORT_SECONDS)
    return (processor_seconds(worker) - before) / NEWS * 1e6


@asynccontextmanager
async def _ours(broker: str, store: str) -> AsyncGenerator[tuple[Ours, str, int]]:
    """This project with one worker process; yield it with its namespace, and that process's id."""
    with tempfile.TemporaryDirectory(prefix="floxide-bench-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        arena = Arena(
            broker=broker, postgresql=store, redis="", folder=folder, name=new_namespace("bench"), workers=1, tools=""
        )
        ours = Ours(arena, "postgresql")
        await ours.open()
        try:
            yield ours, arena.name, _worker()
        finally:
            await ours.close()


def _worker() -> int:
    """Return the id of the worker process that this one has started."""
    for process in descendants(os.getpid()):
        if b"floxide_amqp.apps.cli" in Path(f"/proc/{process}/cmdline").read_bytes():
            return process
    raise RuntimeError("the worker of the benchmark is not there")


def _network_bytes(ports: Sequence[int]) -> int:
    """Return the bytes that went both ways over the connections to servers on these ports.

    Raises:
        ConfigurationError: There is no ``ss`` to ask.
    """
    which = ["(", *" or ".join(f"dport = :{port}" for port in ports).split(), ")"]
    try:
        done = subprocess.run(["ss", "-tinH", *which], capture_output=True, text=True, check=True)  # noqa: S607
    except FileNotFoundError as error:
        raise ConfigurationError("There is no ss, which tells of connections: install iproute2.") from error
    return sum(map(int, _BYTES.findall(done.stdout)))


def _log_bytes(store: str) -> int:
    return int(execute(store, "SELECT wal_bytes FROM pg_stat_wal")[0][0])
