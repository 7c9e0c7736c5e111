"""The application of `test_talking_runs.py`: runs that wait for signals, and runs that call others.

Run as ``python -m tests.integration.talking_app BROKER STORE NAMESPACE``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from floxide_amqp import (
    ChildWorkflow,
    Floxide,
    Hold,
    NextAll,
    Signal,
    Timeouts,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from tests.integration.worker_app import IMPATIENT

QUICK = Timeouts(
    heartbeat=0.3, dead_after=2.5, maintenance=0.3, probe=1.0, publish_retry=0.5, drain=10.0, result_backstop=1.0
)
GO = Signal("go", int)
CHILDREN = 5


@node
async def listen(ctx: WorkflowCtx[Any], _: int) -> int | Hold:
    value = ctx.received(GO)
    return Hold(until=GO) if value is None else value


class Listening(Workflow[int, int]):
    start = listen
    signals = (GO,)


@node
async def split(number: int) -> NextAll[int]:
    return NextAll([number] * CHILDREN)


@node
async def tell(ctx: WorkflowCtx[Any], child: str) -> str:
    """Tell a child that may not have been started yet."""
    ctx.signal(child, GO, 7)
    return child


@node
async def told(children: list[str]) -> list[str]:
    return children


class Telling(Workflow[int, list[str]]):
    start = split
    edges = (split >> ChildWorkflow(Listening, wait=False, name="call") >> tell >> gather(told),)


@node
async def total(values: list[int]) -> int:
    return sum(values)


class Calling(Workflow[int, int]):
    start = split
    edges = (split >> ChildWorkflow(Listening, name="call") >> gather(total),)


def application(broker: str, store: str, namespace: str) -> Floxide:
    return Floxide(
        broker, store=store, namespace=namespace, workflows=[Listening, Telling, Calling], timeouts=QUICK,
        broker_settings=IMPATIENT,
    )  # fmt: skip


async def main(arguments: list[str]) -> None:
    async with application(*arguments).worker(concurrency=50) as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        running = asyncio.create_task(worker.run_forever())
        while worker.health().status != "running":  # noqa: ASYNC110 - told to who started it
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
