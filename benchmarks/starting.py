"""What it costs to start many runs at once, where nobody works on them yet: time, and the client's memory.

The client is a process of its own. All runs are given to one `start_many`, with payloads of about 300 bytes that are
made as they are taken. Afterwards the runs in the store and the messages in the queue are counted.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

import aiormq

from benchmarks.apart import Servers, in_own_process, peak_mib
from benchmarks.loops import run
from benchmarks.peers.ours import Chain3
from benchmarks.peers.payload import new_order
from benchmarks.throughput import check
from floxide_amqp import Floxide, Orchestrator, RunStatus, Start
from floxide_amqp.drivers.amqp.topology import Names

FIRST_RUNS = 10
"""Runs that are started before: they open connections and declare the queue."""

LEAST_RUNS = 100
"""Where fewer are started at once, that is done again and again until there are so many."""

PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What was measured.

    Attributes:
        runs: How many were started at once.
        seconds: How long that took; the mean, where it was done several times.
        processor_seconds: Processor time of the client meanwhile.
        peak_mib: Peak of the client's memory; before, `idle_mib`.
    """

    runs: int
    seconds: float
    processor_seconds: float
    peak_mib: float
    idle_mib: float


async def measure_starting(servers: Servers, runs: int) -> Started:
    """Start so many runs at once, with a client of its own; delete their messages afterwards."""
    where = (servers.broker, servers.store, servers.namespace)
    started = Started(**await in_own_process("benchmarks.starting", *where, str(runs)))
    check(await _take_queue_away(servers), FIRST_RUNS + runs * _times(runs))
    return started


def _times(runs: int) -> int:
    return max(1, LEAST_RUNS // runs)


async def _take_queue_away(servers: Servers) -> int:
    """Delete the work queue; return how many messages were in it."""
    connection = await aiormq.connect(servers.broker)
    try:
        channel = await connection.channel()
        name = Names(servers.namespace).work_queue("default")
        deleted = await channel.queue_delete(name)
    finally:
        await connection.close()
    return deleted.message_count or 0


async def start_here(servers: Servers, runs: int) -> Started:
    """Start so many runs at once from this process."""
    there = Floxide(servers.broker, store=servers.store, namespace=servers.namespace, workflows=[Chain3])
    async with there.orchestrator() as client:
        await client.start_many(Chain3, (Start(new_order(number)) for number in range(FIRST_RUNS)))
        idle, times = peak_mib(), _times(runs)
        began, before = time.perf_counter(), time.process_time()
        for _ in range(times):
            handles = await client.start_many(Chain3, (Start(new_order(number)) for number in range(runs)))
            check(len(handles), runs)
        seconds, processor = (time.perf_counter() - began) / times, (time.process_time() - before) / times
        peak = peak_mib()
        check(await _stored(client), FIRST_RUNS + runs * times)
    return Started(runs=runs, seconds=seconds, processor_seconds=processor, peak_mib=peak, idle_mib=idle)


async def _stored(client: Orchestrator) -> int:
    """Return how many runs the store has that nobody has worked on."""
    found, cursor = set[str](), ""
    while True:
        page = await client.list_runs(status=RunStatus.PENDING, limit=PAGE, cursor=cursor)
        found |= {each.run_id for each in page.runs}
        cursor = page.next_cursor
        if not cursor:
            return len(found)


def _main(broker: str, store: str, namespace: str, runs: str) -> None:
    servers = Servers(broker=broker, store=store, namespace=namespace)
    print(json.dumps(asdict(run(start_here(servers, int(runs))))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
