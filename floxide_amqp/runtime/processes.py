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
from floxide_amqp.exceptions import ConfigurationError, NodeProcessDiedError, NodeProcessError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.process_wire import (
    ABORT,
    HEAD,
    HOLD,
    LOG,
    NEXT_ALL,
    PREPARED,
    RAISED,
    VALUE,
    frame,
    prepare_frame,
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
"""Processes tried for a body: one that lay idle may have been killed."""

PREPARE_SECONDS: Final = 120.0
"""Longest time for importing a workflow in a fresh process; it does not count as the body's."""

_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from floxide_amqp.runtime.process_child import main; "
    "main({descriptor}, {parent}, {level})"
)


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
                popen = subprocess.Popen(  # noqa: ASYNC220, S603 - the program is this module's own; it returns once it is executed
                    [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=(there.fileno(),),
                    start_new_session=True,
                )  # fmt: skip
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

    @property
    def how_it_ended(self) -> str:
        """How it ended, in words."""
        code = self._popen.returncode
        if code is None:
            return "its end of the socket was closed"
        if code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"it exited with code {code}"

    async def prepare(self, reference: NodeReference) -> bool:
        """Have it import a node; return False where it has died.

        Raises:
            NodeProcessError: It cannot be imported there.
        """
        self._writer.write(prepare_frame(reference))
        found = await self._frames.get()
        if found is not None and found[0] != PREPARED:
            raise read_error(found[1])
        return found is not None

    async def run(self, node: GraphNode, ctx: WorkflowCtx[Any], data: bytes, now_ms: int) -> Transition[Any]:
        """Run the body of the node it has imported and return what it returned.

        Raises:
            NodeProcessDiedError: The process died under it.
            BaseException: What the body raised.
        """
        self.bodies += 1
        self._writer.write(run_frame(ctx, now_ms) + frame(VALUE, data))
        with suppress(ConnectionError):  # it is gone, as the next frame tells
            await self._writer.drain()
        values = list[bytes]()
        while True:
            found = await self._frames.get()
            if found is None:
                raise NodeProcessDiedError(node=node.name, pid=self.pid, how=self.how_it_ended)
            kind, body = found
            if kind != VALUE:
                return _result(kind, body, [decode_payload(node.output, value) for value in values], ctx)
            values.append(body)

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


class ProcessPlace:
    """Room for one step's body, in a process that has imported its node.

    Attributes:
        node: The node.
        process: The process; None where none is to be had.
        problem: Why the body cannot run; None where it can.
        is_whole: Whether the process is as good as before: it was not broken off while it imported or ran a body.
        has_died: Whether it died under the body.
    """

    def __init__(self, node: GraphNode) -> None:
        self.node = node
        self.process: NodeProcess | None = None
        self.problem: NodeProcessError | None = None
        self.is_whole = True
        self.has_died = False

    async def run(self, ctx: WorkflowCtx[Any], value: Any, now_ms: int) -> Transition[Any]:
        """Run the body; whoever cancels this kills the process.

        Args:
            ctx: Of the step; the attributes that the body sets are set there.
            value: Its input.
            now_ms: Store time.

        Raises:
            NodeProcessDiedError: The process died.
            NodeProcessError: The node could not be imported.
            PayloadMismatchError: The input is not of the node's type.
            BaseException: What the body raised.
        """
        if self.problem is not None or self.process is None:
            raise self.problem or RuntimeError("a body that was left runs again")
        data = encode_payload(self.node.input, value)
        self.is_whole = False
        try:
            result = await self.process.run(self.node, ctx, data, now_ms)
        except asyncio.CancelledError:
            await self.process.kill()
            raise
        except NodeProcessDiedError:
            self.has_died = True
            raise
        except BaseException:
            self.is_whole = True  # the body raised
            raise
        self.is_whole = True
        return result


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
    async def place(self, node: GraphNode) -> AsyncGenerator[ProcessPlace]:
        """Wait until a process is free and has imported the node, and keep it for the block."""
        async with self._places:
            place = ProcessPlace(node)
            try:
                await self._prepare(place)
                yield place
            finally:
                await self._leave(place)

    async def aclose(self) -> None:
        """Kill what is left; bodies were waited for by those who ran them."""
        await asyncio.gather(*(self._end(process) for process in list(self._all)))

    async def _prepare(self, place: ProcessPlace) -> None:
        """Find a process that has the node; what goes wrong with that is what the body comes to."""
        node = place.node
        try:
            reference = self._reference(node)
            for _ in range(FRESH_TRIES):
                place.process, place.is_whole = await self._take(), False
                async with asyncio.timeout(PREPARE_SECONDS):
                    place.is_whole = await place.process.prepare(reference)
                if place.is_whole:
                    return
                await self._leave(place)
            problem, cure = "its process dies before it begins", "The worker's standard error may say why."
        except NodeProcessError as error:
            place.problem = error
            return
        except TimeoutError:
            problem, cure = f"importing it took longer than {PREPARE_SECONDS:g} s", "Import less with the workflow."
        except (OSError, ConfigurationError) as error:
            problem, cure = f"no process can be had ({error})", "Look at what the system allows this worker."
        place.problem = NodeProcessError(node=node.name, problem=problem, cure=cure)

    async def _leave(self, place: ProcessPlace) -> None:
        """Take a process back; one whose body did not come to an end is ended."""
        process, place.process = place.process, None
        if process is None:
            return
        is_fit = process.is_alive and place.is_whole and not (self._bodies and process.bodies >= self._bodies)
        if is_fit and place.problem is None:
            self._idle.append(process)
            return
        if place.has_died:
            self.died += 1
            _log.warning("process.died", pid=process.pid, node=place.node.name, how=process.how_it_ended)
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
        ConfigurationError: A workflow cannot be imported by its name, or the system has no process groups.
    """
    for workflow in registry.classes():
        for name, node in workflow.graph.nodes.items():
            if node.options.executor == "process":
                reference_to(workflow, name)
                if os.name != "posix":
                    raise ConfigurationError(f"Node {name!r} has executor='process', which needs Linux, macOS or BSD.")


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
    known = list(logging.Logger.manager.loggerDict.values())
    levels = [logger.level for logger in known if isinstance(logger, logging.Logger) and logger.level]
    return min(logging.getLogger().getEffectiveLevel(), *levels, logging.CRITICAL)
