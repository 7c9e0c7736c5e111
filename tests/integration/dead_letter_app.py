"""The application of `test_dead_letters.py`: a worker process with a node that kills it.

Run as ``python -m tests.integration.dead_letter_app BROKER STORE NAMESPACE``; log lines go to standard error.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta

from floxide_amqp import Floxide, Limits, Timeouts, Workflow, node
from floxide_amqp.apps.log_setup import LogFormat, LogLevel, set_up_logging
from floxide_amqp.drivers.amqp.settings import AmqpSettings

QUICK = Timeouts(
    early_acknowledge=1.0, heartbeat=0.3, dead_after=2.5, maintenance=0.2, probe=1.0, publish_retry=0.3, drain=10.0,
    cancel_grace=1.0, result_backstop=0.2,
)  # fmt: skip
SWIFT = AmqpSettings(rpc_deadline=3.0, backoff_max=1.0, probe_interval=1.0)
CONCURRENCY = 10


@node
async def work(x: int) -> int:
    await asyncio.sleep(0.5)
    return x * x


class Innocent(Workflow[int, int]):
    start = work


@node(timeout=timedelta(seconds=30))
async def explode(x: int) -> int:
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
    return x


class Poison(Workflow[int, int]):
    start = explode


def application(broker: str, store: str, namespace: str, *, dead_letters: int = 5) -> Floxide:
    return Floxide(
        broker, store=store, namespace=namespace, workflows=[Innocent, Poison], timeouts=QUICK, broker_settings=SWIFT,
        limits=Limits(concurrency=CONCURRENCY, dead_letters=dead_letters),
    )  # fmt: skip


async def main(arguments: list[str]) -> None:
    set_up_logging(LogLevel.INFO, LogFormat.JSON)
    async with application(*arguments).worker() as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
