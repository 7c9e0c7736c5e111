"""Interceptors: code around the start of a run, a step and a publish, for logging, tracing and policies.

An interceptor overrides what it needs and calls `proceed` once. The first in the list is the outermost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.transition import Transition
from floxide_amqp.ports.work_queue import Message, PublishOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCall:
    """A run about to be stored."""

    run_id: RunId
    workflow: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """A node about to run.

    Attributes:
        attempt: Number of this try, 1 or more.
        input: The decoded input.
    """

    run_id: RunId
    item_id: WorkItemId
    workflow: str
    node: str
    attempt: int
    input: Any


class Interceptor:
    """Passes everything on; a base to override."""

    async def start(self, call: StartCall, proceed: Callable[[], Awaitable[None]]) -> None:
        """Around storing a new run."""
        await proceed()

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        """Around a node's body, in the task of the step: what it raises counts as the node's error."""
        return await proceed()

    async def publish(
        self, messages: Sequence[Message], proceed: Callable[[], Awaitable[Sequence[PublishOutcome]]]
    ) -> Sequence[PublishOutcome]:
        """Around publishing work item messages."""
        return await proceed()


class _Logger(Protocol):
    def debug(self, event: str, /, **facts: Any) -> Any: ...


class LoggingInterceptor(Interceptor):
    """Logs each step's beginning and end at debug level: ``step.started``, ``step.returned``."""

    def __init__(self, logger: _Logger) -> None:
        self._log = logger

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        """Log around a node's body."""
        facts = {"run_id": call.run_id, "item_id": call.item_id, "node": call.node, "attempt": call.attempt}
        self._log.debug("step.started", **facts)
        transition = await proceed()
        self._log.debug("step.returned", transition=type(transition).__name__, **facts)
        return transition


def chain_step(
    interceptors: Sequence[Interceptor], call: StepCall, body: Callable[[], Awaitable[Transition[Any]]]
) -> Callable[[], Awaitable[Transition[Any]]]:
    """Return the body wrapped in all interceptors, the first outermost."""
    for interceptor in reversed(interceptors):
        body = _around_step(interceptor, call, body)
    return body


def _around_step(
    interceptor: Interceptor, call: StepCall, inner: Callable[[], Awaitable[Transition[Any]]]
) -> Callable[[], Awaitable[Transition[Any]]]:
    return lambda: interceptor.step(call, inner)


def chain_start(
    interceptors: Sequence[Interceptor], call: StartCall, body: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return the storing of a run wrapped in all interceptors, the first outermost."""
    for interceptor in reversed(interceptors):
        body = _around_start(interceptor, call, body)
    return body


def _around_start(
    interceptor: Interceptor, call: StartCall, inner: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    return lambda: interceptor.start(call, inner)


def chain_publish(
    interceptors: Sequence[Interceptor],
    messages: Sequence[Message],
    body: Callable[[], Awaitable[Sequence[PublishOutcome]]],
) -> Callable[[], Awaitable[Sequence[PublishOutcome]]]:
    """Return a publish wrapped in all interceptors, the first outermost."""
    for interceptor in reversed(interceptors):
        body = _around_publish(interceptor, messages, body)
    return body


def _around_publish(
    interceptor: Interceptor,
    messages: Sequence[Message],
    inner: Callable[[], Awaitable[Sequence[PublishOutcome]]],
) -> Callable[[], Awaitable[Sequence[PublishOutcome]]]:
    return lambda: interceptor.publish(messages, inner)
