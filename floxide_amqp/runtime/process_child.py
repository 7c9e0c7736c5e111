"""The process in which node bodies run: imports what a worker names, runs it, says what came of it.

The main thread runs bodies, one after the other; another one reads the socket, so that the end of the worker, of which
the socket tells, is noticed while a body runs. A body in native code that never lets others run is ended by the
kernel, where that can be had (Linux).
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, Final

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.process_nodes import find_node
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition, as_transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import NodeProcessError, PayloadMismatchError, UndeclaredTransitionError
from floxide_amqp.runtime.process_ctx import ctx_in_process, refuse
from floxide_amqp.runtime.process_wire import (
    ABORT,
    HEAD,
    HOLD,
    LOG,
    MAX_TEXT,
    NEXT,
    NEXT_ALL,
    PREPARE,
    PREPARED,
    RAISED,
    RUN,
    SOCKET_CLOSED,
    VALUE,
    error_frame,
    frame,
    read_prepare,
    read_run,
)
from floxide_amqp.stores.encoding import decode_payload, encode_payload, pack

_PR_SET_PDEATHSIG: Final = 1


class Channel:
    """The socket to the worker; threads may write to it side by side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._identity = descriptor, _identity_of(descriptor)
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(True)
        self._file = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        """Write a frame; without a worker there is nobody to read it.

        Where a body has closed the socket, as those do who close every descriptor before they start something, nobody
        would ever hear of what it comes to; and what has its number now is not for frames.
        """
        with self._lock:
            if _identity_of(self._descriptor) != self._identity:
                os._exit(SOCKET_CLOSED)
            with suppress(OSError):
                self._socket.sendall(data)

    def read(self) -> tuple[bytes, bytes] | None:
        """Return the next frame, or None where the worker is gone."""
        head = self._file.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        kind, length = HEAD.unpack(head)
        body = self._file.read(length)
        return (kind, body) if len(body) == length else None


def _identity_of(descriptor: int) -> tuple[int, int] | None:
    """Return what tells an open file from every other; None where the descriptor is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _LogFrames(logging.Handler):
    """Sends what is logged to the worker, whose log it appears in."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            text = record.exc_text or ("".join(traceback.format_exception(*record.exc_info)) if record.exc_info else "")
            facts = record.__dict__.get("floxide", {})
            said = {str(name): value if isinstance(value, int | float) else str(value) for name, value in facts.items()}
            event = str(record.__dict__.get("floxide_event", ""))
            body = pack([record.name, record.levelno, record.getMessage()[:MAX_TEXT], text[-MAX_TEXT:], event, said])
        except Exception:  # noqa: BLE001 - what is logged is the user's; a log must not end a body
            self.handleError(record)
        else:
            self._channel.send(frame(LOG, body))


def main(descriptor: int, parent: int, level: int) -> None:
    """Run bodies for the worker at the other end of a socket until it is gone.

    Args:
        descriptor: Of the socket.
        parent: The worker's process id.
        level: Least level of what is logged.
    """
    _die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # for the worker, which drains; handlers are not passed on by exec
        signal.signal(number, _ignore)
    channel = Channel(descriptor)
    logging.basicConfig(level=level, handlers=[_LogFrames(channel)])
    requests: queue.SimpleQueue[tuple[bytes, bytes, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(channel, requests), name="floxide-process-reader", daemon=True).start()
    node: GraphNode | None = None
    while True:
        kind, body, value = requests.get()
        if kind == PREPARE:
            node = _prepare(channel, body)
        elif node is not None:
            _perform(channel, node, body, value)


def _ignore(_number: int, _frame: object) -> None:
    """A signal that is meant for the worker."""


def _read(channel: Channel, requests: queue.SimpleQueue[tuple[bytes, bytes, bytes]]) -> None:
    run = b""
    with suppress(OSError):
        while (found := channel.read()) is not None:
            kind, body = found
            if kind == RUN:
                run = body
            elif kind == VALUE:
                requests.put((RUN, run, body))
            else:
                requests.put((kind, body, b""))
    os.killpg(0, signal.SIGKILL)  # this process leads its group: what the body has started ends with it


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its worker, where it can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _prepare(channel: Channel, body: bytes) -> GraphNode | None:
    """Import a node; None where that cannot be done, which is told."""
    reference = read_prepare(body)
    try:
        node = find_node(reference)
    except BaseException as error:  # noqa: BLE001 - the user's module: whatever it raises is told
        cure = f"Its process cannot import {reference.module}:{reference.qualname}; the cause says why."
        problem = f"{type(error).__name__}: {error}"
        told = NodeProcessError(node=reference.node, problem=problem, cure=cure)
        told.__cause__ = error
        channel.send(error_frame(RAISED, told))
        return None
    channel.send(frame(PREPARED))
    return node


def _perform(channel: Channel, node: GraphNode, body: bytes, data: bytes) -> None:
    try:
        facts, now_ms = read_run(body)
        value = decode_payload(node.input, data)
        ctx = ctx_in_process(facts, now_ms)
        frames = _frames(node, ctx, as_transition(_invoke(node, ctx, value)))
    except BaseException as error:  # noqa: BLE001 - the user's code: whatever it raises is told, and the next body runs
        frames = [error_frame(RAISED, error)]
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the body may have closed it, or put anything in its place
            stream.flush()
    for each in frames:
        channel.send(each)


def _invoke(node: GraphNode, ctx: WorkflowCtx[Any], value: Any) -> Any:
    try:
        return node.node.invoke(ctx, value)
    except StopIteration as error:
        raise RuntimeError(f"node {node.name!r} raised StopIteration") from error


def _frames(node: GraphNode, ctx: WorkflowCtx[Any], transition: Transition[Any]) -> list[bytes]:
    """Return what tells the worker of a transition, and of the attributes that the body has set."""
    attributes = dict(ctx.attributes_set)
    match transition:
        case Next():
            return [_value(node, transition.value), frame(NEXT, pack(attributes))]
        case NextAll() if node.node.may_fan_out:
            return [*(_value(node, value) for value in transition.values), frame(NEXT_ALL, pack(attributes))]
        case Hold() if node.node.may_hold:
            if transition.until:
                refuse(node.name, "Hold(until=signal)", "Let a node before it wait, and pass on what was received.")
            return [frame(HOLD, pack([transition.for_, transition.until_time, attributes]))]
        case Abort():
            return [error_frame(ABORT, transition.error)]
        case _:
            raise UndeclaredTransitionError(node=node.name, transition=type(transition).__name__)


def _value(node: GraphNode, value: Any) -> bytes:
    try:
        return frame(VALUE, encode_payload(node.output, value))
    except PayloadMismatchError as error:
        raise error.at(f"Node {node.name!r} returned a wrong value: it") from error
