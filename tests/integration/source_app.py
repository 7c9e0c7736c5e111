"""The application of `test_amqp_sources.py`; run as a worker with ``python -m tests.integration.source_app PLACE…``.

The place is BROKER STORE NAMESPACE QUEUE, and the broker of the source where it is another address.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass

from floxide_amqp import AmqpSource, Floxide, Limits, Workflow, node
from floxide_amqp.apps.log_setup import LogFormat, LogLevel, set_up_logging
from tests.integration.dead_letter_app import QUICK, SWIFT


@dataclass(frozen=True)
class Placed:
    number: int


@node
async def square(placed: Placed) -> int:
    return placed.number**2


class Squaring(Workflow[Placed, int]):
    start = square


def application(broker: str, store: str, namespace: str, queue: str, of_source: str = "") -> Floxide:
    numbers = AmqpSource("numbers", Squaring, queue=queue, max_open_runs=2_000, broker=of_source or None)
    return Floxide(
        broker, store=store, namespace=namespace, workflows=[Squaring], sources=[numbers], timeouts=QUICK,
        broker_settings=SWIFT, limits=Limits(concurrency=100),
    )  # fmt: skip


async def main(arguments: list[str]) -> None:
    set_up_logging(LogLevel.WARNING, LogFormat.JSON)
    async with application(*arguments).worker() as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
