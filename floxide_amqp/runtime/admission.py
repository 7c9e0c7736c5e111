"""From a message to the item to run, or to the reason why there is nothing to do.

The message only says where to look. What is acknowledged without running anything is decided on the fresh read made
here. A completed item is walked, along the successors its worker went on with, to the frontier of its chain.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from floxide_amqp.core import moves, publish_moves
from floxide_amqp.core.changes import Change
from floxide_amqp.core.decisions import Decision, MessageAnchor, Outgoing, message_entry
from floxide_amqp.core.fast_dataclasses import dataclass, maker, replace
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.limit_moves import runs_limited, with_ticket
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.place_changes import EnterMessage, LeaveMessage
from floxide_amqp.core.priorities import TICKET_PRIORITIES, level_of
from floxide_amqp.core.records import RunHeader, RunState, Scope, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import (
    OutcomeUnknownError,
    PoisonError,
)
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Check, Conflict
from floxide_amqp.runtime.admission_reads import AdmissionReads, Found
from floxide_amqp.runtime.cache import CachedRun
from floxide_amqp.runtime.deaths import DeathWatches, Verdict
from floxide_amqp.runtime.frontier import ENDED, find_frontier
from floxide_amqp.runtime.keyless import park_for_key
from floxide_amqp.runtime.other_versions import Meeting, meet
from floxide_amqp.runtime.owners import verdict_on_owner
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.run_keys import RunKeys
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.setting_aside import set_aside
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.mailbox import Unread
from floxide_amqp.stores.sealed import Layer
from floxide_amqp.stores.sealed_records import lacked_for
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.admission")

MAX_TRIES = 20
"""Conflicts in a row before an admission gives the message back: somebody else is at the item all the time."""

LOST_PER_DEATH = 10
"""An item that lost this many times more owners than may die on it is poison, even if it never died alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """An item to run, and what its commit will check.

    Attributes:
        verdict: Set where the item must not run: an error that it fails with for good.
        is_suspect: Whether workers have died on it, so that it is this process's only suspect (`Solitude`).
        anchor: What leads to it from now on, where its claim entered that; None for what led to it before.
        unread: The run's mailbox as it was read with the item; None where it was not, or was used.
    """

    run: CachedRun
    state: RunState
    epoch: int
    item: WorkItem
    turn: int
    scope: Scope | None
    verdict: Exception | None = None
    is_suspect: bool = False
    anchor: MessageAnchor | None = None
    unread: Unread | None = None


