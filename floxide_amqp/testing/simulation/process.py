"""One simulated process: its lanes, its clock, its connections, and the ways it can end or stand still.

A process has two lanes: its event loop, and the thread that beats for it. A hung event loop stops the first only, a
SIGSTOP both, a SIGKILL ends both.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.transition import Transition
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.exceptions import FloxideError, StoreError, WorkerNameLostError, WorkerNameTakenError
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.runtime.heartbeat import TaskHeartbeat
from floxide_amqp.runtime.interceptors import Interceptor, StepCall
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sharded_session import session_with
from floxide_amqp.testing.simulation.broker import BrokerServer
from floxide_amqp.testing.simulation.broker_link import QueueLink
from floxide_amqp.testing.simulation.clocks import MachineClock
from floxide_amqp.testing.simulation.control import BusLink, BusServer
from floxide_amqp.testing.simulation.loop import Lane, SeededLoop, context_of
from floxide_amqp.testing.simulation.storage import StoreServer
from floxide_amqp.testing.simulation.store_link import StoreLink
from floxide_amqp.testing.simulation.story import Story

T = TypeVar("T")

NOTICED_SECONDS = 0.05
"""Longest time until the broker sees that the connections of a dead process are closed."""

BROKER_HEARTBEAT_SECONDS = 10.0
"""How long the broker waits for a process that says nothing before it closes its connections."""


class World(Protocol):
    """What processes share."""

    loop: SeededLoop
    story: Story
    servers: Mapping[str, StoreServer]
    broker: BrokerServer
    bus: BusServer
    body_to_die_in: int


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process dies: at the `number`-th call of a kind, or with no kind in place of its n-th callback.

    Attributes:
        call: ``commit``, ``committed``, ``read``, ``scan``, ``publish``, ``published``, ``ack``, ``release``,
            ``broadcast`` or ``announce``; empty for callbacks.
        number: Counted from 1.
    """

    call: str
    number: int


