"""What goes over the control bus: small messages with a kind, in both directions. All of them are hints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.packing import ARRAY, STR, Shape, pack_record, texts, unpack_record

MAX_CONTROL_BYTES: Final = 512 * 1024
"""Longest message that is decoded at all: the ids of 500 runs, the most that one start announces, fit into it."""

MAX_CONTROL_RUNS: Final = 1_000
"""Runs that one message names at most."""

CONTROL = Shape(
    "control message", 4, max_bytes=MAX_CONTROL_BYTES, max_length=MAX_CONTROL_RUNS, kind=STR, runs=ARRAY, workflow=STR,
    version=STR,
)  # fmt: skip
EVENT = Shape("event", 2, max_bytes=MAX_CONTROL_BYTES, max_length=MAX_CONTROL_RUNS, run_id=STR, status=STR)


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
    return pack_record(CONTROL, message.kind.value, message.runs, message.workflow, message.version)


def decode_control(data: bytes) -> ControlMessage:
    """Decode a control message.

    Raises:
        CodecError: The bytes are none.
    """
    kind, runs, workflow, version = unpack_record(CONTROL, data)[:4]
    if kind not in _KINDS:
        raise CodecError(f"Unknown control message {kind[:40]!r}.")
    return ControlMessage(
        kind=_KINDS[kind], runs=texts(runs, "list of runs of a control message"), workflow=workflow, version=version
    )


def encode_event(event: RunEvent) -> bytes:
    """Encode an event."""
    return pack_record(EVENT, event.run_id, event.status.value)


def decode_event(data: bytes) -> RunEvent:
    """Decode an event.

    Raises:
        CodecError: The bytes are none.
    """
    run_id, status = unpack_record(EVENT, data)[:2]
    if status not in _STATUSES:
        raise CodecError(f"Unknown run status {status[:40]!r}.")
    return RunEvent(run_id=RunId(run_id), status=_STATUSES[status])


_KINDS = {kind.value: kind for kind in ControlKind}
_STATUSES = {status.value: status for status in RunStatus}
