"""Rate limits in a chain: a step that may start soon goes on with its instant, any other waits in the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.rate_lines import Instant, Wish
from floxide_amqp.core.rate_moves import as_before_begin, wait_for_instant
from floxide_amqp.core.rates import AHEAD_US, SOON_US, RateLimit
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Check, Conflict
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.anchorage import Anchorage
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.letters import PATIENCE_SECONDS
from floxide_amqp.runtime.limits import begin_body, key_of
from floxide_amqp.runtime.pace import NotYet, Start
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.rate_keys import rate_place
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.limits")

TURN_WHEN_NEW: Final = 2
"""An item of a higher turn has been in the store's care before: it has waited, perhaps for just this."""

OUT_OF_REACH_MS: Final = 5_000
"""Time after which a step asks again whose key lies on a server that does not answer."""


class Pacing:
    """Has bodies start at the instants of their rate limits.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def enter(self, admitted: Admitted, anchorage: Anchorage, handle: StepHandle) -> Admitted | None:
        """Get an instant for a step's body; None where the step waits in the store now, or was moved on."""
        services, item = self._services, admitted.item
        options = admitted.run.graph.nodes[item.node].options
        rate = options.rate
        if rate is None:
            return admitted
        rate_id = await key_of(services, admitted, rate)
        if isinstance(rate_id, Exception):
            return replace(admitted, verdict=rate_id)
        if rate_id is not None:
            shown = services.key_names.shown(services.sealing, rate_id)
            instant = await self._ask(admitted, rate, rate_id, shown)
            if not instant.is_start:
                await self._wait(admitted, anchorage, rate_id, instant.at_us)
                return None
            handle.start = Start(services.pace, rate_id, rate.rate, instant, shown)
            handle.start.notes_begin = options.notes_begin and not item.begun
        return await begin_body(services, admitted, anchorage) if options.notes_begin else admitted

    async def put_off(self, admitted: Admitted, anchorage: Anchorage, not_yet: NotYet) -> bool:
        """Let a step wait in the store that was late for its instant, and whose next one is too far off.

        Returns:
            Whether it does; if not, nobody has a use for it any more.
        """
        current: Admitted | None = admitted
        while current is not None:
            decision = self._waiting(current, anchorage, not_yet.rate_id, not_yet.ask_at_us)
            if not_yet.takes_back:
                decision = as_before_begin(decision, current.run.graph.nodes)
            outcome = await self._services.commit(current.run.writer, decision)
            if not isinstance(outcome, Conflict):
                self._note_timer(decision)
                return True
            check = outcome.check
            current = await anchorage.look_again(current, check) if isinstance(check, Check) else None
        return False

    async def _ask(self, admitted: Admitted, rate: RateLimit, rate_id: str, shown: bytes) -> Instant:
        """Ask for an instant; where the key's server is down, not for long: no worker's slot waits for that."""
        services, run_id, place = self._services, admitted.run.header.run_id, rate_place(rate_id)
        has_waited = admitted.turn > TURN_WHEN_NEW or bool(admitted.item.ticket)
        is_far = services.session.beside(place) is not services.session.beside(run_id)
        if not services.is_out_of_reach(place):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS if is_far else None):
                    wish = Wish(AHEAD_US if has_waited else SOON_US)
                    return await services.pace.ask(rate_id, rate.rate, wish, shown)
            except (TimeoutError, UnreadableRecordError, *WAITED_FOR) as error:  # unreadable: of a newer release
                _log.info("limit.out_of_reach", run_id=run_id, limit=rate_id, error=str(error))
        return Instant(1000 * (services.now_ms(place) + OUT_OF_REACH_MS), is_start=False)

    async def _wait(self, admitted: Admitted, anchorage: Anchorage, rate_id: str, ask_at_us: int) -> None:
        decision = self._waiting(admitted, anchorage, rate_id, ask_at_us)
        if isinstance(await self._services.commit(admitted.run.writer, decision), Conflict):
            anchorage.must_release = True
        else:
            self._note_timer(decision)

    def _waiting(self, admitted: Admitted, anchorage: Anchorage, rate_id: str, ask_at_us: int) -> Decision:
        services, run_id = self._services, admitted.run.header.run_id
        now_ms = services.now_ms(run_id)
        off_ms = now_ms - services.now_ms(rate_place(rate_id))  # the timer goes by the clock of the run's server
        return wait_for_instant(
            admitted.item, admitted.turn, admitted.epoch, run_id, anchor=anchorage.anchor, worker=services.name,
            now_ms=now_ms, due_ms=-(-ask_at_us // 1000) + off_ms, rate_id=rate_id,
            at_most_once=admitted.run.graph.nodes[admitted.item.node].options.at_most_once,
        )  # fmt: skip

    def _note_timer(self, decision: Decision) -> None:
        if decision.effects.timer is not None:
            self._services.on_timer(decision.effects.timer)
