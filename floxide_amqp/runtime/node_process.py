"""One process for node bodies: how it is started, what is said to it and what it says, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, Final, cast

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.process_nodes import NodeReference
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import NodeProcessDiedError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.process_wire import (
    ABORT,
    HEAD,
    HOLD,
    LOG,
    NEXT_ALL,
    PREPARED,
    RAISED,
    SOCKET_CLOSED,
    VALUE,
    frame,
    prepare_frame,
    read_error,
    run_frame,
)
from floxide_amqp.stores.encoding import decode_payload, unpack

_log = get_logger("floxide_amqp.processes")

LAST_WORDS_SECONDS: Final = 0.5
"""Time for what a process said before it died: somebody it has started may still hold its socket."""

END_SECONDS: Final = 5.0
"""Longest wait for a process that was killed."""

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
        self._is_killed = False
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
        if code in (None, SOCKET_CLOSED):
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
        if not self._is_killed:  # once: its number may be another's later
            self._is_killed = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._exited.wait()
        if self._listener is not None:
            self._listener.cancel()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
                    body = await reader.readexactly(length)
                    if kind == LOG:
                        self._pass_on(body)
                    else:
                        self._frames.put_nowait((kind, body))
            with suppress(TimeoutError):  # it may live on without its end of the socket
                async with asyncio.timeout(END_SECONDS):
                    await self._exited.wait()
        finally:  # nothing more comes, whatever the reason
            self._frames.put_nowait(None)

    def _pass_on(self, body: bytes) -> None:
        """Log what a process logged; filters and handlers are the user's, and the process waits for no line."""
        try:
            pass_on(body)
        except Exception as error:  # noqa: BLE001 - a line that cannot be logged must not end the conversation
            with suppress(Exception):
                _log.warning("process.log_refused", pid=self.pid, error=f"{type(error).__name__}: {error}")

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reap it, in a thread of its own: it may end at any time."""
        self._popen.wait()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._note_exit)

    def _note_exit(self) -> None:
        self._exited.set()
        if self._listener is not None and not self._listener.done():
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._frames.put_nowait, None)


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


def pass_on(body: bytes) -> None:
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