class Process:
    """A simulated process.

    Args:
        world: What it shares with the others.
        name: Its name towards the others.
        chance: Draws everything that is random about it.
        skew_ms: Milliseconds its wall clock is ahead.

    Attributes:
        life: Tells it from others of its name.
        links: Its connections to the servers of the store, by their names.
        store: The driver it works with, over these.
        main: What it runs; done when it has ended by itself.
        is_stopping: Whether it was asked to end.
        is_closed: Whether nothing runs in it any more, and nothing will.
    """

    def __init__(self, world: World, name: str, chance: random.Random, skew_ms: int = 0) -> None:
        self.world = world
        self.name = name
        self.chance = chance
        self.lane = Lane(name)
        self.pulse = Lane(f"{name}.heartbeat")
        self.life = chance.randbytes(8).hex()
        self.clock = MachineClock(world.loop.time, skew_ms)
        self.links = {
            server: StoreLink(each, name, random.Random(chance.random()), world.loop)
            for server, each in world.servers.items()
        }
        self.store: KeyValueStore = (
            ShardedKeyValueStore(self.links) if len(self.links) > 1 else next(iter(self.links.values()))
        )
        self.queue = QueueLink(world.broker, self.lane, random.Random(chance.random()), world.loop)
        self.bus = BusLink(world.bus, self.lane)
        self.main: asyncio.Task[Any] | None = None
        self.is_stopping = False
        self.is_closed = False
        self._calls: dict[str, int] = {}
        self._death: Death | None = None
        self.lane.on_death = self._died
        for link in self.links.values():
            link.on_io = self._io
        self.queue.on_io = self.bus.on_io = self._io

    def session(self, *, patience: float = 60.0) -> Session:
        """Return a session of its own with the store, everything about it drawn from the seed."""
        chance = self.chance
        return session_with(
            self.store, self.clock, patience_seconds=patience, chance=random.Random(chance.random()),
            token_prefix=chance.randbytes(8),
        )  # fmt: skip

    def run(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin to run something in this process."""
        self.main = self.world.loop.create_task(main, name=f"process.{self.name}", context=context_of(self.lane))
        self.main.add_done_callback(self._ended, context=context_of(None))
        return self.main

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self.lane.is_dead

    @property
    def is_up(self) -> bool:
        """Whether it runs, or will again once it is thawed."""
        return not (self.is_dead or self.main is None or self.main.done())

    def lanes(self) -> list[Lane]:
        """Return its lanes."""
        return [self.lane, self.pulse]

    # --- what befalls it

    def die_at(self, death: Death) -> None:
        """Let it die at a point of its life."""
        if death.call:
            self._death = Death(death.call, self._calls.get(death.call, 0) + death.number)
        else:
            self.lane.dies_at = self.lane.callbacks + death.number

    def body_begins(self) -> None:
        """A node's body begins to run in it: it may be the one that its process dies in, or soon after."""
        if self.world.body_to_die_in:
            self.world.body_to_die_in -= 1
            if not self.world.body_to_die_in:
                self.world.story.fault("crash in body", self.name)
                self.die_at(Death("", self.chance.randint(1, self.chance.choice([3, 10, 30]))))

    def spare(self) -> None:
        """Forget where it was to die."""
        self._death, self.lane.dies_at = None, 0

    def kill(self) -> None:
        """End it from one moment to the next."""
        if not self.is_dead:
            self.world.story.note(self.name, "killed")
            self.lane.kill()

    def freeze(self) -> None:
        """Stop it as a SIGSTOP does; after some time the broker gives up on its connections."""
        if self.is_dead:
            return
        self.world.story.note(self.name, "frozen")
        self.lane.freeze()
        self.pulse.freeze()
        loop = self.world.loop
        loop.call_later(BROKER_HEARTBEAT_SECONDS, self._drop_connections, context=self.queue.broker_context)

    def hang(self) -> None:
        """Stop its event loop, as a node does that blocks it; its heartbeats go on."""
        self.world.story.note(self.name, "hung")
        self.lane.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        if not self.is_dead and not self.lane.is_running:
            self.world.story.note(self.name, "goes on")
            self.lane.thaw(self.world.loop)
            self.pulse.thaw(self.world.loop)

    def heal(self) -> None:
        """Let everything pass between it and the servers and the broker."""
        for link in self.links.values():
            link.is_cut = False
        self.queue.is_cut = False

    def cut_from_broker(self) -> None:
        """Let nothing pass between it and the broker."""
        self.queue.is_cut = True
        self.world.broker.disconnect(self.name)

    def _drop_connections(self) -> None:
        if not self.lane.is_running:
            self.world.story.note(self.name, "given up by the broker")
            self.world.broker.disconnect(self.name)

    def _ended(self, main: asyncio.Task[Any]) -> None:
        self.is_closed = True
        error = None if main.cancelled() else main.exception()
        if isinstance(error, (WorkerNameTakenError, WorkerNameLostError)):
            kind = "name refused" if isinstance(error, WorkerNameTakenError) else "name lost"
            self.world.story.fault(kind, self.name)
        if error is not None and not isinstance(error, FloxideError):
            self.world.story.violation(f"process {self.name} broke: {error!r}")
        self.world.story.note(self.name, "ends", "" if error is None else f"{type(error).__name__}: {error}")

    def _died(self) -> None:
        self.pulse.kill()
        world = self.world
        world.story.fault("crash", self.name, self.lane.callbacks)
        world.bus.forget(self.lane)
        seconds = self.chance.random() * NOTICED_SECONDS
        world.loop.call_later(seconds, world.broker.disconnect, self.name, context=self.queue.broker_context)

    def _io(self, call: str) -> bool:
        number = self._calls[call] = self._calls.get(call, 0) + 1
        death = self._death
        if death is None or death.call != call or death.number != number:
            return False
        self.world.story.fault(f"crash at {call}", self.name)
        self.lane.kill()
        return True


class Bodies(Interceptor):
    """Tells a process of each body that begins in it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        """Tell it."""
        self._process.body_begins()
        return await proceed()


class Pulse(TaskHeartbeat):
    """The heartbeat of a simulated process, in a lane of its own as a real one is in a thread.

    Args:
        process: The process it vouches for.
        record: What the first beat says.
        interval_seconds: Between two beats.
        dead_after_seconds: Silence of another worker of this name that counts as its death.
    """

    def __init__(
        self, process: Process, record: WorkerRecord, interval_seconds: float, dead_after_seconds: float
    ) -> None:
        session = process.session(patience=0.0)
        super().__init__(record, session, process.clock, interval_seconds, dead_after_seconds)
        self._process = process

    async def start(self) -> None:
        """Return once the first beat is in the store."""
        tell, process = self.on_lost, self._process

        def tell_in_lane(error: Exception) -> object:
            return process.world.loop.call_soon(tell, error, context=context_of(process.lane))

        self.on_lost: Callable[[Exception], object] = tell_in_lane
        await self._in_lane(super().start())

    async def stop(self) -> None:
        """Say goodbye."""
        try:
            await self._in_lane(super().stop())
        except StoreError as error:
            self._process.world.story.note(self._process.name, "no goodbye", type(error).__name__)

    async def _in_lane(self, work: Coroutine[Any, Any, None]) -> None:
        await self._process.world.loop.create_task(work, context=context_of(self._process.pulse))


def first_record(process: Process, *, queues: tuple[str, ...], workflows: tuple[str, ...]) -> WorkerRecord:
    """Return a worker's first record; nothing of the machine the simulation runs on is in it."""
    now_ms = process.clock.now_ms()
    return WorkerRecord(
        worker_id=WorkerId(process.name), beat=0, at_ms=now_ms, started_at_ms=now_ms, host="simulated", boot="", pid=0,
        process_started="", status="starting", queues=queues, workflows=workflows, concurrency=0, life=process.life,
    )  # fmt: skip
