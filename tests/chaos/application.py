"""The application that the chaos is about: an order workflow with everything in it that can go wrong."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from floxide_amqp import (
    CompositeNode,
    Context,
    EventLog,
    Fixed,
    Floxide,
    Hold,
    Interceptor,
    Limits,
    Max,
    Min,
    Next,
    NextAll,
    RetryPolicy,
    StepCall,
    Sum,
    Timeouts,
    Transition,
    Union,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.reducers import Append
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from tests.chaos.groups import floor
from tests.chaos.ledger import Ledger
from tests.chaos.notes import write_to
from tests.chaos.orders import UNTOUCHED_PRICE, Line, Order, Parcel, Priced, label_of, price_of, weight_of

NAMESPACE = "chaos"
QUEUES = ("default", "warehouse")
GAPS = ("before-node", "after-node", "after-commit", "after-publish")
"""The four gaps of a step in which a process may die."""

QUICK = Timeouts(
    early_acknowledge=1.0, heartbeat=0.5, dead_after=4.0, maintenance=0.5, probe=2.0, publish_retry=1.0, drain=20.0,
    cancel_grace=1.0, result_backstop=5.0,
)  # fmt: skip
"""Short times, so that ten minutes hold many recoveries."""

IMPATIENT = AmqpSettings(
    open_deadline=90.0, rpc_deadline=5.0, publish_deadline=10.0, probe_interval=3.0, backoff_max=1.0, heartbeat=5
)
"""The same for the broker: a half-open link shows within seconds. A process may begin while the broker is away."""


NO_POISON = 1_000
"""Workers that may die on an item: more than are killed, so that nobody's run fails because of that."""

FEW_CHANGES = 6
"""Changes of a context after which there is a snapshot: small orders have none, large ones several."""

RUN_TIMEOUT = timedelta(hours=1)
"""Never due here; its timer must be gone when the run is."""


class OutOfStockError(Exception):
    """The failure edge is for this one."""


class FlakyError(Exception):
    """Gone with the next attempt, or the one after."""


class OrderContext(Context):
    customer: Fixed[str]
    stage: str = ""
    quantity: Annotated[int, Sum()] = 0
    dearest: Annotated[int, Max()] = 0
    cheapest: Annotated[int, Min()] = UNTOUCHED_PRICE
    skus: Annotated[set[int], Union()] = set()
    held: Annotated[set[int], Union()] = set()
    picked: Annotated[list[int], Append()] = []
    events: EventLog[str] = EventLog()


Ctx = WorkflowCtx[OrderContext]
PATIENT_RETRY = RetryPolicy(
    max_attempts=6, initial_backoff=0.1, max_backoff=1.0, retry_on=FlakyError, give_up_on=OutOfStockError
)


@node
async def accept(ctx: Ctx, order: Order) -> Order:
    ctx.state.stage = "accepted"
    ctx.set_attribute("stage", "accepted")
    return order


@node
async def split(ctx: Ctx, order: Order) -> NextAll[Line]:
    ctx.state.quantity += sum(line.quantity for line in order.lines)
    return NextAll(order.lines)


@node
async def reserve(ctx: Ctx, line: Line) -> Next[Line] | Hold:
    ctx.state.skus.add(line.sku)
    if line.hold_ms and line.sku not in ctx.state.held:
        ctx.state.held.add(line.sku)
        return Hold(for_=line.hold_ms / 1000)
    return Next(line)


@node(retry=PATIENT_RETRY)
async def price(ctx: Ctx, line: Line) -> Priced:
    if line.slow_ms:
        await asyncio.sleep(line.slow_ms / 1000)
    if line.sold_out:
        raise OutOfStockError(str(line.sku))
    if ctx.attempt <= line.fails:
        raise FlakyError(f"attempt {ctx.attempt} of {line.sku}")
    cost = price_of(line.sku, line.quantity)
    ctx.state.dearest = max(ctx.state.dearest, cost)
    ctx.state.cheapest = min(ctx.state.cheapest, cost)
    ctx.state.events.append(f"priced {line.sku}")
    return Priced(line.sku, cost)


@node
async def substitute(ctx: Ctx, line: Line) -> Priced:
    if ctx.failure is None:
        raise AssertionError("only the failure edge leads here")
    return Priced(line.sku, 0, "sold out")


