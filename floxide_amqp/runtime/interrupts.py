"""How a worker learns that a run is over whose steps it has in hand: told by a hint, or by asking the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import CodecError, FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.messages import ControlKind, decode_control
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.runs import StoredRun

_log = get_logger("floxide_amqp.worker")

INTERRUPTING = (ControlKind.CANCEL, ControlKind.STOP)


class Interrupts:
    """Interrupts steps in vain.

    Args:
        services: The process's parts.
        on_drain: Called when somebody asks the workers to drain.
    """

    def __init__(self, services: Services, on_drain: Callable[[], object]) -> None:
        self._services = services
        self._on_drain = on_drain

    async def listen(self, messages: AsyncIterator[bytes]) -> None:
        """Act on control messages until they end; an empty one says that some may have been missed."""
        async for body in messages:
            if body == b"":
                await self._check_runs_in_flight()
                continue
            try:
                message = decode_control(body)
            except CodecError as error:
                _log.warning("control.unreadable", error=str(error))
                continue
            if message.kind is ControlKind.FOLLOW:
                self._services.followers.follow(message.runs, message.key)
                continue
            for run_id in message.runs:  # what a client did to it; what workers commit they tell of themselves
                self._services.followers.note(run_id)
            if message.kind in INTERRUPTING:
                await self._check_runs_in_flight(message.runs, is_told=True)
            elif message.kind is ControlKind.DRAIN:
                self._on_drain()

    async def ask(self) -> None:
        """Ask the store about runs whose steps take long, again and again: the latest that a lost cancel is learnt."""
        interval = self._services.timeouts.heartbeat
        while True:
            await asyncio.sleep(interval / 2)
            before = asyncio.get_running_loop().time() - interval
            await self._check({step.run_id for step in self._services.inflight if step.since < before})

    async def _check_runs_in_flight(self, run_ids: Sequence[RunId] | None = None, *, is_told: bool = False) -> None:
        """Interrupt the steps of those runs (by default all at work here) that are over: the store is asked.

        A control message is a hint that may come late, when its run was resumed long since.
        """
        at_work = self._services.inflight.runs()
        await self._check(at_work if run_ids is None else set(at_work).intersection(run_ids), is_told=is_told)

    async def _check(self, run_ids: Iterable[RunId], *, is_told: bool = False) -> None:
        await asyncio.gather(*(self._check_one(run_id, is_told=is_told) for run_id in sorted(run_ids)))

    async def _check_one(self, run_id: RunId, *, is_told: bool) -> None:
        try:
            run = await self._services.runs.find(run_id)
        except FloxideError as error:  # the store is out of reach: long steps are asked about again and again
            _log.warning("worker.check_failed", run_id=run_id, error=str(error))
            return
        if run is not None and (run.state.status.is_terminal or run.state.status is RunStatus.COMPENSATING):
            self._services.inflight.interrupt(run_id, but_undoing=not run.state.status.is_terminal)
        elif run is not None:
            await self._check_items(run, is_told=is_told)

    async def _check_items(self, run: StoredRun, *, is_told: bool) -> None:
        """Interrupt the steps of items that were cancelled since, or are to be, because their fan-out was closed.

        Where somebody said that there is something to interrupt, also of those that were given their output by hand.
        """
        services, run_id = self._services, run.header.run_id
        graph = services.registry.find(run.header.workflow, run.header.version)
        if graph is None or not (graph.closes_early or is_told):
            return
        ids = services.inflight.items(run_id)
        try:
            found = [one.item for one in await services.items.find(run_id, ids) if one is not None]
            at_work = [item for item in found if is_at_work(item)]
            closed = await services.items.closed(run_id, sorted({scope for item in at_work for scope in item.scope}))
        except FloxideError as error:
            _log.warning("worker.check_failed", run_id=run_id, error=str(error))
            return
        given = [item.item_id for item in found if item.given is not None]
        cancelled = [item.item_id for item in found if item.status is WorkItemStatus.CANCELLED]
        cancelled += [item.item_id for item in at_work if not closed.isdisjoint(item.scope)]
        services.inflight.interrupt_items(run_id, [*given, *cancelled])