make_admitted = maker(Admitted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissed:
    """Nothing to run.

    Attributes:
        reason: Why, for the log.
        forget: Whether the message's entry may go: the item is reachable otherwise, or needs to be reached no more.
    """

    reason: str
    forget: bool = True


Admission: TypeAlias = Admitted | Dismissed


class Admissions:
    """Admits messages.

    Args:
        services: The process's parts.
        deaths: Know who is gone.
        limit_of: Returns the id of the concurrency key that a step needs, if it needs one, or why it cannot be told.
        queues: Task queues this worker serves; empty for whatever comes.
    """

    def __init__(
        self,
        services: Services,
        deaths: DeathWatches,
        limit_of: Callable[[Services, Admitted], Awaitable[str | Exception | None]],
        queues: Sequence[str] = (),
    ) -> None:
        self._services = services
        self._queues = frozenset(queues)
        self._limit_of = limit_of
        self._deaths = deaths
        self._reads = AdmissionReads(services)
        self._run_keys = RunKeys(services)

    async def admit(self, envelope: Envelope, *, redelivered: bool) -> Admission:
        """Return what to do for a message.

        Args:
            envelope: The message.
            redelivered: Whether a consumer may have died holding it.
        """
        for _ in range(MAX_TRIES):
            admission = await self._try(envelope, redelivered=redelivered)
            if admission is not None:
                return admission
        return Dismissed(reason="contended", forget=False)

    async def _try(self, envelope: Envelope, *, redelivered: bool) -> Admission | None:
        """One attempt; None after a conflict."""
        found = await self._reads.read(envelope)
        if found is None:
            return Dismissed(reason="run unknown")
        stored = found.stored
        if stored is None:
            _log.warning("work_item.unknown", run_id=envelope.run_id, item_id=envelope.item_id)
            return Dismissed(reason="item unknown")
        message = MessageAnchor(envelope.queue, envelope.entry)
        if found.state.is_over_for(stored.item):
            return await self._in_vain(found, stored, message)
        walked = stored.item.status in ENDED
        republish = functools.partial(self._republish_successors, found.header, redelivered=redelivered)
        stored = await find_frontier(self._services.items, envelope.run_id, stored, on_ended=republish)
        if stored is None:
            return Dismissed(reason="done")
        if found.state.status is RunStatus.PAUSED and stored.item.status is not WorkItemStatus.IN_PROGRESS:
            return Dismissed(reason="run paused")  # resuming publishes it; what somebody claimed is not left to that
        return await self._frontier(found, stored, envelope, message, redelivered=redelivered or walked)

    async def _in_vain(self, found: Found, stored: StoredItem, message: MessageAnchor) -> Admission | None:
        """Nothing of the item counts any more. What is to be undone waits until its body has ended, or its owner."""
        status = found.state.status
        if not status.is_terminal or status is RunStatus.FAILED:
            frontier = await find_frontier(self._services.items, found.header.run_id, stored)
            if frontier is not None and frontier.item.status is WorkItemStatus.IN_PROGRESS:
                return await self._in_progress(found, frontier, message)
        return Dismissed(reason=f"run {status.value}")

    async def _frontier(
        self, found: Found, stored: StoredItem, envelope: Envelope, message: MessageAnchor, *, redelivered: bool
    ) -> Admission | None:
        item, turn, status = stored.item, stored.turn, stored.item.status
        if status is WorkItemStatus.IN_PROGRESS:
            return await self._in_progress(found, stored, message)
        is_old = item.item_id == envelope.item_id and envelope.turn < turn
        if status is not WorkItemStatus.PENDING or is_old:
            return Dismissed(reason="old turn" if status is WorkItemStatus.PENDING else status.value)
        if item.queue != envelope.queue and self._queues and item.queue not in self._queues:
            return await self._send_home(found, item, turn, message)
        graph = self._services.registry.find(found.header.workflow, found.header.version)
        if graph is None or item.node not in graph.nodes:
            return await self._other_version(found, item, turn, message)
        if self._services.inflight.works_on(found.header.run_id, item):
            return await self._anchor_for(found, item, turn, self._services.name, message)
        lacked = found.lacked or lacked_for(self._services.sealing, item)
        if lacked is not None:
            return await self._park(found, item, turn, message, lacked)
        if found.broken is not None:
            return await self._set_aside(found, item, turn, message, str(found.broken))
        if graph.options.concurrency is not None:
            has_key = await self._run_keys.enter(found.header, found.epoch, item, turn, graph, message)
            if has_key is not True:
                return await self._without_key(found, item, turn, graph, has_key)
        is_first = bool(message.entry) and not (redelivered or envelope.recovered or item.deaths)
        return await self._may_run(found, item, turn, graph, message, is_first=is_first)

    async def _without_key(
        self, found: Found, item: WorkItem, turn: int, graph: Graph, has_key: Exception | bool | None
    ) -> Admission | None:
        """The run of an item has not got its concurrency key: it waits for it, or the key cannot be told."""
        if isinstance(has_key, Exception):
            return await self._admitted(found, item, turn, graph, has_key)
        return None if has_key is None else Dismissed(reason="run waits for its key", forget=False)

    async def _may_run(
        self, found: Found, item: WorkItem, turn: int, graph: Graph, message: MessageAnchor, *, is_first: bool
    ) -> Admission | None:
        options = graph.nodes[item.node].options
        if options.concurrency is not None and runs_limited(item):
            return await self._limited(found, item, turn, graph, message)
        if not is_first or options.at_most_once or options.compensation is not None:
            return await self._claim(found, item, turn, graph, message)
        return await self._admitted(found, item, turn, graph)

    async def _send_home(self, found: Found, item: WorkItem, turn: int, message: MessageAnchor) -> Admission | None:
        """The chain stands at an item of another task queue, whose workers may have what this one lacks."""
        forget = (LeaveMessage(message.queue, message.entry),) if message.entry else ()
        now_ms = self._services.now_ms(found.header.run_id)
        decision = publish_moves.republish(item, turn, now_ms, self._services.name, forget)
        if isinstance(await self._services.commit(_writer(found.header), decision), Conflict):
            return None
        await publish(self._services, found.header, decision.effects.publish)
        return Dismissed(reason="of another task queue", forget=False)

    async def _limited(
        self, found: Found, item: WorkItem, turn: int, graph: Graph, message: MessageAnchor
    ) -> Admission | None:
        """Claim an item whose node needs a concurrency key, with a ticket for it."""
        admitted = await self._admitted(found, item, turn, graph)
        limit = await self._limit_of(self._services, admitted)
        if isinstance(limit, Exception):
            return replace(admitted, verdict=limit)
        return await self._claim(found, item, turn, graph, message, limit)

    async def _anchor_for(
        self, found: Found, item: WorkItem, turn: int, owner: WorkerId, message: MessageAnchor
    ) -> Admission | None:
        """A second copy of a message whose item is at work: an owner entry takes the copy's place."""
        decision = moves.anchor(item, turn, owner, message)
        outcome = await self._services.commit(_writer(found.header), decision)
        if isinstance(outcome, Conflict):
            return None
        deaths = self._deaths.beside(found.header.run_id)
        if owner != self._services.name and await deaths.verdict(owner) is Verdict.GONE:
            return None  # it has said goodbye since it was taken for alive, and nobody looks for what it holds
        return Dismissed(reason="owned", forget=False)

    async def _in_progress(self, found: Found, stored: StoredItem, message: MessageAnchor) -> Admission | None:
        """Somebody has claimed the item: this worker, a dead one, or one that works on it right now."""
        item, turn = stored.item, stored.turn
        verdict = await verdict_on_owner(self._services, self._deaths, found.header.run_id, item)
        if verdict is Verdict.ALIVE:
            if item.anchored:
                return Dismissed(reason="owned")
            return await self._anchor_for(found, item, turn, item.owner, message)
        decision = moves.give_back(
            item, turn, found.state, found.epoch, self._services.now_ms(found.header.run_id), self._services.name,
            died=verdict is Verdict.DEAD, forget=(LeaveMessage(message.queue, message.entry),) if message.entry else (),
        )  # fmt: skip
        if isinstance(await self._services.commit(_writer(found.header), decision), Conflict):
            return None
        await publish(self._services, found.header, decision.effects.publish)
        return Dismissed(reason="given back", forget=False)

    async def _claim(
        self,
        found: Found,
        item: WorkItem,
        turn: int,
        graph: Graph,
        message: MessageAnchor,
        limit_id: str | None = None,
    ) -> Admission | None:
        once, limit = graph.nodes[item.node].options.at_most_once, self._services.limits.deaths
        verdict: Exception | None = None
        if item.deaths and once:
            verdict = OutcomeUnknownError(node=item.node, item_id=item.item_id)
        elif item.deaths >= limit or item.lost >= limit * LOST_PER_DEATH:
            verdict = PoisonError(node=item.node, item_id=item.item_id, deaths=max(item.deaths, item.lost))
        if verdict is None and 0 < item.deaths >= limit - 1:
            return await self._claim_suspect(found, item, turn, graph, message, limit_id)
        anchor, lead = self._led(found.header.run_id, item, turn, message)
        waits = verdict is None and _may_wait(item, graph, limit_id)
        nodes = graph.nodes if verdict is None and item.given is None and not waits else None
        decision = moves.claim(
            item, turn, found.epoch, self._services.name, at_most_once=once and not waits, spared=once and waits,
            lead=lead, nodes=nodes, scopes=item.scope if graph.closes_early else (),
        )  # fmt: skip
        if waits:
            decision = self._with_ticket(decision, found, item, turn, limit_id)
        with self._services.inflight.reserved(found.header.run_id, item.item_id):
            outcome = await self._services.commit(_writer(found.header), decision)
            if isinstance(outcome, Conflict):
                return _closed(outcome)
            admitted = await self._admitted(found, decision.effects.keep or item, turn + 1, graph, verdict)
            return replace(admitted, anchor=anchor)

    def _with_ticket(
        self, decision: Decision, found: Found, item: WorkItem, turn: int, limit_id: str | None
    ) -> Decision:
        if limit_id is None:
            return decision
        run_id = found.header.run_id
        return with_ticket(
            decision, run_id, item, found.epoch, turn, now_ms=self._services.now_ms(run_id), limit_id=limit_id,
            priority=TICKET_PRIORITIES[level_of(item.queue)],
        )  # fmt: skip

    def _led(
        self, run_id: RunId, item: WorkItem, turn: int, message: MessageAnchor
    ) -> tuple[MessageAnchor, tuple[Change, ...]]:
        """The claim enters the message's entry: a copy may have had none, or lost it with the chain of another copy."""
        services = self._services
        entry = message.entry or message_entry(services.now_ms(run_id), item.item_id, turn + 1)
        enter = EnterMessage(message.queue, entry, item.item_id, turn + 1, services.name)
        return MessageAnchor(message.queue, entry), (enter,)

    async def _claim_suspect(
        self,
        found: Found,
        item: WorkItem,
        turn: int,
        graph: Graph,
        message: MessageAnchor,
        limit_id: str | None = None,
    ) -> Admission | None:
        """Workers have died on the item: it runs alone if it can, and else its owner's death is not counted."""
        services, place = self._services, (found.header.run_id, item.item_id)
        if not services.solitude.suspect(*place):
            return await self._put_off(found, item, turn, message)
        admission: Admission | None = None
        try:
            is_alone = await services.solitude.alone(services.timeouts.early_acknowledge)
            anchor, lead = self._led(found.header.run_id, item, turn, message)
            decision = moves.claim(
                item, turn, found.epoch, services.name, spared=not is_alone, lead=lead,
                nodes=None if _may_wait(item, graph, limit_id) else graph.nodes,
                scopes=item.scope if graph.closes_early else (),
            )  # fmt: skip
            decision = self._with_ticket(decision, found, item, turn, limit_id)
            with services.inflight.reserved(*place):
                outcome = await services.commit(_writer(found.header), decision)
                if isinstance(outcome, Conflict):
                    return _closed(outcome)
                owned = decision.effects.keep or item
                admitted = await self._admitted(found, owned, turn + 1, graph)
                admission = replace(admitted, is_suspect=True, anchor=anchor)
        finally:
            if admission is None:
                services.solitude.let_go(*place)
        return admission

    async def _put_off(
        self, found: Found, item: WorkItem, turn: int, message: MessageAnchor, pause_seconds: float = 0.0,
        note: str = "",
    ) -> Admission | None:  # fmt: skip
        """Something at work must end first, another suspect for instance: a timer publishes this one again."""
        services = self._services
        now_ms = services.now_ms(found.header.run_id)
        due_ms = publish_moves.next_try_ms(
            item, now_ms, round(1000 * (pause_seconds or services.timeouts.publish_retry))
        )
        out = Outgoing(item, turn, message.entry)
        if note and note != item.note:
            decision = publish_moves.defer_publish(item, turn, due_ms, found.header, note, out)
        else:
            decision = publish_moves.repeat_publish(out, due_ms, found.header, services.name)
        if isinstance(await services.commit(_writer(found.header), decision), Conflict):
            return None
        if decision.effects.timer is not None:
            services.on_timer(decision.effects.timer)
        return Dismissed(reason="put off", forget=False)

    async def _admitted(
        self, found: Found, item: WorkItem, turn: int, graph: Graph, verdict: Exception | None = None
    ) -> Admitted:
        run = found.run
        if run is None:
            sealing, is_raised = self._services.sealing, bool(found.state.version)
            run = CachedRun(found.header, graph, sealing, is_raised=is_raised)
        return make_admitted(
            run=run, state=found.state, epoch=found.epoch, item=item, turn=turn, verdict=verdict,
            scope=await self.scope_of(run, item), unread=found.unread,
        )  # fmt: skip

    async def scope_of(self, run: CachedRun, item: WorkItem) -> Scope | None:
        """Return the innermost scope around an item."""
        if not item.scope:
            return None
        known = run.scope(item.scope[-1])
        if known is None:
            known = await self._services.items.scope(run.header.run_id, item.scope[-1])
            run.remember_scope(known)
        return known

    async def _other_version(self, found: Found, item: WorkItem, turn: int, message: MessageAnchor) -> Admission | None:
        met = await meet(self._services, found.header, item)
        match met.meeting:
            case Meeting.AGAIN:
                return None
            case Meeting.LATER:
                return await self._put_off(found, item, turn, message, met.pause_seconds, met.reason)
            case Meeting.SET_ASIDE:
                return await self._set_aside(found, item, turn, message, met.reason)
            case Meeting.PARK:
                return await self._park(found, item, turn, message, note=met.reason)

    async def _park(
        self,
        found: Found,
        item: WorkItem,
        turn: int,
        message: MessageAnchor,
        lacked: Layer | None = None,
        *,
        note: str = "",
    ) -> Admission | None:
        header = found.header
        if lacked is not None:
            is_parked = await park_for_key(self._services, header, item, turn, found.epoch, lacked, message)
            return Dismissed(reason="parked", forget=False) if is_parked else None
        kind = (header.workflow, header.version, item.node)
        now_ms = self._services.now_ms(header.run_id)
        decision = moves.park(item, turn, found.epoch, kind, message, note=note, now_ms=now_ms)
        if isinstance(await self._services.commit(_writer(header), decision), Conflict):
            return None
        self._services.figures.parked += 1
        _log.warning(
            "work_item.parked", run_id=header.run_id, item_id=item.item_id, node=item.node, workflow=header.workflow,
            version=header.version,
        )  # fmt: skip
        return Dismissed(reason="parked", forget=False)

    async def _set_aside(
        self, found: Found, item: WorkItem, turn: int, message: MessageAnchor, reason: str
    ) -> Admission | None:
        is_done = await set_aside(self._services, found.header, item, turn, found.epoch, message, reason)
        return Dismissed(reason="set aside", forget=False) if is_done else None

    async def _republish_successors(self, header: RunHeader, item: WorkItem, *, redelivered: bool) -> None:
        """After a crash between commit and publish: publish what is pending and unowned."""
        if not (redelivered and item.successors):
            return
        outgoing = [
            Outgoing(found.item, found.turn, "")  # the entry of its first message may stand
            for found in await self._services.items.find(header.run_id, item.successors)
            if found is not None and found.item.status is WorkItemStatus.PENDING and found.item.item_id != item.kept
        ]
        await publish(self._services, header, outgoing)


def _may_wait(item: WorkItem, graph: Graph, limit_id: str | None) -> bool:
    """Whether a claimed item may yet wait: its body does not run before it has its key, and its instant."""
    return limit_id is not None or (graph.nodes[item.node].options.rate is not None and runs_limited(item))


def _closed(conflict: Conflict) -> Dismissed | None:
    """Of a claim that was refused: whether a fan-out around the item was closed; then it is about to be cancelled."""
    check = conflict.check
    is_closed = isinstance(check, Check) and check.key.name.startswith(keys.SCOPE_PREFIX)
    return Dismissed(reason="fan-out closed") if is_closed else None


def _writer(header: RunHeader) -> BatchWriter:
    return BatchWriter(header.run_id, header.created_at_ms, header.workflow, version=header.version)
