"""Running a body that may take long: its chain moves into the store, and a suspected item gets company in the end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from floxide_amqp.core import moves
from floxide_amqp.core.decisions import OwnerAnchor
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Check, Committed
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.anchorage import Anchorage
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.steps import Performance, perform
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.chain")

MOVE_AGAIN_SECONDS = 5.0
"""Pause before the store is asked again to hold a chain that it did not take for as long as it was waited for."""


class LongSteps:
    """Runs the bodies of one chain.

    One timer does for all of them: rung, it looks how long the body of now has been running.

    Args:
        services: The process's parts.
        anchorage: What holds the chain.
    """

    def __init__(self, services: Services, anchorage: Anchorage) -> None:
        self._services = services
        self._anchorage = anchorage
        self._timer: asyncio.TimerHandle | None = None
        self._at_work: tuple[Admitted, StepHandle] | None = None
        self._began = 0.0
        self._moving: asyncio.Task[Admitted] | None = None
        self._ended = asyncio.Event()

    async def perform(self, admitted: Admitted, handle: StepHandle) -> tuple[Admitted, Performance]:
        """Run the body; if it takes long, anchor the chain in the store meanwhile and acknowledge early.

        Returns:
            The item as it is now, and what the body came to.
        """
        keeps_others_waiting = admitted.is_suspect and not admitted.item.spared
        if isinstance(self._anchorage.anchor, OwnerAnchor) and not keeps_others_waiting:
            return admitted, await perform(self._services, admitted, handle)
        loop = asyncio.get_running_loop()
        self._at_work, self._began = (admitted, handle), loop.time()
        if self._timer is None:
            self._timer = loop.call_at(self._began + self._services.timeouts.early_acknowledge, self._look)
        try:
            performed = await perform(self._services, admitted, handle)
        except BaseException:
            await self._stop_moving()
            raise
        finally:
            self._at_work = None
        if self._moving is None:
            return admitted, performed
        self._ended.set()
        try:
            return await self._moving, performed
        finally:
            self._moving = None
            self._ended.clear()

    def end(self) -> None:
        """The chain has ended: nothing rings any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The timer has rung: for the body at work, or for one before it; then it is set again."""
        self._timer = None
        if self._at_work is None:
            return
        loop, due = asyncio.get_running_loop(), self._began + self._services.timeouts.early_acknowledge
        if loop.time() < due:
            self._timer = loop.call_at(due, self._look)
        else:
            self._moving = asyncio.create_task(self._move(*self._at_work), name="floxide.long_step")

    async def _stop_moving(self) -> None:
        moving, self._moving = self._moving, None
        if moving is None:
            return
        moving.cancel()
        await asyncio.wait({moving})
        if not moving.cancelled():
            moving.exception()

    async def _move(self, admitted: Admitted, handle: StepHandle) -> Admitted:
        """Move the chain into the store; what goes wrong there ends the body too."""
        if self._ended.is_set():
            return admitted
        try:
            admitted = await self._anchor(admitted)
            return await self._have_company(admitted) if admitted.is_suspect else admitted
        except BaseException:
            handle.interrupt()
            raise

    async def _anchor(self, admitted: Admitted) -> Admitted:
        """Have the store hold the chain, or ask it again until the body has ended.

        The message holds it meanwhile, and that only as long as the broker lets it: then another worker gets it, though
        the body is at work.
        """
        while True:
            try:
                return await self._anchorage.move_to_store(admitted)
            except WAITED_FOR as error:
                _log.warning("step.not_anchored", run_id=admitted.run.header.run_id, error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(MOVE_AGAIN_SECONDS):
                    await self._ended.wait()
                    return admitted

    async def _have_company(self, admitted: Admitted) -> Admitted:
        """A suspected item has run alone for long: let others begin, once its owner's death is not counted any more."""
        while not admitted.item.spared:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._services.timeouts.company):
                    await self._ended.wait()
                    return admitted
            try:
                admitted = await self._ask_for_company(admitted)
            except WAITED_FOR as error:  # it stays alone for now
                _log.warning("step.stays_alone", run_id=admitted.run.header.run_id, error=str(error))
        return admitted

    async def _ask_for_company(self, admitted: Admitted) -> Admitted:
        decision = moves.have_company(admitted.item, admitted.turn)
        outcome = await self._services.commit(admitted.run.writer, decision)
        if isinstance(outcome, Committed):
            self._services.solitude.have_company()
            return replace(admitted, item=decision.effects.keep or admitted.item, turn=admitted.turn + 1)
        check = outcome.check
        again = await self._anchorage.look_again(admitted, check) if isinstance(check, Check) else None
        if again is not None:
            return again
        self._services.solitude.have_company()  # others have the item by now: what becomes of this body is void
        return replace(admitted, item=replace(admitted.item, spared=True))
