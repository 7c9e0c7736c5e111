"""A worker process: ``python -m tests.chaos.worker NAME BROKER STORE FOLDER``. It drains on SIGTERM.

It obeys lines on its standard input: ``crash GAP`` makes it die there at the next occasion, ``report`` makes it say
how many file descriptors, tasks and threads it has. It ends when its input ends: then its conductor is gone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from floxide_amqp.runtime.worker import Worker
from tests.chaos.application import Bookkeeping, CrashPoint, Place, application, ledger_of
from tests.chaos.groups.routing import labels_of

CRASH_VARIABLE = "FLOXIDE_CHAOS_CRASH"
"""Names a gap to die in, for a worker that is to die by itself."""


def say(kind: str, **facts: object) -> None:
    print(json.dumps({"kind": kind, **facts}), flush=True)


def report(worker: Worker) -> None:
    gc.collect()
    tasks = sorted(task.get_name() for task in asyncio.all_tasks())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    health = worker.health()
    say(
        "report", descriptors=len(list(Path("/proc/self/fd").iterdir())) - 1, tasks=len(tasks),
        threads=threading.active_count(),
        resident_kib=int(status["VmRSS"].split()[0]), task_names=tasks, in_flight=health.in_flight,
        done=health.items_done, errors=health.error_count, cpu_seconds=sum(os.times()[:2]),
    )  # fmt: skip


async def obey(worker: Worker, crash: CrashPoint) -> None:
    """Do what the lines of standard input say, until they end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        match line.decode().split():
            case ["crash", gap]:
                crash.gap = gap
            case ["report"]:
                report(worker)
            case other:
                say("unknown", words=other)
    worker.stop()


async def main(name: str, broker: str, store: str, folder: str) -> None:
    place = Place(broker, store, Path(folder))
    crash = CrashPoint(os.environ.get(CRASH_VARIABLE, ""))
    async with ledger_of(place, name) as ledger:
        async with application(place, crash, Bookkeeping(ledger), process=name).worker(
            name=name, labels=labels_of(name)
        ) as worker:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, worker.stop)
            commands = asyncio.create_task(obey(worker, crash), name="chaos.commands")
            running = asyncio.create_task(worker.run_forever(), name="chaos.worker")
            while worker.health().status == "starting" and not running.done():  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.02)
            say("ready")
            try:
                await running
            finally:
                commands.cancel()
        say("stopped", done=worker.health().items_done)


if __name__ == "__main__":
    logging.basicConfig(
        filename=Path(sys.argv[4]) / "logs" / f"{sys.argv[1]}.log", level=logging.INFO,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )  # fmt: skip
    asyncio.run(main(*sys.argv[1:5]))
