"""Dead letters: what the broker gave up on is reconciled with the store, which knows whether it was still needed.

The maintenance leader reads them, on a connection of its own, and acknowledges a letter once the store knows. A
message of an item that still waits for it is published again: at once the first time, then ever later, so that a
broker that drops it again and again is not answered in a loop. After `Limits.dead_letters` times in a row the item is
parked and its letter kept, for somebody to requeue or to drop. Nothing here is needed for correctness: a letter that
gets lost is a lost message, which the probes find.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from floxide_amqp.core import dead_letter_moves
from floxide_amqp.core.decisions import Decision, MessageAnchor
from floxide_amqp.core.message_records import DeadLetter, Envelope, Probe
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import CodecError, FloxideError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.dead_letters import DeadDelivery, DeadLetterQueue, DeadLetterReader
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.foreign_letters import ForeignLetters
from floxide_amqp.runtime.frontier import find_frontier
from floxide_amqp.runtime.kept_letters import is_open, new_letter_id
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side, work_off
from floxide_amqp.runtime.unreadable import quarantine
from floxide_amqp.runtime.waits import kept_letter
from floxide_amqp.stores.dead_letters import LetterPlace
from floxide_amqp.stores.indexes import MessageNote
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.record_codec import decode_message
from floxide_amqp.stores.runs import StoredRun

_log = get_logger("floxide_amqp.dead_letters")

PREFETCH = 32
"""Letters in hand at a time; what has arrived is reconciled together."""

GATHER_SECONDS = 0.01
"""How long more letters are waited for once there is one: they share their round trips to the store."""

PAGE = 200
"""Stored letters looked at in one round of tidying; the next one goes on behind them."""

LOOK_SECONDS = 0.5
"""Between two looks at who leads maintenance; nothing is asked for it."""

PAUSE_SECONDS = 1.0
"""Pause after an error of the store or the broker; doubles with each one after it."""

LONGEST_PAUSE_SECONDS = 60.0
"""Longest such pause: a missing permission is not there a second later."""

WORDS = {
    "delivery_limit": "it came back too often (delivery limit)",
    "expired": "it waited too long (message TTL)",
    "maxlen": "its queue was full (max length)",
    "rejected": "it was rejected",
}
"""The broker's reasons, for people."""


def explain(reason: str) -> str:
    """Return why the broker gave a message up, as a person reads it."""
    return WORDS.get(reason, reason or "the broker does not say why")


