"""The simulated world: one store, one broker, one bus, and processes that run the engine's own code."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.interceptors import Interceptor
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.resources import Resources
from floxide_amqp.runtime.schedule import Schedule
from floxide_amqp.runtime.services import DeclaredSource, Services
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.worker import Worker
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.testing.simulation.broker import BrokerServer, BrokerWeather
from floxide_amqp.testing.simulation.clocks import MachineClock
from floxide_amqp.testing.simulation.control import BusServer, BusWeather
from floxide_amqp.testing.simulation.dead_letters import DeadLetterLink
from floxide_amqp.testing.simulation.label_watch import LabelWatch
from floxide_amqp.testing.simulation.loop import Lane, SeededLoop, run_to_end
from floxide_amqp.testing.simulation.message_watch import MessageWatch
from floxide_amqp.testing.simulation.process import Bodies, Process, Pulse, first_record
from floxide_amqp.testing.simulation.servers import SimulatedStore, StoreServers, home_of
from floxide_amqp.testing.simulation.source_link import SourceLink
from floxide_amqp.testing.simulation.storage import StoreServer, StoreWeather
from floxide_amqp.testing.simulation.story import Story
from floxide_amqp.testing.simulation.watch import Watch

T = TypeVar("T")
WorkflowClass = type[WorkflowDefinition[Any, Any, Any]]

FAR_MS = 30_000
"""For a timer further away than this nobody waits here."""

ALONE = ("",)
"""The names of the servers of a store that has only one."""

LET_GO_SECONDS = 60.0
"""How long after a call did not get through to a server a worker may still take it for out of reach."""

QUICK = Timeouts(
    maintenance=2.0, heartbeat=2.0, dead_after=8.0, probe=4.0, drain=5.0, cancel_grace=1.0, early_acknowledge=1.0,
    publish_retry=2.0, result_backstop=2.0,
)  # fmt: skip
"""Times that make recovery quick, so that a simulation need not be long."""


@dataclass(kw_only=True)
class Settings:
    """What all processes of a simulation are made with."""

    timeouts: Timeouts = QUICK
    limits: Limits = field(default_factory=lambda: Limits(concurrency=8))
    retention: Retention = field(default_factory=Retention)
    retry: RetryPolicy = NO_RETRY
    interceptors: Sequence[Interceptor] = ()
    resources: dict[type, object] = field(default_factory=dict[type, object])
    schedules: Sequence[Schedule[Any]] = ()
    sources: Sequence[DeclaredSource] = ()


@dataclass
class WorkerProcess:
    """A process with a worker in it."""

    process: Process
    worker: Worker
    services: Services

    @property
    def name(self) -> str:
        """Its name towards the others."""
        return self.process.name

    def stop(self) -> None:
        """Ask it to drain and end, as a SIGTERM does."""
        self.process.is_stopping = True
        self.worker.stop()


class Simulation:
    """One simulated world. Everything in it follows from the seed.

    Args:
        workflows: What the workers can run.
        seed: Draws everything.
        settings: What the processes are made with.
        is_shuffled: Whether what is ready at the same time runs in an order drawn from the seed; else first come,
            first served.
        is_told: Whether the story is kept, or only its hash.
        servers: The names of the store's servers, where it has several.

    Attributes:
        servers: The store's servers, by their names; the only one has none.
        store: All of them, for those who look at what the store holds.
        chance: Draws; for whoever plans what happens.
        watch: What the store holds, and the checks after every commit.
        workers: Every worker there ever was.
        garbage: Bytes put into queues that are no messages.
        body_to_die_in: In which of the next bodies its process dies, wherever it runs; 0 for in none.
    """

    def __init__(
        self,
        workflows: Iterable[WorkflowClass],
        seed: int,
        *,
        settings: Settings | None = None,
        is_shuffled: bool = True,
        is_told: bool = False,
        servers: Sequence[str] = ALONE,
    ) -> None:
        self.chance = random.Random(seed)
        self.loop = SeededLoop(random.Random(self.chance.random()) if is_shuffled else None)
        self.story = Story(self.loop.time, is_told=is_told)
        self.settings = settings or Settings()
        self.workflows = tuple(workflows)
        self.servers: Mapping[str, StoreServer] = {
            name: StoreServer(MachineClock(self.loop.time), self.story, name) for name in sorted(servers)
        }
        self.store: SimulatedStore = (
            StoreServers(self.servers, self.story) if len(self.servers) > 1 else next(iter(self.servers.values()))
        )
        self.broker = BrokerServer(self.loop, random.Random(self.chance.random()), self.story)
        self.bus = BusServer(self.loop, random.Random(self.chance.random()), self.story)
        self.watch = Watch(self.store)
        self.watch.on_status = self.story.tale.run_became
        self.watch.on_item = self._tell_of_item
        self.message_watch = MessageWatch(
            self.broker, self.watch, self.story, is_working=self._is_working, may_be_let_go=self._may_be_let_go
        )
        self.workers: list[WorkerProcess] = []
        self.processes: list[Process] = []
        self.garbage: list[bytes] = []
        self.body_to_die_in = 0

    def play(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something in this world until it returns; afterwards the world is gone, and its story stays."""
        logger = logging.getLogger("floxide_amqp")
        level = logger.level
        logger.setLevel(level if self.story.is_told else logging.CRITICAL + 1)
        try:
            return run_to_end(self.loop, self._until_over(main), self._lanes)
        finally:
            logger.setLevel(level)

    async def _until_over(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await main()
        finally:
            self.story.is_over = True  # what is torn down from here on is no part of it

    # --- processes

    def process(self, name: str, *, skew_ms: int = 0) -> Process:
        """Return a new process in which nothing runs yet."""
        process = Process(self, name, random.Random(self.chance.random()), skew_ms)
        self.processes.append(process)
        return process

    def start_worker(
        self,
        name: str = "",
        *,
        queues: Sequence[str] = (),
        workflows: Sequence[WorkflowClass] | None = None,
        labels: AbstractSet[str] | None = None,
        skew_ms: int = 0,
    ) -> WorkerProcess:
        """Start a worker process; a name that a dead worker had may be given again."""
        process = self.process(name or f"worker-{len(self.processes) + 1}", skew_ms=skew_ms)
        services = self._services(process, self.workflows if workflows is None else workflows)
        served = services.registry.served(queues, labels)
        watch = LabelWatch(process.name, labels, services.registry, self.story, self.watch.exercised)
        services.interceptors = (*services.interceptors, watch)
        record = first_record(process, queues=served, workflows=services.registry.names())
        timeouts = self.settings.timeouts
        worker = Worker(services, Pulse(process, record, timeouts.heartbeat, timeouts.dead_after), served)
        self.watch.versions.serves(process.name, services.registry)
        self.story.note(process.name, "starts", served)
        process.run(worker.run_forever())
        started = WorkerProcess(process, worker, services)
        self.workers.append(started)
        return started

    def working(self) -> list[WorkerProcess]:
        """Return the workers that run, or stand still and may go on."""
        return [worker for worker in self.workers if worker.process.is_up]

    @asynccontextmanager
    async def client(self, name: str) -> AsyncGenerator[Orchestrator]:
        """Open an orchestrator that is no process: it does not crash, and nothing is kept from it."""
        process = self.process(name)
        try:
            async with self.orchestrator(process).open() as orchestrator:
                yield orchestrator
        finally:
            process.is_closed = True

    def orchestrator(self, process: Process) -> Orchestrator:
        """Return an orchestrator for a process to run."""
        services = self._services(process, self.workflows)
        return Orchestrator(services, key=f"client.{process.name}")

    def _services(self, process: Process, workflows: Sequence[WorkflowClass]) -> Services:
        settings = self.settings
        return Services(
            name=WorkerId(process.name), session=process.session(), queue=process.queue, bus=process.bus,
            registry=Registry(workflows), resources=Resources(settings.resources), limits=settings.limits,
            timeouts=settings.timeouts, retention=settings.retention, retry=settings.retry,
            interceptors=(*settings.interceptors, Bodies(process)), dead_letters=DeadLetterLink(process.queue),
            random=random.Random(process.chance.random()), declared=settings.schedules, sources=settings.sources,
            message_sources={
                each.name: SourceLink(process.queue, each.queue)
                for each in settings.sources
                if isinstance(each, AmqpSource)
            },
        )  # fmt: skip

    # --- the weather

    def calm(self) -> None:
        """End every fault: what stands still goes on, what is cut is healed, nothing dies any more."""
        self.story.note("world", "calm")
        for server in self.servers.values():
            server.weather = StoreWeather()
        self.broker.weather = BrokerWeather()
        self.bus.weather = BusWeather()
        self.bus.tell_of_gap()
        self.body_to_die_in = 0
        for process in self.processes:
            process.spare()
            process.heal()
            process.thaw()

    def skip_ms(self, milliseconds: int) -> None:
        """Let the store's clock jump, and with it what is due."""
        for server in self.servers.values():
            server.clock.skew_ms += milliseconds

    # --- the end

    async def settle(self, seconds: float = 90.0, pause: float = 1.0) -> dict[str, list[str]]:
        """Let time pass until nothing leads to any item and no message is left, at most so long; return what is."""
        until = self.loop.time() + seconds
        while (left := self.loose_ends()) and self.loop.time() < until:
            self.skip_what_is_far()
            await asyncio.sleep(pause)
        return left

    def idle_ms(self, servers: Iterable[StoreServer] | None = None) -> int:
        """Return for how long nothing happens: until the next timer is due, if nobody has anything in hand; else 0.

        Args:
            servers: Those looked at; all by default.
        """
        waits: list[int] = []
        for server in self.servers.values() if servers is None else servers:
            found = server.index_entries("messages:", "owned:", keys.TIMERS, keys.LETTERS)
            due = (*found.pop(keys.TIMERS, []), *found.pop(keys.LETTERS, []))
            waits += [int(entry[:14]) - server.clock.now_ms() for entry, _ in due]
            found.pop(keys.SET_ASIDE, None)
            if found:
                return 0
        return 0 if self.broker.unsettled else max(0, min(waits, default=0))

    def skip_what_is_far(self) -> None:
        """Where nothing is due for long, let the time come."""
        idle = self.idle_ms()
        if idle > FAR_MS:
            self.let_pass(idle)

    def let_pass(self, milliseconds: int) -> None:
        """Skip a time in which nothing happens."""
        self.story.skip(milliseconds)
        self.skip_ms(milliseconds)

    async def wait_until(self, is_so: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something is so, at most so long."""
        until = self.loop.time() + seconds
        while not is_so() and self.loop.time() < until:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)

    def is_condemned(self, run_id: str) -> bool:
        """Whether the removal of a run goes on."""
        entries = self.store.index_entries(keys.CONDEMNED).get(keys.CONDEMNED, [])
        return any(run_list_keys.time_and_run(entry)[1] == run_id for entry, _ in entries)

    def loose_ends(self) -> dict[str, list[str]]:
        """Return what still leads somewhere: index entries, and messages in the broker."""
        found = self.store.index_entries("messages:", "owned:", "parked:", "timers", keys.LETTERS)
        left = {name: [entry for entry, _ in entries] for name, entries in found.items()}
        if self.broker.unsettled:
            left["broker"] = [f"{self.broker.unsettled} messages"]
        return left

    async def stop_all(self, seconds: float = 60.0) -> list[str]:
        """Stop every worker; return what did not end: workers, and tasks they leave behind."""
        working = self.working()
        for worker in working:
            worker.stop()
        mains = [worker.process.main for worker in working if worker.process.main is not None]
        if mains:
            await asyncio.wait(mains, timeout=seconds)
        until = self.loop.time() + seconds
        while (left := self._left_behind()) and self.loop.time() < until:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1.0)
        return left

    def _left_behind(self) -> list[str]:
        return [
            f"{worker.name}: {task.get_name()}"
            for worker in self.workers
            if not worker.process.is_dead
            for lane in worker.process.lanes()
            for task in lane.unfinished()
        ]

    def quick(self, **changes: Any) -> None:
        """Change times of the processes that are started from now on."""
        self.settings = replace(self.settings, timeouts=replace(self.settings.timeouts, **changes))

    def _is_working(self, name: str) -> bool:
        """Whether the latest process of a name runs and is not asked to end."""
        named = [process for process in self.processes if process.name == name]
        return bool(named) and named[-1].lane.is_running and not named[-1].is_stopping

    def _may_be_let_go(self, run_id: str) -> bool:
        """Whether a worker may leave a message to the probes: its run's server is out of reach, or was just now."""
        is_recent = self.loop.time() - home_of(self.servers, run_id).troubled_at < LET_GO_SECONDS
        return len(self.servers) > 1 and is_recent

    def _tell_of_item(self, run_id: str, old: WorkItem | None, new: WorkItem) -> None:
        now_ms = home_of(self.servers, run_id).clock.now_ms()
        self.story.tale.item_became(run_id, old, new, now_ms)

    def _lanes(self) -> list[Lane]:
        return [lane for process in self.processes for lane in process.lanes()]
