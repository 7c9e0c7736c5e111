"""Processes for the bodies of sync nodes: started when first needed, used again and again, killed one by one.

A process is a fresh interpreter, never a fork of the worker with its threads and its event loop. It runs one body at a
time. A body that is cancelled or takes too long is killed with its process, and so is whatever it has started; the
next one has a fresh process. A process that dies fails the attempt it was at, not the worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.process_nodes import NodeReference, reference_to
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import NodeProcessDiedError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.process_wire import (
    ABORT,
    BEGUN,
    HEAD,
    HOLD,
    LOG,
    NEXT_ALL,
    RAISED,
    READY,
    VALUE,
    frame,
    read_error,
    run_frame,
)
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.stores.encoding import decode_payload, encode_payload, unpack

_log = get_logger("floxide_amqp.processes")

LAST_WORDS_SECONDS: Final = 0.5
"""Time for what a process said before it died: somebody it has started may still hold its socket."""

END_SECONDS: Final = 5.0
"""Longest wait for a process that was killed."""

FRESH_TRIES: Final = 3
"""Processes tried for a body that had not begun when its process died: one that lay idle may have been killed."""

_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from floxide_amqp.runtime.process_child import main; "
    "main({descriptor}, {parent}, {level})"
)


class _NotBegunError(Exception):
    """The process died before the body began."""


class NodeProcess:
    """One process, and the conversation with it."""

    def __init__(self, popen: subprocess.Popen[bytes], writer: asyncio.StreamWriter) -> None:
        self._popen = popen
        self._writer = writer
        self._frames: asyncio.Queue[tuple[bytes, bytes] | None] = asyncio.Queue()
        self._exited = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self.bodies = 0

    @classmethod
    async def start(cls) -> NodeProcess:
        """Start a process; it is ready, or imports, when it is first spoken to.

        Raises:
            OSError: There can be none.
        """
        here, there = socket.socketpair()
        try:
            with there:
                level = _least_level()
                program = _PROGRAM.format(path=sys.path, descriptor=there.fileno(), parent=os.getpid(), level=level)
                popen = subprocess.Popen(
                    [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=(there.fileno(),),
                    start_new_session=True,
                )  # fmt: skip  # returns once it is executed
            reader, writer = await asyncio.open_connection(sock=here)
        except BaseException:
            here.close()
            raise
        process = cls(popen, writer)
        process._listener = asyncio.create_task(process._listen(reader), name="floxide.process.listener")
        loop = asyncio.get_running_loop()
        threading.Thread(target=process._wait, args=(loop,), name="floxide-process-waiter", daemon=True).start()
        _log.debug("process.started", pid=popen.pid)
        return process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return not self._exited.is_set()

    async def run(self, node: GraphNode, reference: NodeReference, ctx: WorkflowCtx[Any], data: bytes) -> Transition[Any]:
        """Run a body and return what it returned.

        Raises:
            NodeProcessDiedError: The process died under it.
            BaseException: What the body raised.
        """
        self.bodies += 1
        facts, now_ms = ctx.facts_and_time()
        self._writer.write(run_frame(reference, facts, now_ms) + frame(VALUE, data))
        with suppress(ConnectionError):  # it is gone, as the next frame tells
            await self._writer.drain()
        has_begun, values = False, list[bytes]()
        while True:
            found = await self._frames.get()
            if found is None:
                if not has_begun:
                    raise _NotBegunError
                raise NodeProcessDiedError(node=node.name, pid=self.pid, how=_how(self._popen.returncode))
            kind, body = found
            if kind == VALUE:
                values.append(body)
            elif kind == BEGUN:
                has_begun = True
            elif kind != READY:
                return _result(kind, body, [decode_payload(node.output, value) for value in values], ctx)

    async def kill(self) -> None:
        """End it, with what it has started; return once it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._exited.wait()
        if self._listener is not None:
            self._listener.cancel()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
                body = await reader.readexactly(length)
                if kind == LOG:
                    _pass_on(body)
                else:
                    self._frames.put_nowait((kind, body))
        await self._exited.wait()
        self._frames.put_nowait(None)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reap it, in a thread of its own: it may end at any time."""
        self._popen.wait()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._note_exit)

    def _note_exit(self) -> None:
        self._exited.set()
        if self._listener is not None and not self._listener.done():
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._frames.put_nowait, None)


class NodeProcesses:
    """Processes for nodes, so many bodies at a time.

    Args:
        registry: The workflows whose nodes run.
        size: How many processes; at least 1.
        bodies: How many bodies run in one process before it is replaced; 0 for as many as there are.

    Attributes:
        died: Processes that died under a body.
    """

    def __init__(self, registry: Registry, *, size: int, bodies: int = 0) -> None:
        self.died = 0
        self._registry = registry
        self._bodies = bodies
        self._places = asyncio.Semaphore(size)
        self._idle: list[NodeProcess] = []
        self._all: set[NodeProcess] = set()
        self._references: dict[int, NodeReference] = {}

    def __len__(self) -> int:
        return len(self._all)

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """Wait until a body may run, and keep the place for the block."""
        async with self._places:
            yield

    async def run(self, node: GraphNode, ctx: WorkflowCtx[Any], value: Any) -> Transition[Any]:
        """Run a node's body in a process, in a place; whoever cancels this kills it.

        Raises:
            NodeProcessDiedError: Its process died.
            PayloadMismatchError: The input is not of the node's type.
            BaseException: What the body raised.
        """
        reference = self._reference(node)
        data = encode_payload(node.input, value)
        for last in (*[False] * (FRESH_TRIES - 1), True):
            process = await self._take()
            try:
                return await self._run_in(process, node, reference, ctx, data)
            except _NotBegunError:
                how = _how(process._popen.returncode)  # noqa: SLF001 - its own part
                if last:
                    raise NodeProcessDiedError(node=node.name, pid=process.pid, how=f"{how}, before it began") from None
        raise RuntimeError("unreachable: the last try returns or raises")

    async def aclose(self) -> None:
        """Kill what is left; bodies were waited for by those who ran them."""
        await asyncio.gather(*(self._end(process) for process in list(self._all)))

    async def _run_in(
        self, process: NodeProcess, node: GraphNode, reference: NodeReference, ctx: WorkflowCtx[Any], data: bytes
    ) -> Transition[Any]:
        is_whole = False
        try:
            result = await process.run(node, reference, ctx, data)
            is_whole = True
            return result
        except (NodeProcessDiedError, _NotBegunError) as error:
            self.died += 1
            _log.warning(
                "process.died", pid=process.pid, node=node.name, run_id=ctx.run_id, item_id=ctx.item_id,
                how=getattr(error, "how", "before the body began"),
            )  # fmt: skip
            raise
        except asyncio.CancelledError:
            raise
        except BaseException:
            is_whole = True  # the body raised; the process is as good as before
            raise
        finally:
            if is_whole and process.is_alive and not (self._bodies and process.bodies >= self._bodies):
                self._idle.append(process)
            else:
                await asyncio.shield(asyncio.ensure_future(self._end(process)))

    async def _take(self) -> NodeProcess:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
            await self._end(process)
        process = await NodeProcess.start()
        self._all.add(process)
        return process

    async def _end(self, process: NodeProcess) -> None:
        self._all.discard(process)
        await process.kill()

    def _reference(self, node: GraphNode) -> NodeReference:
        if id(node) not in self._references:
            for workflow in self._registry.classes():
                found = workflow.graph.nodes.get(node.name)
                if found is node:
                    self._references[id(node)] = reference_to(workflow, node.name)
        return self._references[id(node)]


def check_process_nodes(registry: Registry) -> None:
    """Make sure that processes find the nodes that are to run in them.

    Raises:
        ConfigurationError: A workflow cannot be imported by its name.
    """
    for workflow in registry.classes():
        for name, node in workflow.graph.nodes.items():
            if node.options.executor == "process":
                reference_to(workflow, name)


def _result(kind: bytes, body: bytes, values: list[Any], ctx: WorkflowCtx[Any]) -> Transition[Any]:
    """Return what a body returned, with the attributes it has set, or raise what it raised."""
    if kind == RAISED:
        raise read_error(body)
    if kind == ABORT:
        error = read_error(body)
        return Abort(error if isinstance(error, Exception) else RuntimeError(str(error)))
    said = cast("Any", unpack(body))
    attributes: dict[str, Any] = said[2] if kind == HOLD else said
    for name, value in attributes.items():
        ctx.set_attribute(name, value)
    if kind == HOLD:
        return Hold(for_=said[0]) if said[1] is None else Hold(until_time=said[1])
    return NextAll(values) if kind == NEXT_ALL else Next(values[0])


def _pass_on(body: bytes) -> None:
    """Log what a process logged, under the same logger."""
    name, level, message, traceback, event, facts = cast("Any", unpack(body))
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        text = f"{message}\n{traceback}" if traceback else message
        logger.log(level, "%s", text, extra={"floxide_event": event, "floxide": facts} if event else None)


def _least_level() -> int:
    """Return the least level that any logger of this process lets through."""
    levels = [logging.getLogger().getEffectiveLevel()]
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.level:
            levels.append(logger.level)
    return min(levels)


def _how(returncode: int | None) -> str:
    if returncode is None:
        return "its end of the socket was closed"
    if returncode < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-returncode).name}"
    return f"it exited with code {returncode}"