class DeadLetterDesk:
    """Reconciles dead letters with the store while this process leads maintenance.

    Args:
        services: The process's parts.
        queue: Where letters arrive; None where no broker gives messages up.
        recover: What the leader does about a message that is known to be lost.
        is_leader: Whether this process leads maintenance now.
    """

    def __init__(
        self,
        services: Services,
        queue: DeadLetterQueue | None,
        recover: Callable[[MessageNote], Awaitable[None]],
        is_leader: Callable[[], bool],
    ) -> None:
        self._services = services
        self._queue = queue
        self._recover = recover
        self._is_leader = is_leader
        self._foreign = ForeignLetters(services)
        self._next_tidying = 0.0
        self._tidied = ""

    async def run(self) -> None:
        """Read letters while this process leads; until cancelled."""
        pause = PAUSE_SECONDS
        while self._queue is not None:
            try:
                if self._is_leader():
                    await self._read(self._queue)
                pause = PAUSE_SECONDS
            except Exception as error:  # noqa: BLE001 - a supervisor: letters stay in their queue meanwhile
                _log.warning(
                    "dead_letters.failed", error=str(error), retry_in_seconds=pause,
                    exc_info=not isinstance(error, FloxideError),
                )  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def _read(self, queue: DeadLetterQueue) -> None:
        async with queue.read(prefetch=PREFETCH) as reader:
            try:
                while self._is_leader():
                    await self._tidy_now_and_then()
                    await side_by_side(self._handle, await _some(reader))
            finally:
                self._foreign.let_go()

    async def _handle(self, delivery: DeadDelivery) -> None:
        """Reconcile a letter; on any error it goes back to its queue."""
        try:
            is_done = await self.reconcile(delivery)
        except BaseException:
            await delivery.release()
            raise
        if is_done:
            await delivery.acknowledge()
        else:
            self._foreign.hold(delivery)

    # --- one letter

    async def reconcile(self, delivery: DeadDelivery) -> bool:
        """Let the store know of a letter; return whether it is done with, or must go back to its queue."""
        figures = self._services.figures
        try:
            message = decode_message(delivery.body)
        except CodecError as error:
            await self._quarantine(delivery, str(error))
            return True
        if isinstance(message, Probe):
            _log.debug("dead_letter.settled", queue=delivery.queue, outcome="a probe", reason=delivery.reason)
            figures.dead_letters["settled"] += 1
            return True
        if message.store and self._services.store_id and message.store != self._services.store_id:
            if self._foreign.leaves(delivery, message):
                return False
            await self._quarantine(delivery, f"It is about store {message.store!r}, and nobody reads it for that one.")
            return True
        became = None
        while became is None:  # after a conflict somebody has changed the item meanwhile: look again
            try:
                became = await self._settle(delivery, message)
            except UnreadableRecordError as error:
                about = f"It is about item {message.item_id} of run {message.run_id!r}. {error}"
                await self._quarantine(delivery, about)
                return True
        figures.dead_letters[became] += 1
        return True

    async def _settle(self, delivery: DeadDelivery, message: Envelope) -> str | None:
        """Do what a letter asks for; return what became of it, or None after a conflict."""
        services = self._services
        run, stored = await services.runs.find_with_item(message.run_id, message.item_id)
        frontier = await find_frontier(services.items, message.run_id, stored)
        if run is not None and frontier is not None and _is_missed(run, frontier, message):
            return await self._bring_back(delivery, message, run, frontier)
        if not _waits(run, frontier):
            note = MessageNote(
                queue=message.queue, entry=message.entry, run_id=message.run_id, item_id=message.item_id,
                turn=message.turn, publisher=services.name,
            )  # fmt: skip
            await self._recover(note)
        _log.info(
            "dead_letter.settled", run_id=message.run_id, item_id=message.item_id, queue=message.queue,
            reason=delivery.reason, outcome=_outcome(run, frontier),
        )  # fmt: skip
        return "settled"

    async def _bring_back(
        self, delivery: DeadDelivery, message: Envelope, run: StoredRun, found: StoredItem
    ) -> str | None:
        """The item waits for this very message: publish it again, later, or keep the letter."""
        services = self._services
        letter = await self._letter(delivery, message, found)
        decision, became = self._decide(letter, message, run, found)
        if isinstance(await services.commit(run.writer, decision), Conflict):
            return None
        facts: dict[str, object] = {
            "letter_id": letter.letter_id, "run_id": letter.run_id, "item_id": letter.item_id, "node": letter.node,
            "queue": letter.queue, "reason": letter.reason, "count": letter.count,
        }  # fmt: skip
        if became == "kept":
            _log.error("dead_letter.kept", **facts)
        else:
            _log.warning("dead_letter.published_again", **facts)
        if decision.effects.timer is not None:
            services.on_timer(decision.effects.timer)
        await publish(services, run.header, decision.effects.publish)
        return became

    async def _letter(self, delivery: DeadDelivery, message: Envelope, found: StoredItem) -> DeadLetter:
        """Return the letter to store: the item's own with one more count, or a new one."""
        item, now = found.item, self._services.now_ms(message.run_id)
        known = await self._services.dead_letter_store.find(message.run_id, item.item_id)
        if known is not None and known.turn == found.turn:
            return replace(
                known, count=known.count + 1, reason=delivery.reason, last_at_ms=now, due_ms=0, body=delivery.body
            )
        letter_id = known.letter_id if known is not None else new_letter_id(now, message.run_id, item.item_id)
        return DeadLetter(
            letter_id=letter_id, run_id=message.run_id, item_id=item.item_id, node=item.node, queue=item.queue,
            reason=delivery.reason, count=1, turn=found.turn, first_at_ms=now, last_at_ms=now, body=delivery.body,
        )  # fmt: skip

    def _decide(self, letter: DeadLetter, message: Envelope, run: StoredRun, found: StoredItem) -> tuple[Decision, str]:
        services, anchor = self._services, MessageAnchor(message.queue, message.entry)
        times = "once" if letter.count == 1 else f"{letter.count} times in a row"
        note = f"the broker gave up on its message {times}: {explain(letter.reason)}"
        if letter.count > services.limits.dead_letters:
            kept = kept_letter(found.item, note)
            return dead_letter_moves.keep(found.item, found.turn, run.epoch, letter, anchor, kept), "kept"
        if letter.count == 1:
            now_ms = services.now_ms(letter.run_id)
            decision = dead_letter_moves.publish_at_once(found.item, letter, now_ms, services.name, anchor)
            return decision, "published again"
        pause = services.timeouts.publish_retry * 2 ** (letter.count - 2) * services.random.uniform(0.75, 1.25)
        later = replace(letter, due_ms=services.now_ms(letter.run_id) + round(1000 * pause))
        decision = dead_letter_moves.publish_later(found.item, found.turn, later, run.header, anchor, note)
        return decision, "published again"

    async def _quarantine(self, delivery: DeadDelivery, problem: str) -> None:
        reason = f"{problem} The broker had given it up: {explain(delivery.reason)}."
        await quarantine(self._services, delivery.queue, delivery.body, reason)
        self._services.figures.dead_letters["quarantined"] += 1

    # --- letters whose item has gone on

    async def _tidy_now_and_then(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next_tidying:
            self._next_tidying = now + self._services.timeouts.probe
            await self.tidy()

    async def tidy(self) -> None:
        """Forget letters whose item has gone on without them: those of one page, and the next time of the next one."""
        places = await self._services.dead_letter_store.places(after=self._tidied, limit=PAGE)
        await work_off(self._tidy_one, places)
        self._tidied = places[-1].letter_id if len(places) == PAGE else ""

    async def _tidy_one(self, place: LetterPlace) -> None:
        letter = await self._services.dead_letter_store.find(place.run_id, place.item_id)
        run, stored = await self._services.runs.find_with_item(place.run_id, place.item_id)
        if letter is None or letter.letter_id != place.letter_id or not is_open(letter, run, stored):
            await self._services.dead_letter_store.remove(place, letter)


def _is_missed(run: StoredRun, found: StoredItem, message: Envelope) -> bool:
    """Whether an item waits for nothing but this message."""
    is_this = found.item.item_id == message.item_id and message.turn >= found.turn
    return is_this and _waits(run, found)


def _waits(run: StoredRun | None, found: StoredItem | None) -> bool:
    """Whether an item waits for a message; if it has gone on since this one was sent, for another one."""
    if run is None or found is None or not run.state.is_at_work_on(found.item):
        return False
    return found.item.status is WorkItemStatus.PENDING


async def _some(reader: DeadLetterReader) -> list[DeadDelivery]:
    """Return letters that have arrived, some time after the first of them or after there was none."""
    found: list[DeadDelivery] = []
    while len(found) < PREFETCH:
        try:
            async with asyncio.timeout(GATHER_SECONDS if found else LOOK_SECONDS):
                found.append(await reader.receive())
        except TimeoutError:
            break
    return found


def _outcome(run: StoredRun | None, found: StoredItem | None) -> str:
    """Why a letter needs no new message, for the log."""
    if run is None:
        return "run unknown"
    if found is not None and not run.state.is_at_work_on(found.item):
        return f"run {run.state.status.value}"
    return "done" if found is None else found.item.status.value
