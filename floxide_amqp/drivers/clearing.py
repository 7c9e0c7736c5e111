"""Which batches clear a partition, for every driver alike."""

from __future__ import annotations

from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import Batch, Clear, When, Write


def clear_of(batch: Batch, *, store: str) -> Clear | None:
    """Return the clear that is a batch's only write; None for a batch without one.

    Raises:
        InvalidBatchError: It clears and writes something else, or clears under a condition.
    """
    if len(batch.writes) == 1 and isinstance(batch.writes[0], Clear):
        return batch.writes[0]
    if _clears(batch.writes):
        raise InvalidBatchError(store=store, reason="a batch that clears a partition may write nothing else")
    return None


def _clears(writes: tuple[Write, ...]) -> bool:
    kinds = set(map(type, writes))
    if Clear in kinds:
        return True
    return When in kinds and any(
        _clears(write.then) or _clears(write.otherwise) for write in writes if isinstance(write, When)
    )
