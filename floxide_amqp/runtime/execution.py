"""Runs a node's body: under its timeout, interruptible, sync nodes in a thread, nothing it raises escapes.

A body that ignores cancellation is left alone after a grace period: its worker goes on, and its late result is
dropped.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.transition import Transition, as_transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import NodeInterruptedError, NodeTimeoutError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.inflight import CURRENT_STEP, StepHandle
from floxide_amqp.runtime.interceptors import StepCall, chain_step
from floxide_amqp.runtime.pace import NotYet, Start
from floxide_amqp.runtime.processes import ProcessPlace
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.threads import ThreadPlace

_log = get_logger("floxide_amqp.execution")

NODE_TASK = "floxide.node."
"""What the name of a task that runs a node's body begins with."""


USER_ERRORS = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
"""What user code may raise and a worker must survive."""


_TOO_LATE: Final = object()
"""What a sync node comes to whose thread was free only when the instant of its body was over."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The body returned."""

    transition: Transition[Any]


@dataclass(frozen=True, slots=True)
class Raised:
    """The body raised, or did not end in time."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run is over or the step was cancelled; nothing of it counts."""


BodyResult: TypeAlias = Returned | Raised | Interrupted | NotYet


class _MissedError(Exception):
    """Between a body that may not start yet and the step: what interceptors make of it does not count."""


async def run_body(
    services: Services, node: GraphNode, ctx: WorkflowCtx[Any], value: Any, handle: StepHandle
) -> BodyResult:
    """Run a node's body once and return what came of it; raises only if the worker itself is cancelled.

    Args:
        services: The process's parts.
        node: The node.
        ctx: What the body receives.
        value: Its input.
        handle: By which the step can be interrupted.
    """
    if node.node.is_async:
        if handle.start is not None and (kept := await _kept_waiting(handle, handle.start)) is not None:
            return kept
        return await _run(services, node, ctx, value, handle, lambda: _invoke(node, ctx, value, handle.start))
    if node.options.executor == "process":
        async with services.processes.place(node) as process:  # a body's time begins when its node is imported there
            if handle.start is not None and (kept := await _kept_waiting(handle, handle.start)) is not None:
                return kept
            return await _run(
                services, node, ctx, value, handle, lambda: _invoke_there(services, process, ctx, value, handle)
            )
    async with services.threads.place(handle) as place:
        if handle.start is not None and (kept := await _kept_waiting(handle, handle.start)) is not None:
            return kept
        return await _run(services, node, ctx, value, handle, lambda: _invoke_in(place, node, ctx, value, handle.start))


