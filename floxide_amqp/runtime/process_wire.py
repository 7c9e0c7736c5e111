"""What a worker and its node processes say to each other: frames on a socket, and errors as data.

A frame is a letter, a length of four bytes and as many bytes: a payload as it would be stored, or packed plain data.
Nothing is pickled: what crosses names classes, and only classes of errors are looked up.
"""

from __future__ import annotations

import importlib
import struct
import sys
import traceback
from contextlib import suppress
from datetime import datetime
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, cast

from floxide_amqp.core.failure import FailureInfo, kind_of, storable
from floxide_amqp.core.process_nodes import NodeReference
from floxide_amqp.core.step_powers import StepFacts
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import CodecError, ForeignNodeError
from floxide_amqp.stores.encoding import pack, unpack

HEAD: Final = struct.Struct("!cI")

PREPARE, RUN, VALUE = b"P", b"R", b"V"
"""Import a node; run it, and with what. `VALUE` also carries what it returned, one frame each."""

PREPARED, LOG, NEXT, NEXT_ALL, HOLD, ABORT, RAISED = b"+", b"L", b"N", b"M", b"H", b"A", b"E"

SOCKET_CLOSED: Final = 74
"""Exit code of a process whose body has closed the socket to the worker."""

MAX_TEXT: Final = 32_000
"""Characters kept of a traceback, a message or a line of a log."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    return HEAD.pack(kind, len(body)) + body


def prepare_frame(reference: NodeReference) -> bytes:
    """Return the frame that has a process import a node."""
    return frame(PREPARE, pack([reference.module, reference.qualname, reference.version, reference.node]))


def read_prepare(body: bytes) -> NodeReference:
    """Return what `prepare_frame` was given."""
    module, qualname, version, node = cast("Any", unpack(body))
    return NodeReference(module=module, qualname=qualname, version=version, node=node)


def run_frame(ctx: WorkflowCtx[Any], now_ms: int) -> bytes:
    """Return the frame that has a process run the node it has imported, with what its `WorkflowCtx` says."""
    failure = ctx.failure
    said = None if failure is None else [failure.node, failure.error_type, failure.message, failure.attempts]
    step = [
        ctx.run_id, ctx.item_id, ctx.node, ctx.workflow, ctx.worker_id, ctx.attempt, said, ctx.deadline, ctx.timed_out
    ]  # fmt: skip
    return frame(RUN, pack([step, now_ms]))


def read_run(body: bytes) -> tuple[StepFacts, int]:
    """Return what `run_frame` was given."""
    step, now_ms = cast("Any", unpack(body))
    run_id, item_id, node, workflow, worker_id, attempt, said, deadline, timed_out = step
    failure = None
    if said is not None:
        failure = FailureInfo(node=said[0], error_type=said[1], message=said[2], attempts=said[3])
    facts = StepFacts(
        run_id=run_id, item_id=item_id, node=node, workflow=workflow, worker_id=worker_id, attempt=attempt,
        failure=failure, deadline=cast("datetime | None", deadline), timed_out=timed_out,
    )  # fmt: skip
    return facts, now_ms


def error_frame(kind: bytes, error: BaseException) -> bytes:
    """Return the frame that tells of an error: its class by name, what it was made with, its traceback."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - formatting calls the user's code
        text = ""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the same
        message = f"<{type(error).__name__}.__str__ failed>"
    cls = type(error)
    said = [storable(each) for each in (cls.__module__, cls.__qualname__, message[:MAX_TEXT], text[-MAX_TEXT:])]
    attributes, odd = _plain_attributes(error)
    for arguments in (list(error.args), [said[2]]):
        with suppress(CodecError):
            return frame(kind, pack([*said, arguments, attributes, odd]))
    nothing: dict[str, Any] = {}
    return frame(kind, pack([*said, [said[2]], nothing, nothing]))


def read_error(body: bytes) -> BaseException:
    """Return the error that a frame tells of, of its own class where that can be had; its cause is the traceback."""
    module, qualname, message, text, arguments, attributes, odd = cast("Any", unpack(body))
    attributes |= {name: value.decode("utf-8", "surrogatepass") for name, value in odd.items()}
    error = _rebuilt(module, qualname, arguments, attributes)
    if error is None:
        error = ForeignNodeError(kind=f"{module}.{qualname}", text=message)
    error.__cause__ = RemoteTraceback(text)
    return error


class RemoteTraceback(Exception):  # noqa: N818 - nobody catches it: it shows where an error came from
    """The traceback of an error in another process, as the cause of the error here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        """Return the traceback."""
        return f'\n"""\n{self.text}"""'


def _plain_attributes(error: BaseException) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The attributes that can be sent, and those texts among the others whose lone surrogates no encoding takes."""
    plain, odd, said = dict[str, Any](), dict[str, bytes](), dict(vars(error))
    for name, descriptor in _builtin_attributes(type(error)).items():
        with suppress(AttributeError):  # it is not set
            said[name] = descriptor.__get__(error)
    for name, value in said.items():
        try:
            pack(value)
        except CodecError:
            if isinstance(value, str):
                odd[name] = value.encode("utf-8", "surrogatepass")
        else:
            plain[name] = value
    return plain, odd


def _builtin_attributes(cls: type[BaseException]) -> dict[str, Any]:
    """What classes of the interpreter keep outside ``__dict__``, and say their words with: each with its descriptor."""
    return {
        name: found
        for base in reversed(cls.__mro__)
        if base.__module__ == "builtins" and base is not BaseException
        for name, found in vars(base).items()
        if isinstance(found, MemberDescriptorType | GetSetDescriptorType) and not name.startswith("__")
    }


def _rebuilt(module: str, qualname: str, arguments: list[Any], attributes: dict[str, Any]) -> BaseException | None:
    """Make an error without running its class's own code, which may want other arguments than it keeps."""
    try:
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            return None
        error = found.__new__(found, *arguments)
        error.args = tuple(arguments)
        own = _builtin_attributes(found)
        vars(error).update({name: value for name, value in attributes.items() if name not in own})
        for name in own.keys() & attributes.keys():
            if attributes[name] is not None:  # which some say, and others take for a text
                own[name].__set__(error, attributes[name])
        return error if kind_of(type(error)) == f"{module}.{qualname}" else None
    except Exception:  # noqa: BLE001 - the user's modules and classes; the error is told of in words then
        return None
