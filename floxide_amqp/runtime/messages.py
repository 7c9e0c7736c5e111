"""What goes over the control bus: small msgpack maps with a kind, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.encoding import pack, unpack


class ControlKind(Enum):
    """What a control message says happened; the store knows the truth."""

    START = "start"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    """The run failed elsewhere: its steps in flight need not go on."""
    DRAIN = "drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlMessage:
    """A hint to every worker about some runs.

    Attributes:
        workflow: Of a start: what is about to arrive.
    """

    kind: ControlKind
    runs: tuple[RunId, ...] = ()
    workflow: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """A run reached a status."""

    run_id: RunId
    status: RunStatus


def encode_control(message: ControlMessage) -> bytes:
    """Encode a control message."""
    return pack([message.kind.value, list(message.runs), message.workflow, message.version])


def decode_control(data: bytes) -> ControlMessage:
    """Decode a control message.

    Raises:
        CodecError: The bytes are none.
    """
    kind, runs, workflow, version = _fields(data, 4)
    if not isinstance(runs, list | tuple):
        raise CodecError("A control message names its runs in a list.")
    try:
        return ControlMessage(
            kind=ControlKind(kind),
            runs=tuple(RunId(str(run)) for run in cast("Sequence[object]", runs)),
            workflow=str(workflow),
            version=str(version),
        )
    except ValueError as error:
        raise CodecError(f"Unknown control message {str(kind)[:40]!r}.") from error


def encode_event(event: RunEvent) -> bytes:
    """Encode an event."""
    return pack([event.run_id, event.status.value])


def decode_event(data: bytes) -> RunEvent:
    """Decode an event.

    Raises:
        CodecError: The bytes are none.
    """
    run_id, status = _fields(data, 2)
    try:
        return RunEvent(run_id=RunId(str(run_id)), status=RunStatus(str(status)))
    except ValueError as error:
        raise CodecError(f"Unknown run status {str(status)[:40]!r}.") from error


def _fields(data: bytes, count: int) -> Sequence[object]:
    values = unpack(data)
    fields = cast("Sequence[object]", values) if isinstance(values, list | tuple) else ()
    if len(fields) != count:
        raise CodecError(f"A message with {count} fields was expected.")
    return fields