async def _kept_waiting(handle: StepHandle, start: Start) -> NotYet | Interrupted | None:
    """Wait until the body may start, which is no part of its time; return why it does not, where it does not."""
    waiting = asyncio.create_task(start.wait(), name="floxide.start")
    interrupted = asyncio.create_task(handle.wait_interrupted(), name="floxide.start")
    try:
        await asyncio.wait({waiting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else Interrupted()
    finally:
        waiting.cancel()
        interrupted.cancel()
        await asyncio.wait({waiting, interrupted})


async def _run(
    services: Services,
    node: GraphNode,
    ctx: WorkflowCtx[Any],
    value: Any,
    handle: StepHandle,
    body: Callable[[], Awaitable[Transition[Any]]],
) -> BodyResult:
    if services.interceptors:
        call = StepCall(
            run_id=handle.run_id, item_id=handle.item_id, workflow=ctx.workflow, node=handle.node, attempt=ctx.attempt,
            input=value,
        )  # fmt: skip
        body = chain_step(services.interceptors, call, body)
    try:
        result = await _until_done(services, node, handle, body)
        not_yet = None if handle.start is None else handle.start.not_yet
        return result if not_yet is None or isinstance(result, Interrupted) else not_yet
    finally:
        handle.body_due = None
        handle.task = handle.on_interrupt = None  # or what the body returned lives until the garbage is collected


async def _until_done(
    services: Services, node: GraphNode, handle: StepHandle, body: Callable[[], Awaitable[Transition[Any]]]
) -> BodyResult:
    variables = contextvars.copy_context()
    variables.run(CURRENT_STEP.set, handle)
    loop = asyncio.get_running_loop()
    task = loop.create_task(_guarded(body), name=f"{NODE_TASK}{node.name}", context=variables)
    ended: asyncio.Future[bool] = loop.create_future()  # whether an interrupt was not heeded
    task.add_done_callback(partial(_wake, ended, False))
    grace = services.timeouts.cancel_grace
    handle.task = task
    handle.on_interrupt = lambda: loop.call_later(grace, _wake, ended, True)
    timer, timeout = None, node.options.timeout.total_seconds() if node.options.timeout else None
    if handle.is_interrupted:
        task.cancel()
        handle.on_interrupt()
    elif timeout is not None:
        handle.body_due = loop.time() + timeout
    if timeout is not None:
        timer = loop.call_later(timeout, _wake, ended, False)
    try:
        is_ignored = await ended
    except asyncio.CancelledError:
        task.cancel()
        await _leave_alone_after(services, task, grace, handle)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if task.done():
        return _result(task, node.name, handle)
    if is_ignored:
        await _leave_alone_after(services, task, 0, handle)
        return Interrupted()
    task.cancel()
    await _leave_alone_after(services, task, grace, handle)
    if handle.is_interrupted:
        return Interrupted()
    return Raised(NodeTimeoutError(node=node.name, timeout_seconds=timeout or 0.0))


def _wake(ended: asyncio.Future[bool], is_ignored: bool, task: object = None) -> None:
    del task
    if not ended.done():
        ended.set_result(is_ignored)


async def _wait_again(start: Start) -> None:
    """Wait for another instant, since something was slow between the first one and the body."""
    if await start.wait() is not None:
        raise _MissedError


async def _invoke(node: GraphNode, ctx: WorkflowCtx[Any], value: Any, start: Start | None) -> Transition[Any]:
    while start is not None and not start.take():
        await _wait_again(start)
    return as_transition(await node.node.invoke(ctx, value))


async def _invoke_there(
    services: Services, process: ProcessPlace, ctx: WorkflowCtx[Any], value: Any, handle: StepHandle
) -> Transition[Any]:
    while handle.start is not None and not handle.start.take():
        await _wait_again(handle.start)
    return await process.run(ctx, value, services.now_ms(handle.run_id))


async def _invoke_in(
    place: ThreadPlace, node: GraphNode, ctx: WorkflowCtx[Any], value: Any, start: Start | None
) -> Transition[Any]:
    variables = contextvars.copy_context()
    while True:
        result = await place.run(lambda: variables.run(_call, node, ctx, value, start))
        if start is None or result is not _TOO_LATE:
            return as_transition(result)
        await _wait_again(start)


def _call(node: GraphNode, ctx: WorkflowCtx[Any], value: Any, start: Start | None) -> Any:
    """Call a sync node; a future would not take a StopIteration, and its step would wait for ever."""
    if start is not None and not start.take():
        return _TOO_LATE
    try:
        return node.node.invoke(ctx, value)
    except StopIteration as error:
        raise RuntimeError(f"node {node.name!r} raised StopIteration") from error


async def _guarded(body: Callable[[], Awaitable[Transition[Any]]]) -> BodyResult:
    """Turn whatever user code raises into a value: `SystemExit` in a task would end the whole process."""
    try:
        return Returned(await body())
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - user code: its exits must not end the worker
        return Raised(error)


async def _leave_alone_after(
    services: Services, task: asyncio.Task[BodyResult], grace: float, handle: StepHandle
) -> None:
    """Give a cancelled body some time, and leave it alone if it does not heed."""
    done, _ = await asyncio.wait({task}, timeout=grace)
    if done:
        return
    _log.warning(
        "step.ignores_cancellation", run_id=handle.run_id, item_id=handle.item_id, node=handle.node,
        waited_seconds=grace,
    )  # fmt: skip
    left_behind = services.inflight.left_behind
    left_behind[handle] = None

    def end(task: asyncio.Task[BodyResult]) -> None:
        left_behind.pop(handle, None)
        if not task.cancelled():
            task.exception()

    task.add_done_callback(end)


def _result(task: asyncio.Task[BodyResult], node: str, handle: StepHandle) -> BodyResult:
    if handle.is_interrupted:
        if not task.cancelled():
            task.exception()
        return Interrupted()
    if task.cancelled():
        return Raised(NodeInterruptedError(node=node, exit_type="CancelledError"))
    result = task.result()
    return Raised(as_failure(result.error, node)) if isinstance(result, Raised) else result


def as_failure(error: BaseException, node: str) -> Exception:
    """Return what user code raised as an error, though it be an exit."""
    if isinstance(error, Exception):
        return error
    interrupted = NodeInterruptedError(node=node, exit_type=type(error).__name__)
    interrupted.__cause__ = error
    return interrupted
