"""Nodes that run in processes of their own, for the tests of those."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from floxide_amqp import (
    Abort,
    CompositeNode,
    Hold,
    Next,
    NextAll,
    Node,
    RateLimit,
    RetryPolicy,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)

log = logging.getLogger("process_app")


@dataclass
class Order:
    name: str
    parts: tuple[int, ...] = ()


class StockError(Exception):
    """An error with arguments that its message is not made of alone."""

    def __init__(self, part: int, *, left: int) -> None:
        super().__init__(f"{left} left of {part}")
        self.part = part
        self.left = left


@node(executor="process")
def describe(ctx: WorkflowCtx, order: Order) -> dict[str, str]:
    ctx.set_attribute("named", order.name)
    ctx.log.warning("order.described", name=order.name)
    log.warning("plain words about %s", order.name)
    return {
        "name": order.name, "parts": str(sum(order.parts)), "pid": str(os.getpid()), "run": ctx.run_id,
        "key": ctx.idempotency_key, "attempt": str(ctx.attempt), "deadline": str(ctx.deadline),
        "left": str(ctx.time_left is not None and ctx.time_left > timedelta(0)),
    }  # fmt: skip


class Describe(Workflow[Order, dict[str, str]], timeout=3600):
    start = describe


@node(executor="process")
def split(count: int) -> NextAll[int]:
    return NextAll(range(count))


class Scale(Node[int, int], executor="process"):
    """A node with configuration, which its process makes again by importing the workflow."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def process(self, ctx: WorkflowCtx, input: int, /) -> int:
        return input * self.factor


@node(executor="process")
def add(values: list[int]) -> int:
    return sum(values)


scale = Scale(10).named("tenfold")


class Sum(Workflow[int, int]):
    start = split
    edges = (split >> scale >> gather(add),)


inner = CompositeNode(Sum)


class Outer(Workflow[int, int]):
    start = inner


@node(executor="process")
def wrong(how: str) -> int:
    match how:
        case "raise":
            raise StockError(7, left=2)
        case "exit":
            sys.exit(3)
        case "os._exit":
            os._exit(5)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "stop":
            raise StopIteration
        case "stdout":
            sys.stdout = None  # type: ignore[assignment]
        case "closed stderr":
            sys.stderr.close()
        case "descriptors":
            os.closerange(3, 4096)  # as daemons do, and libraries before they start something
        case "log":
            log.warning("a line that a filter of the worker stumbles over")
        case "mismatch":
            return "text"  # type: ignore[return-value]
        case _:
            pass
    return 0


@node
async def stock(how: str) -> int:
    return -1


class Wrong(Workflow[str, int]):
    start = wrong
    edges = (wrong.on_failure(StockError) >> stock,)


@node(executor="process")
def transition(how: str) -> Next[str] | Hold | Abort:
    if how == "abort":
        return Abort(StockError(1, left=0))
    marker = Path(how)
    if marker.exists():
        return Next("held")
    marker.touch()
    return Hold(for_=0.01)


class Transitions(Workflow[str, str]):
    start = transition


@node(executor="process", timeout=0.5)
def hang(x: int) -> int:
    while True:
        time.sleep(1)


@node(executor="process")
def hang_on(folder: str) -> int:
    """Start something that goes on by itself, and never end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder, "pids.tmp").write_text(f"{os.getpid()} {child.pid}")
    Path(folder, "pids.tmp").rename(Path(folder, "pids"))
    while True:
        time.sleep(1)


class Hanging(Workflow[int, int]):
    start = hang


class HangingOn(Workflow[str, int]):
    start = hang_on


@node(executor="process", retry=RetryPolicy(max_attempts=2, initial_backoff=0.01, jitter=0))
def die_once(ctx: WorkflowCtx, x: int) -> int:
    if ctx.attempt < 2:
        os._exit(9)
    return os.getpid()


class DyingOnce(Workflow[int, int]):
    start = die_once


@node(executor="process")
def which(x: int) -> int:
    return os.getpid()


class Which(Workflow[int, int]):
    start = which


@node
async def count_out(bodies: int) -> NextAll[int]:
    return NextAll(list(range(bodies)))


@node(executor="process", rate=RateLimit("process", 5, per=1))
def note_the_time(number: int) -> float:
    began = time.time()
    time.sleep(0.45 if number == 0 else 0.0)  # the others, which wait for its process, miss their instants
    return began


@node
async def in_order(times: list[float]) -> list[float]:
    return sorted(times)


class Paced(Workflow[int, list[float]]):
    start = count_out
    edges = (count_out >> note_the_time >> gather(in_order),)
