"""What stands in for the engine where a node is tested by calling it: see `WorkflowCtx.for_test`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from typing_extensions import TypeVar

from floxide_amqp.core.signals import Signal
from floxide_amqp.core.step_powers import StepLogger
from floxide_amqp.exceptions import ResourceNotFoundError

T = TypeVar("T")


class FakePowers:
    """Powers for tests: time stands still except for sleeps, which pass at once."""

    def __init__(
        self,
        *,
        node: str,
        resources: Mapping[type[Any], object],
        is_cancelled: bool,
        signals: Sequence[tuple[Signal[Any], object]] = (),
    ) -> None:
        self._node = node
        self._signals = list(signals)
        self._resources = resources
        self._cancelled = asyncio.Event()
        self._slept_ms = 0
        if is_cancelled:
            self._cancelled.set()

    def resource(self, kind: type[T]) -> T:
        """Return what was given under a type, or the only thing given that is an instance of it.

        Raises:
            ResourceNotFoundError: Nothing fits, or several things do.
        """
        if kind in self._resources:
            return cast(T, self._resources[kind])
        fitting = [given for given in self._resources.values() if isinstance(given, kind)]
        if len(fitting) == 1:
            return fitting[0]
        known = tuple(known.__name__ for known in self._resources)
        raise ResourceNotFoundError(node=self._node, resource=kind.__name__, known=known)

    def received(self, signal: Signal[T]) -> T | None:
        """Return the next of the given values of a signal."""
        for number, (sent, value) in enumerate(self._signals):
            if sent == signal:
                del self._signals[number]
                return cast(T, value)
        return None

    def send(self, run_id: str, signal: Signal[T], value: T, signal_id: str) -> None:
        """Make sure that the value is of the signal's type; `WorkflowCtx.signals_sent` has it."""
        del run_id, signal_id
        signal.payload.dump(value)

    def is_cancelled(self) -> bool:
        """Say whether `cancel_run` was called."""
        return self._cancelled.is_set()

    async def wait_cancelled(self) -> None:
        """Return once `cancel_run` was called."""
        await self._cancelled.wait()

    async def cancel_run(self) -> None:
        """Be cancelled from now on."""
        self._cancelled.set()

    async def sleep(self, seconds: float) -> None:
        """Let time pass without waiting."""
        self._slept_ms += round(seconds * 1000)
        await asyncio.sleep(0)

    def now_ms(self) -> int:
        """Return the time slept since 1970 began."""
        return self._slept_ms

    def logger(self) -> StepLogger:
        """Return a logger that drops everything."""
        return SilentLogger()


class SilentLogger:
    """Takes every event and drops it."""

    def debug(self, event: str, **fields: Any) -> None:
        """Drop an event."""

    info = warning = error = exception = debug

    def bind(self, **fields: Any) -> Self:
        """Return itself."""
        del fields
        return self
