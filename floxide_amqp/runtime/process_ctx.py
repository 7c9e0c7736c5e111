"""What a node's body has in a process of its own: the facts of its step, the log, and sentences about the rest."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NoReturn, TypeVar

from floxide_amqp.core.context import NoContext
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.step_powers import StepFacts, StepLogger
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import NodeProcessError
from floxide_amqp.logs import get_logger

T = TypeVar("T")


class ProcessCtx(WorkflowCtx[NoContext]):
    """A `WorkflowCtx` without a state."""

    __slots__ = ()

    @property
    def state(self) -> NoContext:
        """Not here.

        Raises:
            NodeProcessError: Always.
        """
        refuse(self.node, "ctx.state", "Pass what it needs as its input, and change the context in a node behind it.")


class ProcessPowers:
    """What a step can do in a process of its own.

    Args:
        facts: The step.
        now_ms: Store time when it was sent.
    """

    def __init__(self, facts: StepFacts, now_ms: int) -> None:
        self._facts = facts
        self._ahead_ms = now_ms - time.monotonic() * 1000

    def now_ms(self) -> int:
        """The store's time, going on from when the step was sent."""
        return round(self._ahead_ms + time.monotonic() * 1000)

    def is_cancelled(self) -> bool:
        """Never: a step that is to stop is killed."""
        return False

    def logger(self) -> StepLogger:
        """A logger with the step's ids bound; what it is told appears in the worker's log."""
        facts = self._facts
        return get_logger("floxide_amqp.node").bind(
            run_id=facts.run_id, item_id=facts.item_id, node=facts.node, attempt=facts.attempt
        )

    def resource(self, kind: type[T]) -> T:
        """Not here."""
        refuse(self._facts.node, f"ctx.resource({kind.__name__})", "Open what it needs in the process itself.")

    def received(self, signal: Signal[T]) -> T | None:
        """Not here."""
        refuse(self._facts.node, f"ctx.received({signal.name})", "Receive it in a node before, and pass it on.")

    def send(self, run_id: str, signal: Signal[T], value: T, signal_id: str) -> None:
        """Not here."""
        del run_id, value, signal_id
        refuse(self._facts.node, f"ctx.signal({signal.name})", "Send it in a node behind.")

    async def cancel_run(self) -> None:
        """Not here."""
        refuse(self._facts.node, "ctx.cancel()", "Return what a node behind it decides on.")

    async def wait_cancelled(self) -> None:
        """Wait for ever: a step that is to stop is killed."""
        await asyncio.Event().wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep, for a body that runs an event loop of its own."""
        await asyncio.sleep(seconds)


def refuse(node: str, what: str, cure: str) -> NoReturn:
    """Say that something is not to be had in a process, and what to do instead.

    Raises:
        NodeProcessError: Always.
    """
    raise NodeProcessError(node=node, problem=f"{what} is not to be had in a process of its own", cure=cure)


def ctx_in_process(facts: StepFacts, now_ms: int) -> WorkflowCtx[Any]:
    """Return what a body receives in a process."""
    return ProcessCtx(facts, ProcessPowers(facts, now_ms), NoContext())
