"""What the parts of one process share: the store's session, the queue, the bus, the workflows, the resources."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass, field

from floxide_amqp.core.changes import SetTimer, TurnIs
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.records import RunHeader, Timer, TimerKind, WorkItem
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.control import ControlBus
from floxide_amqp.ports.dead_letters import DeadLetterQueue
from floxide_amqp.ports.health import ConnectionsHealth
from floxide_amqp.ports.key_value import Conflict, Outcome
from floxide_amqp.ports.work_queue import WorkQueue
from floxide_amqp.runtime.cache import RunCache
from floxide_amqp.runtime.figures import Figures
from floxide_amqp.runtime.inflight import InFlight
from floxide_amqp.runtime.interceptors import Interceptor
from floxide_amqp.runtime.messages import (
    ControlKind,
    ControlMessage,
    RunEvent,
    encode_control,
    encode_event,
)
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.resources import Resources
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.solitude import Solitude
from floxide_amqp.runtime.threads import NodeThreads
from floxide_amqp.stores.contexts import ContextStore
from floxide_amqp.stores.dead_letters import DeadLetterStore
from floxide_amqp.stores.indexes import IndexStore
from floxide_amqp.stores.items import ItemStore
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.probes import ProbeStore
from floxide_amqp.stores.quarantine import QuarantineStore
from floxide_amqp.stores.removal import RunRemoval
from floxide_amqp.stores.runs import RunStore
from floxide_amqp.stores.sealed_changes import sealed_changes
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.writes import BatchWriter


def _ignore(timer: Timer) -> None:
    """For processes without a timer heap: maintenance fires what they set."""
    del timer


ALL_RUNS = "runs"
"""Routing key of events of runs whose starter asked for none."""


@dataclass(kw_only=True)
class Services:
    """Everything a worker, the maintenance and an orchestrator of one process share.

    Attributes:
        name: This process towards the others: publisher of its messages, owner of its items.
        store_id: Tells this process's store from others on the same broker; empty not to ask.
        owns_process: Whether the process is the worker's own, so that it may be ended when nodes block it for good.
        on_timer: Told of every timer this process sets, so that it fires to the millisecond.
        dead_letters: Where messages arrive that the broker gave up on; None where no queue gives any up.
        connections: Tells how this process's connections to the broker are.
        figures: What this process counts of its work.
        sealing: Seals what users carry on its way to the store, and opens it.
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
    dead_letters: DeadLetterQueue | None = None
    connections: ConnectionsHealth = tuple
    figures: Figures = field(default_factory=Figures)
    sealing: Sealing = PLAIN

    def __post_init__(self) -> None:
        self._open_stores()
        self.cache = RunCache(self.limits.cached_runs)
        self.inflight = InFlight()
        self.solitude = Solitude()
        self.threads = NodeThreads(  # a body's time begins when there is a thread for it
            self.limits.threads, self.executor, grace_seconds=self.timeouts.cancel_grace,
            most_lost=self.limits.lost_threads,
        )  # fmt: skip

    def _open_stores(self) -> None:
        self.runs = RunStore(self.session, self.sealing)
        self.items = ItemStore(self.session, self.sealing)
        self.contexts = ContextStore(self.session, snapshot_after=self.limits.context_snapshot, sealing=self.sealing)
        self.indexes = IndexStore(self.session)
        self.liveness = LivenessStore(self.session)
        self.quarantine = QuarantineStore(self.session)
        self.letters = DeadLetterStore(self.session)
        self.probes = ProbeStore(self.session)
        self.removal = RunRemoval(self.session)

    def with_part(self, part: Session) -> Services:
        """Return the same with one server of the store alone: what it lists is what that server has."""
        if part is self.session:
            return self
        twin = copy(self)
        twin.session = part
        twin._open_stores()
        return twin

    def now_ms(self) -> int:
        """The store's time."""
        return self.session.now_ms()

    def is_out_of_reach(self, run_id: RunId) -> bool:
        """Whether the server that has a run has long not answered, while another one of the store does."""
        part = self.session.beside(run_id)
        return part.failing_seconds() >= self.timeouts.heartbeat and self.session.failing_seconds() == 0

    def died_with(self, item: WorkItem) -> bool:
        """Whether an item that this worker owns was left behind by an earlier process of the same name.

        Of an anchored item it cannot be told: another worker may have written its owner entry.
        """
        return item.owner == self.name and not item.anchored and not self.session.made(item.token)

    async def commit(self, writer: BatchWriter, decision: Decision) -> Outcome:
        """Commit a decision; the item whose turn it checks first is the witness of a lost reply.

        What users carry is sealed here, on its only way to the store but for snapshots of contexts.
        """
        token = self.session.new_token()
        first = decision.conditions[0] if decision.conditions else None
        item_id = first.item_id if isinstance(first, TurnIs) else None
        changes = sealed_changes(self.sealing, writer.run_id, decision.changes)
        batch = writer.batch(decision.conditions, changes, token=token, witness=item_id)
        outcome = await self.session.commit(batch)
        if isinstance(outcome, Conflict):
            self.figures.conflicts += 1
        return outcome

    def note_deadline(self, decision: Decision) -> None:
        """Let this process end the run of a committed decision when its time is up, if it sets a deadline."""
        for change in decision.changes:
            if isinstance(change, SetTimer) and change.timer.kind is TimerKind.RUN_TIMEOUT:
                self.on_timer(change.timer)

    async def announce_end(self, header: RunHeader, status: RunStatus) -> None:
        """Tell whoever waits that a run has ended, and the other workers if their steps of it are in vain."""
        self.figures.runs_finished[status.value] += 1
        body = encode_event(RunEvent(run_id=header.run_id, status=status))
        await self.bus.announce(header.reply_to or ALL_RUNS, body)
        if status is not RunStatus.COMPLETED:
            await self.broadcast(ControlKind.STOP, header.run_id)

    async def broadcast(self, kind: ControlKind, *runs: RunId, workflow: str = "", version: str = "") -> None:
        """Send a hint to every worker."""
        await self.bus.broadcast(
            encode_control(ControlMessage(kind=kind, runs=runs, workflow=workflow, version=version))
        )
