"""What a running step can do through its `WorkflowCtx`: resources, cancellation, sleep, the log."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from floxide_amqp.core.signals import Signal
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.control_actions import cancel_run
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.step_mail import StepMail

T = TypeVar("T")


class Powers:
    """The runtime's side of one step's `WorkflowCtx`.

    Args:
        services: The process's parts.
        handle: The step.
        admitted: Its item.
        mail: Its run's mailbox; None where that was not read, and is no concern of the step unless it sends a signal.

    Attributes:
        mail: What it has received and sent; None if it has not asked for any of it.
    """

    __slots__ = ("_admitted", "_handle", "_services", "mail")

    def __init__(self, services: Services, handle: StepHandle, admitted: Admitted, mail: StepMail | None) -> None:
        self._services = services
        self._handle = handle
        self._admitted = admitted
        self.mail = mail

    def resource(self, kind: type[T]) -> T:
        """Return the lifespan's resource of a type."""
        return self._services.resources.find(kind, node=self._handle.node)

    def received(self, signal: Signal[T]) -> T | None:
        """Return the next value of a signal that was sent to the run."""
        return self._own_mail().received(signal)

    def send(self, run_id: str, signal: Signal[T], value: T, signal_id: str) -> None:
        """Send a run a value, in the commit of the step."""
        self._own_mail().send(run_id, signal, value, signal_id)

    def is_cancelled(self) -> bool:
        """Whether the run was cancelled or is over."""
        return self._handle.is_interrupted

    async def wait_cancelled(self) -> None:
        """Return when the run is cancelled or over."""
        await self._handle.wait_interrupted()

    async def cancel_run(self) -> None:
        """Cancel the step's own run; the step itself is only told, so that it may clean up."""
        self._handle.tell()
        reason = f"by its node {self._handle.node}"
        await asyncio.shield(asyncio.ensure_future(cancel_run(self._services, self._handle.run_id, reason=reason)))

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(seconds)

    def now_ms(self) -> int:
        """The store's time."""
        return self._services.now_ms(self._handle.run_id)

    def logger(self) -> Any:
        """A logger with the step's ids bound."""
        handle = self._handle
        return get_logger("floxide_amqp.node").bind(
            run_id=handle.run_id, item_id=handle.item_id, node=handle.node, attempt=self._admitted.item.attempt + 1
        )

    def _own_mail(self) -> StepMail:
        if self.mail is None:
            self.mail = StepMail(self._services, self._admitted, None)
        return self.mail
