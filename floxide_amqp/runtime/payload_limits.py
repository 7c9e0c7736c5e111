"""How large values may be: what is too large is a failed attempt that says so, before anything is sent to the store.

A message never carries a value, only where it is: in the store. So the broker's own limits do not matter here. Sizes
count before any codec: what fits does not depend on how well it can be compressed.
"""

from __future__ import annotations

from floxide_amqp.core.outcomes import Held, Outcome, Succeeded
from floxide_amqp.exceptions import PayloadTooLargeError
from floxide_amqp.runtime.settings import Limits


def value_of(node: str) -> str:
    """Return how a sentence about something that a node returned begins."""
    return f"A value that node {node!r} returned"


def change_of(node: str) -> str:
    """Return how a sentence about what a node did to the context begins."""
    return f"What node {node!r} changed of the context"


def check_payload(payload: bytes, limits: Limits, what: str) -> None:
    """Make sure that an encoded value is not too large.

    Args:
        payload: The value.
        limits: Says what is.
        what: The value's place, as the subject of a sentence.

    Raises:
        PayloadTooLargeError: It is.
    """
    if len(payload) > limits.payload_bytes:
        raise PayloadTooLargeError(
            what=what, size_bytes=len(payload), limit_bytes=limits.payload_bytes, limit="payload_bytes"
        )


def check_outcome(outcome: Outcome, limits: Limits, node: str) -> None:
    """Make sure that what a node came to is not too large, each value of it and all together.

    Raises:
        PayloadTooLargeError: It is.
    """
    if not isinstance(outcome, (Succeeded, Held)):
        return
    delta, total = outcome.delta, 0
    if delta:
        check_payload(delta, limits, change_of(node))
        total = len(delta)
    if isinstance(outcome, Succeeded):
        for route in outcome.routes:
            size = len(route.payload)
            if size > limits.payload_bytes:
                check_payload(route.payload, limits, value_of(node))
            total += size
    if total > limits.step_bytes:
        raise PayloadTooLargeError(
            what=f"All that node {node!r} returned at once", size_bytes=total, limit_bytes=limits.step_bytes,
            limit="step_bytes",
        )  # fmt: skip
