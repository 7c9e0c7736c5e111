"""The workflows that are measured: nodes that do next to nothing, so that what is measured is the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.apart import NAMESPACE_VARIABLE
from floxide_amqp import (
    Context,
    EventLog,
    Floxide,
    Interceptor,
    Next,
    NextAll,
    StepCall,
    Transition,
    Workflow,
    WorkflowCtx,
    gather,
    node,
    repeat,
)

CONCURRENCY = 100
MOST_EVENTS = 100_000


@node
async def add_one(number: int) -> int:
    return number + 1


class Chain3(Workflow[int, int]):
    start = add_one.named("step 1")
    edges = (start >> add_one.named("step 2") >> add_one.named("step 3"),)


class Chain10(Workflow[int, int]):
    start = add_one.named("step 1")
    edges = (
        start
        >> add_one.named("step 2")
        >> add_one.named("step 3")
        >> add_one.named("step 4")
        >> add_one.named("step 5")
        >> add_one.named("step 6")
        >> add_one.named("step 7")
        >> add_one.named("step 8")
        >> add_one.named("step 9")
        >> add_one.named("step 10"),
    )


@node
async def spread(count: int) -> NextAll[int]:
    return NextAll(list(range(count)))


@node
async def double(number: int) -> int:
    return 2 * number


@node
async def total(numbers: list[int]) -> int:
    return sum(numbers)


class FanOut(Workflow[int, int]):
    """`count` items, each doubled on its own, and their sum: ``count * (count - 1)``."""

    start = spread
    edges = (spread >> double >> gather(total),)


class Journal(Context):
    log: EventLog[int] = EventLog()


@dataclass(frozen=True, slots=True)
class More:
    left: int


@dataclass(frozen=True, slots=True)
class Done:
    written: int


@node
async def write(ctx: WorkflowCtx[Journal], more: More) -> Next[More | Done]:
    ctx.state.log.append(more.left)
    return Next(More(more.left - 1) if more.left > 1 else Done(len(ctx.state.log)))


@node
async def close(ctx: WorkflowCtx[Journal], done: Done) -> list[int]:
    return [done.written, sum(ctx.state.log)]


class EventChain(Workflow[More, list[int], Journal]):
    """One step per event, each appended to one log: as many events as steps, and their sum."""

    start = write
    edges = (write.when(More) >> repeat(write, max_iterations=MOST_EVENTS), write.when(Done) >> close)


class StepClock(Interceptor):
    """Notes when each step of one node ended, in wall time and in processor time of this process."""

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        self.wall: list[float] = []
        self.processor: list[float] = []

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        transition = await proceed()
        if call.node == self.node_name:
            self.wall.append(time.perf_counter())
            self.processor.append(time.process_time())
        return transition


WORKFLOWS = (Chain3, Chain10, FanOut, EventChain)

app = Floxide(workflows=WORKFLOWS, namespace=os.environ.get(NAMESPACE_VARIABLE, "bench"))
"""What worker processes serve; broker and store are told on their command lines."""