@node(queue="warehouse")
def pick(ctx: Ctx, priced: Priced) -> Priced:
    """In a thread, on another queue."""
    ctx.state.picked.append(priced.sku)
    return priced


@node
async def pack(ctx: Ctx, contents: list[Priced]) -> Parcel:
    number = int(ctx.run_id.rpartition("-")[2])
    ctx.state.stage = "packed"
    return Parcel(number, contents)


@node
async def weigh(ctx: Ctx, parcel: Parcel) -> Parcel:
    return replace(parcel, weight=weight_of(parcel.contents))


@node
async def label(ctx: Ctx, parcel: Parcel) -> Parcel:
    return replace(parcel, label=label_of(parcel.number, parcel.weight))


class Finishing(Workflow[Parcel, Parcel, OrderContext], version="1"):
    start = weigh
    edges = (weigh >> label,)


@node
async def ship(ctx: Ctx, parcel: Parcel) -> Parcel:
    ctx.state.stage = "shipped"
    ctx.set_attribute("stage", "shipped")
    return parcel


finish = CompositeNode(Finishing, name="finish")


class Orders(Workflow[Order, Parcel, OrderContext], version="1", timeout=RUN_TIMEOUT):
    start = accept
    edges = (
        accept >> split >> reserve >> price >> pick >> gather(pack) >> finish >> ship,
        price.on_failure(OutOfStockError) >> substitute >> pick,
    )


# --- for single scenarios


@node
async def sleep(ctx: Ctx, seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


class Sleeping(Workflow[float, float, OrderContext], version="1"):
    """One step of so many seconds."""

    start = sleep
    edges = ()


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=3600, max_backoff=3600))
async def wait(ctx: Ctx, number: int) -> Next[int] | Hold:
    if number % 2:
        raise FlakyError("in an hour")
    return Hold(for_=3600)


class Waiting(Workflow[int, int, OrderContext], version="1"):
    """One step that waits for an hour: even ones are held, odd ones are retried then."""

    start = wait
    edges = ()


# --- what surrounds the nodes


class Bookkeeping(Interceptor):
    """Writes the side ledger around every body."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        write_to(ledger)

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        facts = (call.run_id, call.item_id, call.node, f"{call.run_id}:{call.item_id}", call.attempt)
        self._ledger.write("begin", *facts)
        try:
            transition = await proceed()
        except BaseException:
            self._ledger.write("fail", *facts)
            raise
        self._ledger.write("end", *facts)
        return transition


class CrashPoint(Interceptor):
    """Kills its own process in one of the gaps of a step, once it is armed for it."""

    def __init__(self, gap: str = "") -> None:
        self.gap = gap

    def _reach(self, gap: str) -> None:
        if gap == self.gap:
            os.write(1, f'{{"kind": "dying", "gap": "{gap}"}}\n'.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        self._reach("before-node")
        transition = await proceed()
        self._reach("after-node")
        return transition

    async def publish(
        self, messages: Sequence[Message], proceed: Callable[[], Awaitable[Sequence[PublishOutcome]]]
    ) -> Sequence[PublishOutcome]:
        self._reach("after-commit")
        outcomes = await proceed()
        self._reach("after-publish")
        return outcomes


@dataclass(frozen=True)
class Place:
    """Where a process of the application works."""

    broker: str
    store: str
    folder: Path


TIMES_VARIABLE = "FLOXIDE_CHAOS_TIMES"
"""Set to ``default`` in a process that is to keep the times and settings that users get."""


def application(place: Place, *interceptors: Interceptor, process: str = "client") -> Floxide:
    is_default = os.environ.get(TIMES_VARIABLE) == "default"
    return Floxide(
        place.broker, store=place.store, namespace=NAMESPACE,
        workflows=[Orders, Sleeping, Waiting, *floor.workflows_of(process)],
        sources=floor.SOURCES,
        timeouts=Timeouts() if is_default else QUICK,
        limits=Limits(concurrency=20, threads=4, context_snapshot=FEW_CHANGES, deaths=NO_POISON, processes=1),
        broker_settings=AmqpSettings(open_deadline=90.0) if is_default else IMPATIENT, interceptors=interceptors,
    )  # fmt: skip


@asynccontextmanager
async def ledger_of(place: Place, process: str) -> AsyncGenerator[Ledger]:
    ledger = Ledger(place.folder, process)
    try:
        yield ledger
    finally:
        ledger.close()
