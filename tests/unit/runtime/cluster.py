"""Workers and clients of one memory store and queue in one event loop, each with a connection of its own to break."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.log_records import HistoryEntry
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.run_counts import RunCounts
from floxide_amqp.core.statuses import ITEM_TRANSITIONS, RUN_TRANSITIONS, RunStatus, WorkItemStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.drivers.memory.control import MemoryControlBus
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.ports.key_value import Cell, Entry, IndexRange, Key, Put, Write
from floxide_amqp.runtime.heartbeat import TaskHeartbeat, new_record
from floxide_amqp.runtime.interceptors import Interceptor
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.resources import Resources
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.worker import Worker
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.session import Session
from floxide_amqp.testing.faults import FaultyKeyValueStore, StoreFaults
from floxide_amqp.testing.queue_faults import FaultyWorkQueue, QueueFaults
from floxide_amqp.testing.virtual_time import VirtualClock

WorkflowClass = type[WorkflowDefinition[Any, Any, Any]]

QUICK = Timeouts(maintenance=1.0, heartbeat=2.0, dead_after=8.0, probe=4.0, drain=5.0, cancel_grace=1.0)


class GuardedStore(MemoryKeyValueStore):
    """A memory store that refuses a status which may not follow the one before."""

    def __init__(self) -> None:
        super().__init__(VirtualClock())
        self.violations: list[str] = []

    def _apply_writes(self, batch: Any, writes: tuple[Write, ...], *rest: Any) -> None:
        cells = self._slots[batch.slot].cells
        for write in writes:
            if isinstance(write, Put):
                self._guard(write.key, cells.get(write.key), write.value)
        super()._apply_writes(batch, writes, *rest)

    def _guard(self, key: Key, before: Cell | None, value: bytes) -> None:
        if key.name == "state":
            status = codec.decode_state(value).status
            was = None if before is None else codec.decode_state(before.value).status
            if was is not None and status is not was and status not in RUN_TRANSITIONS[was]:
                self.violations.append(f"run {key.partition}: {was} to {status}")
        elif key.name.startswith("i:"):
            item = codec.decode_item(value)
            old = None if before is None else codec.decode_item(before.value)
            if old is not None and item.status is not old.status and item.status not in ITEM_TRANSITIONS[old.status]:
                self.violations.append(f"item {key}: {old.status} to {item.status}")
            if old is not None and old.status is WorkItemStatus.COMPLETED:
                self.violations.append(f"item {key}: rewritten although completed")
            if bool(item.owner) != (item.status is WorkItemStatus.IN_PROGRESS):
                self.violations.append(f"item {key}: {item.status} with owner {item.owner!r}")

    def leftovers(self, *prefixes: str) -> dict[str, list[str]]:
        """Entries of every index whose name begins like one of these."""
        found: dict[str, list[str]] = {}
        for name, entries in self._indexes.items():
            if name.startswith(prefixes) and len(entries):
                found[name] = [entry for entry, _, _ in entries.between("", None, reverse=False)]
        return found

    def scope_counts(self, run_id: str) -> dict[str, int]:
        """The scopes of a run that have live items."""
        return {
            key.name: value
            for slot in self._slots.values()
            for key, value in slot.counters.items()
            if key.partition == run_id and key.name.startswith("n:") and value
        }

    async def entries(self, index: str) -> Sequence[Entry]:
        return await self.scan(IndexRange(index, limit=100_000))


@dataclass
class Member:
    """A worker process, or what stands for one."""

    services: Services
    store: FaultyKeyValueStore
    queue: FaultyWorkQueue
    worker: Worker
    task: asyncio.Task[None]

    @property
    def name(self) -> WorkerId:
        return self.services.name

    async def kill(self) -> None:
        """It is gone from one moment to the next: nothing it does gets through any more."""
        self.store.cut()
        await self.queue.cut()
        self.task.cancel()

    async def stop(self) -> None:
        """It drains and ends."""
        self.worker.stop()
        await self.task


class Cluster:
    """Everything that runs one test."""

    def __init__(
        self,
        *workflows: WorkflowClass,
        seed: int = 0,
        timeouts: Timeouts = QUICK,
        limits: Limits | None = None,
        retention: Retention | None = None,
        store_faults: StoreFaults | None = None,
        queue_faults: QueueFaults | None = None,
        is_durable: bool = True,
        retry: RetryPolicy = NO_RETRY,
        interceptors: Sequence[Interceptor] = (),
        resources: dict[type, object] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.chance = random.Random(seed)
        self.store = GuardedStore()
        self.queue = MemoryWorkQueue()
        self.bus = MemoryControlBus()
        self.members: list[Member] = []
        self.workflows = workflows
        self.timeouts = timeouts
        self.retention = retention or Retention()
        self.limits = limits or Limits(concurrency=8)
        self.store_faults = store_faults
        self.queue_faults = queue_faults
        self.is_durable = is_durable
        self.retry = retry
        self.interceptors = interceptors
        self.resources = resources or {}
        self.executor = executor
        self._count = 0

    def _services(self, name: str, workflows: Sequence[WorkflowClass]) -> tuple[Services, Any, Any]:
        store = FaultyKeyValueStore(self.store, random.Random(self.chance.random()), self.store_faults)
        queue = FaultyWorkQueue(
            self.queue, random.Random(self.chance.random()), self.queue_faults, is_durable=self.is_durable
        )
        services = Services(
            name=WorkerId(name),
            session=self._session(store),
            queue=queue,
            bus=self.bus,
            registry=Registry(workflows),
            resources=Resources(self.resources),
            limits=self.limits,
            timeouts=self.timeouts,
            retention=self.retention,
            retry=self.retry,
            interceptors=self.interceptors,
            executor=self.executor,
            random=random.Random(self.chance.random()),
        )
        return services, store, queue

    def _session(self, store: FaultyKeyValueStore) -> Session:
        return Session(store, VirtualClock())

    def worker_of(
        self,
        *,
        workflows: Sequence[WorkflowClass] | None = None,
        queues: Sequence[str] = (),
        labels: AbstractSet[str] | None = None,
        only_labelled: bool = False,
    ) -> tuple[Worker, Services, FaultyKeyValueStore, FaultyWorkQueue]:
        """A worker that does not run yet."""
        self._count += 1
        known = self.workflows if workflows is None else workflows
        services, store, queue = self._services(f"worker-{self._count}", known)
        served = services.registry.served(queues, labels, only_labelled=only_labelled)
        record = new_record(
            services.name, now_ms=services.now_ms(), queues=served, workflows=services.registry.names(),
            concurrency=self.limits.concurrency, labels=tuple(sorted(labels or ())),
        )  # fmt: skip
        heartbeat = TaskHeartbeat(record, services.session, VirtualClock(), self.timeouts.heartbeat)
        return Worker(services, heartbeat, served), services, store, queue

    async def start_worker(
        self,
        *,
        workflows: Sequence[WorkflowClass] | None = None,
        queues: Sequence[str] = (),
        labels: AbstractSet[str] | None = None,
        only_labelled: bool = False,
    ) -> Member:
        worker, services, store, queue = self.worker_of(
            workflows=workflows, queues=queues, labels=labels, only_labelled=only_labelled
        )
        task = asyncio.create_task(worker.run_forever(), name=f"member.{services.name}")
        member = Member(services, store, queue, worker, task)
        self.members.append(member)
        return member

    async def start_leader(self) -> Member:
        """The first worker, once it leads the maintenance; it serves a task queue that no workflow has."""
        member = await self.start_worker(queues=["elsewhere"])
        async with asyncio.timeout(60):
            while not member.worker.maintenance.is_leader:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
        return member

    def client(self) -> Orchestrator:
        """An orchestrator with a faultless connection; it hears no events and looks at the store instead."""
        self._count += 1
        services, store, queue = self._services(f"client-{self._count}", self.workflows)
        store.faults, queue.faults = StoreFaults(), QueueFaults()
        services.timeouts = replace(self.timeouts, result_backstop=0.25)
        return Orchestrator(services)

    async def close(self) -> None:
        """Stop every worker that still runs."""
        for member in self.members:
            member.worker.stop()
        await asyncio.gather(*(member.task for member in self.members), return_exceptions=True)

    def end_faults(self) -> None:
        for member in self.members:
            member.store.faults = StoreFaults()
            member.queue.faults = QueueFaults()

    async def history(self, run_id: str) -> list[HistoryEntry]:
        services = self.client().services
        found: list[HistoryEntry] = []
        while True:
            page = await services.items.history(RunId(run_id), start=len(found))
            found += page
            if not page:
                return found

    async def counts(self, run_id: str) -> RunCounts:
        return (await self.client().services.runs.load(RunId(run_id))).counts

    async def settle(self, seconds: float = 90.0) -> dict[str, list[str]]:
        """Let time pass until nothing points to any item any more, at most so long; return what is left."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._loose_ends() and loop.time() < until:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(2)
        return self._loose_ends()

    def _loose_ends(self) -> dict[str, list[str]]:
        return self.store.leftovers("messages:", "owned:", "parked:", "timers")

    async def check_completed(self, run_id: str) -> None:
        """What must hold of a completed run."""
        run = await self.client().services.runs.load(RunId(run_id))
        assert run.state.status is RunStatus.COMPLETED, (run.state, self._loose_ends())
        ended = [(entry.item_id, entry.status) for entry in await self.history(run_id)]
        assert len(ended) == len(set(ended)), "an item ended twice"
        assert self.store.scope_counts(run_id) == {}
        assert (run.counts.live, run.counts.waiting) == (0, 0)
        loose_ends = await self.settle()
        assert loose_ends == {}, loose_ends
        listed = self.store.leftovers(f"live:{run_id}").get(f"live:{run_id}", [])
        assert len(listed) == run.counts.held  # what is held without a wake stays listed
        assert self.store.violations == []
