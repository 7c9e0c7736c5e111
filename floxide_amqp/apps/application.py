"""The application: which workflows, on which broker and store, with which resources. The composition root.

Nothing here is global: an application is a value that opens what it needs when a worker or an orchestrator is entered.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Any

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.embedded_worker import running
from floxide_amqp.apps.health import serve_health
from floxide_amqp.apps.stores import StoreLocation, check_location, is_memory, open_another, open_store
from floxide_amqp.apps.transport import InProcess, Transport, connections_of
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.task_queues import NO_LABELS, check_worker_labels
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.drivers.amqp.settings import DEFAULT_NAMESPACE, DEFAULT_SETTINGS, AmqpSettings, broker_url
from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.drivers.codecs.encryption import Encryption, KeySource
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.running_clock import RunningClock, clock_of_the_loop
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.codec import Codec
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.heartbeat import TICKS_PER_BEAT, Heartbeat, TaskHeartbeat
from floxide_amqp.runtime.interceptors import Interceptor
from floxide_amqp.runtime.loop_watch import LoopPulse, LoopWatch
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.pool import WorkerPool
from floxide_amqp.runtime.processes import check_process_nodes
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.resources import Lifespan, Resources, open_resources
from floxide_amqp.runtime.schedule import Schedule
from floxide_amqp.runtime.schedules import check_schedules
from floxide_amqp.runtime.services import DeclaredSource, Services
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.source_feeds import Feed, feed_of
from floxide_amqp.runtime.sources import check_sources
from floxide_amqp.runtime.threads import THREAD_NAME
from floxide_amqp.runtime.vitals import new_record
from floxide_amqp.runtime.worker import Beating, Worker
from floxide_amqp.stores.identity import identity_of
from floxide_amqp.stores.sealing import Sealing
from floxide_amqp.stores.session import DEFAULT_PATIENCE_SECONDS
from floxide_amqp.stores.sharded_session import session_with

SKIPPING_POLL_SECONDS = 3_600.0
"""Between two looks at the store on a loop whose time jumps: a wait of a month costs less than a thousand of them."""


class Floxide:
    """An application.

    Args:
        broker: ``amqp://user:password@host/vhost`` or ``amqps://…``; None for the in-process queue.
        store: A store's URL (``postgresql://…``, ``redis://…``, ``sqlite:///runs.db``, ``memory://``), the URLs of its
            shards by their names, an open store, or None for memory.
        workflows: The workflows its workers run.
        lifespan: Opens what nodes need, once per worker: an async context manager function that yields one resource,
            or several as a list, a tuple or a dict by type.
        namespace: First word of every exchange and queue name on the broker.
        retry: Policy of nodes for which neither they nor their workflow have one.
        interceptors: Around start, step and publish; the first is the outermost.
        limits, timeouts: How much and how long.
        retention: How long ended runs stay in the store; by default for ever.
        codec: What inputs, outputs, contexts and error texts go through on their way to the store: a codec or several,
            such as ``[Compression(), Encryption(keys)]``. What was stored before stays readable.
        broker_settings: Deadlines and security of the broker's connections.
        schedules: What its workers start again and again: each worker puts them into the store when it begins.
        sources: Queues and iterators whose items start runs: each worker runs those that say so.

    Raises:
        ConfigurationError: A URL cannot be understood, a broker comes without a shared store, two workflows have the
            same name and version, or the codecs do not go together.
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        store: StoreLocation = None,
        workflows: Iterable[type[WorkflowDefinition[Any, Any, Any]]] = (),
        lifespan: Lifespan | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        retry: RetryPolicy = NO_RETRY,
        interceptors: Sequence[Interceptor] = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retention: Retention | None = None,
        codec: Codec | Sequence[Codec] = (),
        broker_settings: AmqpSettings = DEFAULT_SETTINGS,
        schedules: Iterable[Schedule[Any]] = (),
        sources: Iterable[DeclaredSource] = (),
    ) -> None:
        self.registry = Registry(workflows)
        self._schedules = check_schedules(schedules, self.registry)
        self._sources = check_sources(sources, self.registry)
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.retention = retention or Retention()
        self._codecs = (codec,) if isinstance(codec, Codec) else tuple(codec)
        self._sealing = Sealing(self._codecs, known=(Compression(),))
        self._namespace = namespace
        self._lifespan = lifespan
        self._retry = retry
        self._interceptors = tuple(interceptors)
        self._broker_settings = broker_settings
        self._clock: Clock = RunningClock()
        self._place(broker, store)

    def _place(self, broker: str | None, store: StoreLocation) -> None:
        """Say where the application is; what it opens there is opened with its workers and orchestrators."""
        check_location(store)
        if broker is not None:
            broker_url(broker, self._broker_settings)
            if is_memory(store):
                raise ConfigurationError(
                    "Several processes need a store they share: give Floxide(broker, store='sqlite:///runs.db'), "
                    "or leave the broker out to run in one process."
                )
        self._broker = broker
        self._store = store
        self._local_store = MemoryKeyValueStore() if is_memory(store) else None
        self._in_process = InProcess() if broker is None else None

    def elsewhere(
        self, *, broker: str | None = None, store: StoreLocation = None, connect_timeout: float | None = None
    ) -> Floxide:
        """Return the same application in another place: a deployment decides, the code stays.

        Args:
            broker: As for the class; None leaves it as it is.
            store: The same.
            connect_timeout: Longest wait for the broker when a worker or an orchestrator opens, seconds.

        Raises:
            ConfigurationError: A URL cannot be understood, or a broker comes without a shared store.
        """
        twin = copy(self)
        if connect_timeout is not None:
            twin._broker_settings = replace(self._broker_settings, open_deadline=connect_timeout)
        if broker is not None or store is not None:
            twin._place(self._broker if broker is None else broker, self._store if store is None else store)
        return twin

    def with_keys(self, keys: KeySource) -> Floxide:
        """Return the same application with these encryption keys, the first of which is current.

        They take the place of those of its `Encryption`; where it has none, everything is encrypted from now on.

        Args:
            keys: As for `Encryption`.

        Raises:
            ConfigurationError: They cannot be keys.
        """
        old = next((codec for codec in self._codecs if isinstance(codec, Encryption)), None)
        new = Encryption(keys) if old is None else old.with_keys(keys)
        twin = copy(self)
        twin._codecs = (*(codec for codec in self._codecs if codec is not old), new)
        twin._sealing = Sealing(twin._codecs, known=(Compression(),))
        return twin

    def embedded(self, store: StoreLocation = None, *, lifespan: Lifespan | None = None) -> Floxide:
        """Return the same application without a broker, to run in one process; queues of its sources are left alone.

        Args:
            store: Where it keeps its runs, as for the class; memory by default.
            lifespan: Opens what nodes need, such as fakes for a test; by default the application's own.
        """
        twin = copy(self)
        twin._lifespan = lifespan or self._lifespan
        twin._sources = tuple(each for each in self._sources if not isinstance(each, AmqpSource))
        twin._place(None, store)
        return twin

    @property
    def store(self) -> StoreLocation:
        """Where its runs are: a store's URL, an open store, or None for memory."""
        return self._store

    @property
    def is_in_memory(self) -> bool:
        """Whether its runs are in this process's memory, where no other process sees them."""
        return self._local_store is not None

    @property
    def is_embedded(self) -> bool:
        """Whether everything runs in this process, without a broker."""
        return self._broker is None

    @asynccontextmanager
    async def orchestrator(
        self, *, with_worker: bool | None = None, broker: BrokerUse = BrokerUse.NEEDED
    ) -> AsyncGenerator[Orchestrator]:
        """Open an orchestrator.

        Args:
            with_worker: Whether a worker runs beside it in this process; by default exactly when there is no broker.
            broker: What it wants of the broker, where it has no worker: one that only looks at runs needs none.
        """
        async with AsyncExitStack() as stack:
            runs_worker = self.is_embedded if with_worker is None else with_worker
            if runs_worker:
                worker = await stack.enter_async_context(self.worker())
                await stack.enter_async_context(running(worker))
                services = worker.services
            else:
                name = WorkerId(f"client-{_process_name()}")
                services = await self._services(stack, Resources(), name, self.limits, broker)
            # In one process the ends of all runs cost nothing to hear; on a broker they would be everybody's traffic.
            is_alone = self.is_embedded and self.is_in_memory
            orchestrator = Orchestrator(services, hears_all=self.is_embedded, is_alone=is_alone)
            yield await stack.enter_async_context(orchestrator.open())

    @asynccontextmanager
    async def worker(
        self,
        *,
        concurrency: int | None = None,
        queues: Sequence[str] = (),
        labels: AbstractSet[str] | None = None,
        only_labelled: bool = False,
        name: str | None = None,
        owns_process: bool = False,
        http: str | None = None,
    ) -> AsyncGenerator[Worker]:
        """Open a worker; call `Worker.run_forever` or `Worker.run_once` on it.

        Args:
            concurrency: Steps in flight at a time; by default what `limits` says.
            queues: Task queues to serve, as nodes name them; by default all that the workflows' nodes use.
            labels: What it has that nodes may ask for: it runs nodes whose labels are among them. None for no label;
                without a broker, where this process has to do everything, None is for whatever is asked for.
            only_labelled: Leave nodes that ask for no label to other workers.
            name: The worker's id; by default host, process and a random part. No two that live may share one.
            owns_process: Whether this process is there for the worker alone, as that of ``floxide worker`` is. It is
                then ended with exit code 75 when a node blocks its event loop for longer than `Timeouts.loop_hung`,
                at once, or holds too many threads for good, after draining: others go on with its items meanwhile,
                and whoever started it starts it again.
            http: Where to serve ``/livez``, ``/readyz`` and ``/metrics``: ``HOST:PORT``, or a port alone for this
                machine only. It needs the extra ``floxide-amqp[http]``.

        Raises:
            ConfigurationError: The lifespan does not provide what nodes require, nothing can listen at `http`, or no
                task queue is left to serve.
        """
        limits = self.limits if concurrency is None else replace(self.limits, concurrency=concurrency)
        if limits.concurrency < 1:
            raise ConfigurationError(f"A worker's concurrency must be at least 1, not {limits.concurrency}.")
        worker_id = WorkerId(name or _process_name())
        async with AsyncExitStack() as stack:
            resources = await stack.enter_async_context(open_resources(self._lifespan))
            resources.check(self.registry.required_resources())
            check_process_nodes(self.registry)
            services = await self._services(stack, resources, worker_id, limits, is_worker=True)
            services.owns_process = owns_process
            stack.callback(services.threads.close)
            stack.push_async_callback(services.processes.aclose)
            has = check_worker_labels(labels)
            served = self.registry.served(
                queues, None if has is None and self.is_embedded else has or NO_LABELS, only_labelled=only_labelled
            )
            worker = Worker(services, self._heartbeat(services, served, has or NO_LABELS), served)
            if http is not None:
                await stack.enter_async_context(serve_health(http, worker))
            yield worker

    @asynccontextmanager
    async def source(self, name: str) -> AsyncGenerator[Feed]:
        """Open a source, to be run in this process without a worker: call `run` on it, and `stop` to end that.

        Args:
            name: The name of one of the application's sources.

        Raises:
            ConfigurationError: There is none of this name, or nothing says on which broker its queue is.
        """
        source = next((each for each in self._sources if each.name == name), None)
        if source is None:
            known = ", ".join(repr(each.name) for each in self._sources) or "none"
            raise ConfigurationError(f"The application declares no source {name!r}; it declares: {known}.")
        async with AsyncExitStack() as stack:
            process = WorkerId(f"source-{_process_name()}")
            services = await self._services(stack, Resources(), process, self.limits, is_worker=True)
            feed = feed_of(services, source)
            if feed is None:
                raise ConfigurationError(
                    f"Source {name!r} has no broker: give one to Floxide(...), or AmqpSource(..., broker='amqp://…')."
                )
            yield feed

    def pool(
        self,
        size: int,
        *,
        concurrency: int | None = None,
        queues: Sequence[str] = (),
        labels: AbstractSet[str] | None = None,
        only_labelled: bool = False,
        owns_process: bool = False,
    ) -> WorkerPool:
        """Return a pool of workers in this process.

        Args:
            size: How many; at least 1.
            concurrency: Steps in flight at a time, each.
            queues: Task queues to serve; by default all that the workflows' nodes use.
            labels: What they have that nodes may ask for, as for `worker`.
            only_labelled: Leave nodes that ask for no label to other workers.
            owns_process: Whether this process is there for the pool alone, as for `worker`.
        """
        return WorkerPool(
            size,
            lambda: self.worker(
                concurrency=concurrency, queues=queues, labels=labels, only_labelled=only_labelled,
                owns_process=owns_process,
            ),
        )  # fmt: skip

    async def _services(
        self, stack: AsyncExitStack, resources: Resources, name: WorkerId, limits: Limits,
        broker: BrokerUse = BrokerUse.NEEDED, *, is_worker: bool = False,
    ) -> Services:  # fmt: skip
        # A worker that starts with its servers waits for them; who runs all in one process wants to know at once.
        patience = 0.0 if self.is_embedded or not is_worker else DEFAULT_PATIENCE_SECONDS
        location = self._local_store or self._store
        store = await stack.enter_async_context(open_store(location, patience_seconds=patience))
        session = session_with(store, self._clock)
        stack.push_async_callback(session.drain)
        executor = ThreadPoolExecutor(limits.threads, thread_name_prefix=THREAD_NAME)
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        transport = Transport(self._broker, self._in_process, self._namespace, self._broker_settings)
        queue, bus = await transport.open(stack, broker)
        dead_letters = transport.dead_letters()
        return Services(
            name=name, session=session, queue=queue, bus=bus,
            registry=self.registry, store_id=await identity_of(session), resources=resources, limits=limits,
            timeouts=self._timeouts_here(), retention=self.retention, retry=self._retry,
            interceptors=self._interceptors, executor=executor,
            dead_letters=dead_letters, connections=lambda: connections_of(queue, bus, dead_letters),
            sealing=self._sealing, declared=self._schedules, sources=self._sources,
            message_sources=transport.message_sources(self._sources),
        )  # fmt: skip

    def _heartbeat(self, services: Services, queues: tuple[str, ...], labels: AbstractSet[str]) -> Beating:
        record = new_record(
            services.name, now_ms=services.now_ms(), queues=queues, workflows=self.registry.names(),
            concurrency=services.limits.concurrency, labels=tuple(sorted(labels)),
        )  # fmt: skip
        interval = services.timeouts.heartbeat
        if not services.session.is_shared or clock_of_the_loop() is not None:  # a thread would beat in another time
            return TaskHeartbeat(record, services.session, self._clock, interval, services.timeouts.dead_after)
        watch = LoopWatch(
            LoopPulse(interval / TICKS_PER_BEAT), services.name, services.inflight,
            blocked_seconds=services.timeouts.loop_blocked, hung_seconds=services.timeouts.loop_hung,
            owns_process=services.owns_process,
        )  # fmt: skip
        return Heartbeat(record, self._open_another(), self._clock, interval, services.timeouts.dead_after, watch)

    def _timeouts_here(self) -> Timeouts:
        """Where the loop's time jumps, whoever polls would make it stop at every second of a wait of days."""
        if clock_of_the_loop() is None:
            return self.timeouts
        return self.timeouts.with_polls_at_least(SKIPPING_POLL_SECONDS)

    def _open_another(self) -> Callable[[], Awaitable[KeyValueStore]]:
        location = self._store
        if location is None or isinstance(location, str | Mapping):
            return lambda: open_another(location)
        raise ConfigurationError(
            "A worker on a shared store needs the store's URL, to open a connection for its heartbeat."
        )


def _process_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
