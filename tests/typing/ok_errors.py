"""The facts of an error are attributes with types."""

from __future__ import annotations

from typing import assert_type

from floxide_amqp import NodeTimeoutError, ResultTimeoutError, RunCancelledError, RunFailedError


def told(error: RunFailedError | RunCancelledError) -> None:
    assert_type(error.run_id, str)
    if isinstance(error, RunFailedError):
        assert_type(error.node, str)
        assert_type(error.attempts, int)


def late(error: NodeTimeoutError | ResultTimeoutError) -> None:
    assert_type(error.timeout_seconds, float)
