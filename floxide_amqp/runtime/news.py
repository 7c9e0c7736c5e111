"""Telling of runs that began or ended: those that do so together are told of together.

The commits of many runs stand together, and a message for each would cost the worker and its client as much as half a
step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.control import ControlBus
from floxide_amqp.runtime.messages import (
    TOLD_AT_ONCE,
    ControlKind,
    ControlMessage,
    RunNews,
    encode_control,
    encode_event,
)
from floxide_amqp.stores.session import Grouper

_log = get_logger("floxide_amqp.news")

AboutT = TypeVar("AboutT")


class News:
    """Tells clients that their runs have ended, and all workers that runs have begun.

    Args:
        bus: Carries it.
    """

    def __init__(self, bus: ControlBus) -> None:
        self._bus = bus
        self._ended: _Together[tuple[str, RunStatus]] = _Together(self._announce)
        self._started: _Together[tuple[str, str]] = _Together(self._broadcast)

    async def tell(self, key: str, run_id: RunId, status: RunStatus) -> None:
        """Tell those who listen to a routing key that a run has ended; returns when it is on its way."""
        await self._ended.tell((key, status), (run_id,))

    def tell_started(self, workflow: str, version: str, runs: Sequence[RunId]) -> asyncio.Future[None]:
        """Tell every worker that runs of a workflow have begun.

        Returns:
            What is done once that is on its way. Nobody need wait for it: what comes next, their messages, is no hint.
        """
        return self._started.tell((workflow, version), runs)

    async def _announce(self, about: tuple[str, RunStatus], runs: tuple[RunId, ...]) -> None:
        key, status = about
        await self._bus.announce(key, encode_event(RunNews(runs=runs, status=status)))

    async def _broadcast(self, about: tuple[str, str], runs: tuple[RunId, ...]) -> None:
        workflow, version = about
        message = ControlMessage(kind=ControlKind.START, runs=runs, workflow=workflow, version=version)
        try:
            await self._bus.broadcast(encode_control(message))
        except Exception as error:  # noqa: BLE001 - nobody need wait for it, so nobody else would hear of a defect
            _log.warning("control.start_untold", workflow=workflow, version=version, runs=len(runs), error=repr(error))


class _Together(Generic[AboutT]):
    """Sends one message for all that is told about the same while another one is on its way."""

    def __init__(self, send: Callable[[AboutT, tuple[RunId, ...]], Awaitable[None]]) -> None:
        self._send = send
        self._told: Grouper[tuple[AboutT, Sequence[RunId]], None] = Grouper(self._send_group, name="floxide.news")

    def tell(self, about: AboutT, runs: Sequence[RunId]) -> asyncio.Future[None]:
        return self._told.submit((about, runs))

    async def _send_group(self, told: list[tuple[AboutT, Sequence[RunId]]]) -> list[Exception | None]:
        together: dict[AboutT, list[RunId]] = {}
        for about, runs in told:
            together.setdefault(about, []).extend(runs)
        errors: dict[AboutT, Exception] = {}
        for about, runs in together.items():
            try:
                for first in range(0, len(runs), TOLD_AT_ONCE):
                    await self._send(about, tuple(runs[first : first + TOLD_AT_ONCE]))
            except Exception as error:  # noqa: BLE001 - those who told of this get it; the others are told
                errors[about] = error
        return [errors.get(about) for about, _ in told]
