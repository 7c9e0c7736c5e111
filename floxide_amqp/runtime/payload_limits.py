"""How large values may be: what is too large is a failed attempt that says so, before anything is sent to the store."""

from __future__ import annotations

from floxide_amqp.core.decisions import Held, Outcome, Succeeded
from floxide_amqp.exceptions import PayloadTooLargeError
from floxide_amqp.runtime.settings import Limits


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
    if not isinstance(outcome, Succeeded | Held):
        return
    delta = outcome.delta or b""
    check_payload(delta, limits, f"What node {node!r} changed of the context")
    total = len(delta)
    if isinstance(outcome, Succeeded):
        for route in outcome.routes:
            check_payload(route.payload, limits, f"A value that node {node!r} returned")
            total += len(route.payload)
    if total > limits.step_bytes:
        raise PayloadTooLargeError(
            what=f"All that node {node!r} returned at once", size_bytes=total, limit_bytes=limits.step_bytes,
            limit="step_bytes",
        )  # fmt: skip
