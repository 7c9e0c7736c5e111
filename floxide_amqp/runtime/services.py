"""What the parts of one process share: the store's session, the queue, the bus, the workflows, the resources."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from floxide_amqp.core.commit_conditions import TurnIs
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.kin import ALONE
from floxide_amqp.core.kin_letters import COUNTED, with_kin
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.limit_moves import with_releases
from floxide_amqp.core.place_changes import SetTimer
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.ports.control import ControlBus
from floxide_amqp.ports.dead_letters import DeadLetterQueue
from floxide_amqp.ports.health import ConnectionsHealth
from floxide_amqp.ports.key_value import Committed, Conflict, Key, Outcome
from floxide_amqp.ports.message_source import MessageSource
from floxide_amqp.ports.work_queue import WorkQueue
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.cache import RunCache
from floxide_amqp.runtime.effects import effects_of
from floxide_amqp.runtime.figures import Figures
from floxide_amqp.runtime.followers import Followers
from floxide_amqp.runtime.inflight import InFlight
from floxide_amqp.runtime.interceptors import Interceptor
from floxide_amqp.runtime.iterator_source import IteratorSource
from floxide_amqp.runtime.key_names import KeyNames
from floxide_amqp.runtime.messages import (
    ControlKind,
    ControlMessage,
    encode_control,
)
from floxide_amqp.runtime.news import News
from floxide_amqp.runtime.own_timers import OwnTimers
from floxide_amqp.runtime.pace import Pace
from floxide_amqp.runtime.processes import NodeProcesses
from floxide_amqp.runtime.put_off_upgrades import PutOffUpgrades
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.resources import Resources
from floxide_amqp.runtime.schedule import Schedule
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.solitude import Solitude
from floxide_amqp.runtime.stamps import Stamps
from floxide_amqp.runtime.threads import NodeThreads
from floxide_amqp.runtime.told_versions import ToldVersions
from floxide_amqp.stores import keys
from floxide_amqp.stores.children import ChildStore
from floxide_amqp.stores.claims import ClaimStore
from floxide_amqp.stores.contexts import ContextStore
from floxide_amqp.stores.dead_letters import DeadLetterStore
from floxide_amqp.stores.indexes import IndexStore
from floxide_amqp.stores.items import ItemStore
from floxide_amqp.stores.joins import JoinStore
from floxide_amqp.stores.letters import LetterStore
from floxide_amqp.stores.limit_keys import LimitStore
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.mailbox import MailboxStore
from floxide_amqp.stores.probes import ProbeStore
from floxide_amqp.stores.quarantine import QuarantineStore
from floxide_amqp.stores.rate_keys import RateStore
from floxide_amqp.stores.removal import RunRemoval
from floxide_amqp.stores.runs import RunStore
from floxide_amqp.stores.schedules import ScheduleStore
from floxide_amqp.stores.sealed import Unsealed
from floxide_amqp.stores.sealed_changes import bytes_carried, sealed_changes
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sources import SourceStore
from floxide_amqp.stores.task_queues import TaskQueueStore
from floxide_amqp.stores.versions import VersionStore
from floxide_amqp.stores.writes import BatchWriter


def _ignore(timer: Timer) -> None:
    """For processes without a timer heap: maintenance fires what they set."""
    del timer


def leave_letters(letters: Sequence[Letter]) -> None:
    """For processes that deliver no letters: maintenance delivers what they wrote."""
    del letters


def _as_written(letter: Letter) -> Letter:
    """Return a letter that this process has written, which it delivers without opening what the store has of it."""
    return replace(letter, payload=Unsealed(letter.payload)) if letter.payload else letter


SEALED_IN_THREAD_BYTES = 256 * 1024
"""Bytes from which on a commit is compressed and encrypted in a thread: 2 ms at 9 ms a megabyte, against 0.2 ms that a
thread costs. A value may have sixteen megabytes."""

ALL_RUNS = "runs"
"""Routing key of events of runs whose starter asked for none."""


DeclaredSource: TypeAlias = AmqpSource[Any] | IteratorSource[Any, Any]
"""A source, as an application declares it."""


@dataclass(kw_only=True)
class Services:
    """Everything a worker, the maintenance and an orchestrator of one process share.

    Attributes:
        name: This process towards the others: publisher of its messages, owner of its items.
        store_id: Tells this process's store from others on the same broker; empty not to ask.
        owns_process: Whether the process is the worker's own, so that it may be ended when nodes block it for good.
        on_timer: Told of every timer this process sets, so that it fires to the millisecond.
        on_letters: Told of letters this process has written, once they stand, so that they are delivered at once.
        dead_letters: Where messages arrive that the broker gave up on; None where no queue gives any up.
        connections: Tells how this process's connections to the broker are.
        figures: What this process counts of its work.
        sealing: Seals what users carry on its way to the store, and opens it.
        declared: The schedules that the application declares.
        sources: The sources that the application declares.
        message_sources: Where the messages of those come from that have a queue, by the source's name.
        whole: The same with the whole store: itself, unless it is of one server of several.
    """

    name: WorkerId
    session: Session
    queue: WorkQueue
    bus: ControlBus
    registry: Registry
    store_id: str = ""
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retention: Retention = field(default_factory=Retention)
    retry: RetryPolicy = NO_RETRY
    interceptors: Sequence[Interceptor] = ()
    executor: Executor | None = None
    owns_process: bool = False
    random: random.Random = field(default_factory=random.Random)
    on_timer: Callable[[Timer], None] = _ignore
    on_letters: Callable[[Sequence[Letter]], None] = leave_letters
    dead_letters: DeadLetterQueue | None = None
    connections: ConnectionsHealth = tuple
    figures: Figures = field(default_factory=Figures)
    sealing: Sealing = PLAIN
    declared: Sequence[Schedule[Any]] = ()
    sources: Sequence[DeclaredSource] = ()
    message_sources: Mapping[str, MessageSource] = field(default_factory=dict[str, MessageSource])

    def __post_init__(self) -> None:
        self.whole: Services = self
        self._open_stores()
        self.cache = RunCache(self.limits.cached_runs)
        self.inflight = InFlight()
        self.solitude = Solitude()
        self.stamps = Stamps()
        self.followers = Followers()
        self.news = News(self.bus)
        self.put_off_upgrades = PutOffUpgrades()
        self.own_timers = OwnTimers()
        self.key_names = KeyNames()
        self.told_versions = ToldVersions(self.session)
        self.pace = Pace(self.rate_keys, self.session)
        self.threads = NodeThreads(  # a body's time begins when there is a thread for it
            self.limits.threads, self.executor, grace_seconds=self.timeouts.cancel_grace,
            most_lost=self.limits.lost_threads,
        )  # fmt: skip
        self.processes = NodeProcesses(
            self.registry, size=self.limits.processes, bodies=self.limits.process_bodies
        )  # fmt: skip

    def _open_stores(self) -> None:
        self.runs = RunStore(self.session, self.sealing)
        self.items = ItemStore(self.session, self.sealing)
        self.joins = JoinStore(self.session, self.sealing)
        self.contexts = ContextStore(self.session, snapshot_after=self.limits.context_snapshot, sealing=self.sealing)
        self.indexes = IndexStore(self.session)
        self.liveness = LivenessStore(self.session)
        self.quarantine = QuarantineStore(self.session)
        self.dead_letter_store = DeadLetterStore(self.session)
        self.letters = LetterStore(self.session)
        self.limit_keys = LimitStore(self.session)
        self.rate_keys = RateStore(self.session)
        self.claims = ClaimStore(self.session)
        self.children = ChildStore(self.session, self.sealing)
        self.mailbox = MailboxStore(self.session)
        self.probes = ProbeStore(self.session)
        self.removal = RunRemoval(self.session)
        self.schedules = ScheduleStore(self.session)
        self.versions = VersionStore(self.session)
        self.task_queues = TaskQueueStore(self.session)
        self.source_store = SourceStore(self.session)

    def with_part(self, part: Session) -> Services:
        """Return the same with one server of the store alone: what it lists is what that server has."""
        if part is self.session:
            return self
        twin = copy(self)
        twin.session = part
        twin._open_stores()
        return twin

    def now_ms(self, run_id: RunId | None = None) -> int:
        """The store's time; with a run, that of the server that has it.

        What is written about a run is compared with that server's clock, and with no other one.
        """
        return (self.session if run_id is None else self.session.beside(run_id)).now_ms()

    def is_out_of_reach(self, run_id: RunId) -> bool:
        """Whether the server that has a run has long not answered, while another one of the store does."""
        part = self.session.beside(run_id)
        return part.failing_seconds() >= self.timeouts.heartbeat and self.session.failing_seconds() == 0

    def died_with(self, item: WorkItem) -> bool:
        """Whether an item that this worker owns was left behind by an earlier process of the same name.

        Of an anchored item it cannot be told: another worker may have written its owner entry.
        """
        return item.owner == self.name and not item.anchored and not self.session.made(item.token)

    async def commit(self, writer: BatchWriter, decision: Decision, *, witness: Key | None = None) -> Outcome:
        """Commit a decision; the item whose turn it checks first is the witness of a lost reply, or another cell.

        What users carry is sealed here, on its only way to the store but for snapshots of contexts.
        """
        kin = writer.kin
        if decision.effects.finished is RunStatus.FAILED:  # steps at work may hold keys that this release knows not of
            kin = replace(kin, may_hold_keys=True)
        if kin is not ALONE:
            decision = with_kin(decision, writer.run_id, kin)
        decision, releases = with_releases(decision, writer.run_id, self.now_ms)
        token = self.session.new_token()
        first = decision.conditions[0] if decision.conditions else None
        item_id = first.item_id if isinstance(first, TurnIs) else None
        changes = decision.changes
        if self.sealing.is_on and bytes_carried(changes) >= SEALED_IN_THREAD_BYTES:
            changes = await asyncio.to_thread(sealed_changes, self.sealing, writer.run_id, changes)
        else:
            changes = sealed_changes(self.sealing, writer.run_id, changes)
        batch = writer.batch(decision.conditions, changes, token=token, witness=item_id)
        if witness is not None:
            batch = replace(batch, witness=witness)
        outcome = await self.session.commit(batch)
        if isinstance(outcome, Conflict):
            self.figures.conflicts += 1
            return outcome
        if decision.has_letters:
            self._post(writer.run_id, effects_of(writer.run_id, decision, outcome).letters, outcome)
        self.followers.note(writer.run_id)
        if releases:
            self.on_letters(releases)
        return outcome

    def _post(self, run_id: RunId, letters: Sequence[Letter], committed: Committed) -> None:
        """Have letters delivered that a commit has written; that to its children a run writes only if it has some."""
        written = [
            _as_written(letter)
            for letter in letters
            if letter.kind not in COUNTED or committed.counters.get(keys.count(run_id, COUNTED[letter.kind]), 0) > 0
        ]
        if written:
            self.on_letters(written)

    async def stop_items(self, run_id: RunId, item_ids: Sequence[WorkItemId]) -> None:
        """Interrupt bodies of items that were cancelled while their run goes on: here at once, elsewhere by a hint."""
        self.inflight.interrupt_items(run_id, item_ids)
        await self.broadcast(ControlKind.STOP, run_id)

    def note_deadline(self, decision: Decision) -> None:
        """Let this process end the run of a committed decision when its time is up, if it sets a deadline."""
        for change in decision.changes:
            if isinstance(change, SetTimer) and change.timer.kind is TimerKind.RUN_TIMEOUT:
                self.on_timer(change.timer)

    async def announce_end(self, header: RunHeader, status: RunStatus) -> None:
        """Tell whoever waits that a run has ended, and the other workers if their steps of it are in vain."""
        self.figures.runs_finished[status.value] += 1
        await self.news.tell(header.reply_to or ALL_RUNS, header.run_id, status)
        if status is not RunStatus.COMPLETED:
            await self.broadcast(ControlKind.STOP, header.run_id)

    async def broadcast(self, kind: ControlKind, *runs: RunId, key: str = "") -> None:
        """Send a hint to every worker."""
        await self.bus.broadcast(encode_control(ControlMessage(kind=kind, runs=runs, key=key)))
