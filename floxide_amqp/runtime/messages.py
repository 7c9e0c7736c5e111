"""What goes over the control bus: small messages with a kind, in both directions. All of them are hints."""

from __future__ import annotations

from enum import Enum
from typing import Final

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.packing import ARRAY, STR, Shape, pack_record, texts, unpack_record

MAX_CONTROL_BYTES: Final = 512 * 1024
"""Longest message that is decoded at all: the longest ids of as many runs as one names fit into it."""

MAX_CONTROL_RUNS: Final = 1_000
"""Runs that a message may name; a longer one is not decoded."""

TOLD_AT_ONCE: Final = 256
"""Runs that a message of this release names at most."""

CONTROL = Shape(
    "control message", 4, max_bytes=MAX_CONTROL_BYTES, max_length=MAX_CONTROL_RUNS, kind=STR, runs=ARRAY, workflow=STR,
    version=STR, key=STR,
)  # fmt: skip
EVENT = Shape("event", 2, max_bytes=MAX_CONTROL_BYTES, max_length=MAX_CONTROL_RUNS, runs=ARRAY, status=STR)


class ControlKind(Enum):
    """What a control message says happened; the store knows the truth."""

    START = "start"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    """The run failed elsewhere: its steps in flight need not go on."""
    DRAIN = "drain"
    FOLLOW = "follow"
    """Somebody wants to be told whenever something of the run is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlMessage:
    """A hint to every worker about some runs.

    Attributes:
        workflow: Of a start: what is about to arrive.
        key: Routing key of whoever wants to be told.
    """

    kind: ControlKind
    runs: tuple[RunId, ...] = ()
    workflow: str = ""
    version: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNews:
    """Runs reached a status; to those who follow one also that something of it was committed, as RUNNING."""

    runs: tuple[RunId, ...]
    status: RunStatus


def encode_control(message: ControlMessage) -> bytes:
    """Encode a control message."""
    return pack_record(CONTROL, message.kind.value, message.runs, message.workflow, message.version, message.key)


def decode_control(data: bytes) -> ControlMessage:
    """Decode a control message.

    Raises:
        CodecError: The bytes are none.
    """
    kind, runs, workflow, version, *later = unpack_record(CONTROL, data)
    if kind not in _KINDS:
        raise CodecError(f"Unknown control message {kind[:40]!r}.")
    return ControlMessage(
        kind=_KINDS[kind], runs=texts(runs, "list of runs of a control message"), workflow=workflow, version=version,
        key=later[0] if later else "",
    )  # fmt: skip


def encode_event(event: RunNews) -> bytes:
    """Encode an event."""
    return pack_record(EVENT, event.runs, event.status.value)


def decode_event(data: bytes) -> RunNews:
    """Decode an event.

    Raises:
        CodecError: The bytes are none.
    """
    runs, status = unpack_record(EVENT, data)[:2]
    if status not in _STATUSES:
        raise CodecError(f"Unknown run status {status[:40]!r}.")
    return RunNews(runs=texts(runs, "list of runs of an event"), status=_STATUSES[status])


_KINDS = {kind.value: kind for kind in ControlKind}
_STATUSES = {status.value: status for status in RunStatus}
