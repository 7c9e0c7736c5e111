"""The application of `test_workers.py`: a worker process that dies where it is told to.

Run as ``python -m tests.integration.worker_app BROKER STORE NAMESPACE FOLDER [GAP]``. Each body notes itself in the
folder, so that an observer outside the engine can count.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from floxide_amqp import (
    Context,
    Floxide,
    Interceptor,
    NextAll,
    StepCall,
    Sum,
    Timeouts,
    Transition,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.ports.work_queue import Message, PublishOutcome

ITEMS = 6
QUICK = Timeouts(
    early_acknowledge=1.0, heartbeat=0.3, dead_after=2.5, maintenance=0.3, probe=1.0, publish_retry=0.5, drain=10.0,
    cancel_grace=1.0, result_backstop=0.2,
)  # fmt: skip

IMPATIENT = AmqpSettings(rpc_deadline=3.0, backoff_max=1.0)
"""A quorum queue younger than the broker's last sync may not come back from a kill; two unanswered calls prove it."""


class Notes(Context):
    worked: Annotated[int, Sum()] = 0


class Folder:
    """Where the processes of one test leave notes for each other."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def note(self, text: str) -> None:
        with (self.path / "bodies").open("a") as file:
            file.write(f"{text} {os.getpid()}\n")

    def notes(self) -> list[str]:
        file = self.path / "bodies"
        return file.read_text().splitlines() if file.exists() else []

    def is_set(self, name: str) -> bool:
        return (self.path / name).exists()

    def set(self, name: str) -> None:
        (self.path / name).touch()

    def is_first_to(self, name: str) -> bool:
        """True for exactly one process."""
        try:
            (self.path / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


@node
async def split(ctx: WorkflowCtx[Notes], x: int) -> NextAll[int]:
    ctx.resource(Folder).note("split")
    return NextAll(range(ITEMS))


@node
async def work(ctx: WorkflowCtx[Notes], x: int) -> int:
    ctx.resource(Folder).note(f"work {x}")
    await asyncio.sleep(0.05)
    ctx.state.worked += 1
    return x * x


@node
async def add(ctx: WorkflowCtx[Notes], xs: list[int]) -> int:
    ctx.resource(Folder).note("add")
    return sum(xs)


class Squares(Workflow[int, int, Notes]):
    start = split
    edges = (split >> work >> gather(add),)


@node
async def wait(ctx: WorkflowCtx[Notes], x: int) -> int:
    folder = ctx.resource(Folder)
    folder.note("wait")
    try:
        while not folder.is_set("go"):  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        folder.note("interrupted")
        raise
    ctx.state.worked += 1
    return x


@node
async def after(x: int) -> int:
    return x + 1


class Waiting(Workflow[int, int, Notes]):
    start = wait
    edges = (wait >> after,)


@node(queue="unserved")
async def elsewhere(x: int) -> int:
    return x + 10


class Elsewhere(Workflow[int, int]):
    start = after
    edges = (after >> elsewhere,)


class Dying(Interceptor):
    """Kills its process, the first that comes there, in one of the four gaps of a step."""

    def __init__(self, folder: Folder, gap: str) -> None:
        self._folder = folder
        self._gap = gap

    def _reach(self, gap: str) -> None:
        if gap == self._gap and self._folder.is_first_to("killed"):
            os.kill(os.getpid(), signal.SIGKILL)

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        if call.node != "work":
            return await proceed()
        self._reach("before the node")
        transition = await proceed()
        self._reach("after the node")
        return transition

    async def publish(
        self, messages: Sequence[Message], proceed: Callable[[], Awaitable[Sequence[PublishOutcome]]]
    ) -> Sequence[PublishOutcome]:
        self._reach("after the commit")
        outcomes = await proceed()
        self._reach("after the publish")
        return outcomes


def application(broker: str, store: str, namespace: str, folder: str, gap: str = "") -> Floxide:
    notes = Folder(folder)
    return Floxide(
        broker, store=store, namespace=namespace, workflows=[Squares, Waiting], lifespan=lambda: _lifespan(notes),
        timeouts=QUICK, broker_settings=IMPATIENT, interceptors=(Dying(notes, gap),) if gap else (),
    )  # fmt: skip


class _lifespan:  # noqa: N801 - a context manager used as a function
    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def __aenter__(self) -> Folder:
        return self._folder

    async def __aexit__(self, *error: object) -> None:
        return


async def main(arguments: list[str]) -> None:
    app = application(*arguments)
    async with app.worker(concurrency=4) as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        running = asyncio.create_task(worker.run_forever())
        while worker.health().status != "running":  # noqa: ASYNC110 - a test may publish once its queues exist
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
