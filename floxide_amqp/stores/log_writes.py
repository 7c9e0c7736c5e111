"""What a run's logs get: which entries stand for a change of its context, an error, an arrival at a join of edges."""

from __future__ import annotations

from typing import TypeAlias

from floxide_amqp.core.changes import ArriveAt, AwaitJoin
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.joins import arrived, waiting
from floxide_amqp.core.log_changes import (
    AppendAudit,
    AppendCompensable,
    AppendDelta,
    AppendError,
    AppendMoment,
)
from floxide_amqp.ports.key_value import Append
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.moments import encode_moment

Logged: TypeAlias = AppendDelta | AppendError | AppendMoment | AppendAudit | AppendCompensable | ArriveAt | AwaitJoin
"""What is appended to a log but for the history, which every step writes: see `floxide_amqp.stores.writes`."""


def log_write(run_id: RunId, change: Logged) -> Append:
    """Return what a change writes."""
    match change:
        case AppendDelta(item_id, delta):
            return Append(keys.context_log(run_id), (codec.encode_delta(item_id, delta),))
        case AppendError(record):
            return Append(keys.errors(run_id), (codec.encode_error(record),))
        case AppendMoment(moment):
            return Append(keys.moments(run_id), (encode_moment(moment),))
        case AppendAudit(record):
            return Append(keys.audit(run_id), (codec.encode_audit(record),))
        case AppendCompensable(step):
            return Append(keys.compensables(run_id), (codec.encode_compensable(step),))
        case ArriveAt(join_id, position, item_id, payload):
            arrival = codec.encode_join_arrival(position, item_id, payload)
            return Append(keys.joined(run_id, arrived(join_id)), (arrival,))
        case AwaitJoin(scope, join):
            return Append(keys.joined(run_id, waiting(scope)), (codec.encode_awaited_join(join),))
