"""What befalls a simulated world: each kind of fault as a small program that does it and, in time, ends it.

A kind is counted in the story when it has really happened to somebody: a message dropped, a call refused, a process
killed with something in its hands.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from floxide_amqp.core.ids import RunId
from floxide_amqp.stores import keys
from floxide_amqp.testing.simulation.cluster import Simulation, WorkerProcess
from floxide_amqp.testing.simulation.process import Death
from floxide_amqp.testing.simulation.storage import StoreServer

HOUR_MS = 3_600_000

RESUMED = ("run-", "saga-")
"""What the ids of the runs begin with that somebody resumes when they have failed."""

CALLS = (
    "commit", "committed", "committed", "read", "publish", "published", "published", "ack", "ack", "scan", "broadcast"
)  # fmt: skip
"""Where in a call a process may die; the gaps of a step are more frequent."""


class Faults:
    """Does what the plan of a simulation says.

    Args:
        simulation: The world.
        chance: Draws whom it meets and how hard.
    """

    def __init__(self, simulation: Simulation, chance: random.Random) -> None:
        self._world = simulation
        self._chance = chance

    def _anyone(self) -> WorkerProcess | None:
        up = [worker for worker in self._world.working() if worker.process.lane.is_running]
        return self._chance.choice(up) if up else None

    def _server(self) -> StoreServer:
        """Return the store's server; of several, one."""
        servers = list(self._world.servers.values())
        return servers[0] if len(servers) == 1 else self._chance.choice(servers)

    # --- processes

    async def crash(self) -> None:
        """A worker is killed now."""
        worker = self._anyone()
        if worker is not None:
            worker.process.kill()

    async def crash_at_await(self) -> None:
        """A worker dies at some await of its life to come."""
        worker = self._anyone()
        if worker is not None:
            number = self._chance.randint(1, self._chance.choice([40, 600]))
            worker.process.die_at(Death("", number))

    async def crash_at_call(self) -> None:
        """A worker dies just before or just after it talks to store or broker."""
        worker = self._anyone()
        if worker is not None:
            worker.process.die_at(Death(self._chance.choice(CALLS), self._chance.choice([1, 1, 2, 3, 5, 8, 13])))

    async def crash_in_body(self) -> None:
        """Whichever worker runs one of the next bodies dies in it, or in what follows from it."""
        self._world.body_to_die_in = self._chance.choice([1, 1, 2, 2, 3, 5, 8])

    async def crash_all(self) -> None:
        """Every worker is killed at once."""
        for worker in self._world.working():
            worker.process.kill()

    async def stop(self) -> None:
        """A worker is asked to end, as a rolling upgrade does."""
        worker = self._anyone()
        if worker is not None:
            self._world.story.fault("graceful stop", worker.name)
            worker.stop()

    async def freeze(self) -> None:
        """A worker stands still, heartbeats and all, often for so long that it counts as dead; then it goes on."""
        worker = self._anyone()
        if worker is not None:
            dead_after = self._world.settings.timeouts.dead_after
            seconds = self._chance.choice([0.5, dead_after, 1.5 * dead_after, 2.5 * dead_after])
            self._world.story.fault("zombie" if seconds > dead_after else "freeze", worker.name, seconds)
            worker.process.freeze()
            await asyncio.sleep(seconds)
            worker.process.thaw()

    async def hang(self) -> None:
        """A worker's event loop hangs; its heartbeat's thread goes on."""
        worker = self._anyone()
        if worker is not None:
            self._world.story.fault("hung loop", worker.name)
            worker.process.hang()
            await asyncio.sleep(self._chance.choice([0.5, 5.0, 20.0]))
            worker.process.thaw()

    async def namesake(self) -> None:
        """A process starts under the name of a worker: of one that lives, or of one that has stood still for long."""
        worker = self._anyone()
        if worker is None:
            return
        self._world.story.fault("namesake", worker.name)
        stands_still = self._chance.random() < 0.7
        if stands_still:
            worker.process.freeze()
        self._world.start_worker(worker.name)
        if stands_still:
            dead_after = self._world.settings.timeouts.dead_after
            await asyncio.sleep(dead_after * self._chance.choice([0.5, 1.5, 2.5]))
            worker.process.thaw()

    async def jump_clock(self) -> None:
        """A worker's wall clock jumps by an hour."""
        worker = self._anyone()
        if worker is not None:
            jump = self._chance.choice([-HOUR_MS, HOUR_MS])
            self._world.story.fault("worker's clock jumped", worker.name, jump)
            worker.process.clock.skew_ms += jump

    # --- the store

    async def store_away(self) -> None:
        """Nobody reaches the store for a while."""
        weather = self._server().weather
        weather.is_away = True
        await asyncio.sleep(self._chance.choice([0.3, 3.0, 10.0, 30.0]))
        weather.is_away = False

    async def store_slow(self) -> None:
        """Calls take seconds."""
        weather = self._server().weather
        weather.slow, weather.slow_seconds = self._chance.choice([(0.05, 5.0), (0.3, 1.0), (1.0, 5.0)])
        await asyncio.sleep(10.0)
        weather.slow = 0.0

    async def store_refuses(self) -> None:
        """Some calls are refused."""
        weather = self._server().weather
        weather.refused = self._chance.choice([0.03, 0.3])
        await asyncio.sleep(5.0)
        weather.refused = 0.0

    async def store_forgets_replies(self) -> None:
        """Some replies are lost, of commits applied whole, in part or not at all."""
        weather = self._server().weather
        weather.lost_replies = self._chance.choice([0.05, 0.3])
        await asyncio.sleep(5.0)
        weather.lost_replies = 0.0

    async def store_full(self) -> None:
        """Commits are refused for want of space."""
        weather = self._server().weather
        weather.is_full = True
        await asyncio.sleep(self._chance.choice([0.2, 4.0]))
        weather.is_full = False

    async def store_crash(self) -> None:
        """The store crashes and loses what it has not synced; processes that see it come back with less begin anew.

        All its servers go back to one moment: what one alone had agreed with others would be known to these only, and
        no store promises anything of that.
        """
        servers = list(self._world.servers.values())
        for server in servers:
            server.keeps_tail = True
        try:
            await asyncio.sleep(self._chance.choice([0.02, 0.2, 1.0]))
            for process in self._world.processes:
                if not process.is_closed:
                    process.kill()
            self._world.story.fault("lost tail", "store", sum([server.lose_tail() for server in servers]))
        finally:
            for server in servers:
                server.sync()

    async def store_clock(self) -> None:
        """The store's clock jumps: for good ahead, or back and then ahead again."""
        jump, clock = self._chance.choice([-HOUR_MS, HOUR_MS]), self._server().clock
        self._world.story.fault("store's clock jumped", "store", jump)
        clock.skew_ms += jump
        if jump < 0:
            try:
                await asyncio.sleep(4.0)
            finally:
                self._world.story.note("store", "clock back", clock.now_ms())
                clock.skew_ms -= jump

    async def damage(self) -> None:
        """The record of an item that has not ended cannot be read for a while: its run fails as it is."""
        live = [
            keys.item(RunId(run.run_id), item.item_id)
            for run in self._world.watch.runs.values()
            for item in run.alive()
            if run.run_id.startswith(RESUMED)
        ]
        key = self._chance.choice(live) if live else None
        damaged = [server for server in self._world.servers.values() if key is not None and server.damage(key)]
        if not damaged:
            return
        self._world.story.fault("damaged record", "store")
        try:
            await asyncio.sleep(self._chance.choice([0.1, 1.0, 5.0]))
        finally:
            for server in damaged:
                server.repair()

    async def cut_from_store(self) -> None:
        """One process does not reach the store, though others do."""
        worker = self._anyone()
        if worker is not None:
            self._world.story.fault("cut from the store", worker.name)
            links = list(worker.process.links.values())
            link = links[0] if len(links) == 1 else self._chance.choice(links)
            link.is_cut = True
            await asyncio.sleep(self._chance.choice([1.0, 12.0, 20.0]))
            link.is_cut = False

    # --- the broker

    async def cut_from_broker(self) -> None:
        """One process does not reach the broker, though others do."""
        worker = self._anyone()
        if worker is not None:
            self._world.story.fault("cut from the broker", worker.name)
            worker.process.cut_from_broker()
            await asyncio.sleep(self._chance.choice([0.5, 6.0, 15.0]))
            worker.process.queue.is_cut = False

    async def broker_away(self) -> None:
        """The broker restarts: connections break, messages stay."""
        broker = self._world.broker
        self._world.story.fault("broker restart")
        broker.weather.is_away = True
        broker.disconnect()
        await asyncio.sleep(self._chance.choice([0.5, 6.0]))
        broker.weather.is_away = False

    async def broker_wiped(self) -> None:
        """The broker comes back with nothing: no queues, no messages."""
        broker = self._world.broker
        self._world.story.fault("broker wiped", "broker", broker.wipe())
        broker.weather.is_away = True
        await asyncio.sleep(self._chance.choice([0.0, 3.0]))
        broker.weather.is_away = False

    async def purge(self) -> None:
        """A queue is emptied."""
        queues = sorted(self._world.broker.queues.keys() - self._world.broker.foreign)
        if queues:
            queue = self._chance.choice(queues)
            self._world.story.fault("purge", "broker", queue, self._world.broker.purge(queue))

    async def disconnect(self) -> None:
        """Connections break: of one process, or of all."""
        worker = self._anyone()
        whose = None if worker is None or self._chance.random() < 0.3 else worker.name
        for _ in range(self._chance.choice([1, 1, 3])):
            if self._world.broker.disconnect(whose):
                self._world.story.fault("disconnect", whose or "all")
            await asyncio.sleep(self._chance.choice([0.05, 1.0]))

    async def block_publishers(self) -> None:
        """An alarm of the broker makes publishers wait."""
        self._world.broker.weather.is_blocked = True
        await asyncio.sleep(self._chance.choice([0.5, 3.0, 8.0]))
        self._world.broker.weather.is_blocked = False

    async def bad_messages(self) -> None:
        """Messages are lost, repeated, late, out of order, unconfirmed, unroutable, refused."""
        weather, chance = self._world.broker.weather, self._chance
        weather.dropped = chance.choice([0, 0, 0.05, 0.3])
        weather.duplicated = chance.choice([0, 0, 0.2, 1.0])
        weather.copies = chance.choice([2, 3])
        weather.delayed = chance.choice([0, 0, 0.2])
        weather.longest_delay = chance.choice([1.0, 30.0])
        weather.shuffled = chance.choice([0, 0, 0.5])
        weather.is_lifo = chance.random() < 0.2
        weather.unconfirmed = chance.choice([0, 0, 0.1])
        weather.returned = chance.choice([0, 0, 0.1])
        weather.refused = chance.choice([0, 0, 0.05])

    async def give_up(self) -> None:
        """The broker gives messages up: what waited too long, found no room, or came back too often."""
        weather, chance = self._world.broker.weather, self._chance
        weather.given_up = chance.choice([0, 0.05, 0.3, 1.0])
        weather.delivery_limit = chance.choice([0, 1, 2])
        for _ in range(weather.delivery_limit):
            await asyncio.sleep(chance.choice([0.02, 0.3]))
            self._world.broker.disconnect()

    async def garbage(self) -> None:
        """Somebody publishes what is no message."""
        queues = sorted(self._world.broker.queues.keys() - self._world.broker.foreign)
        if queues:
            body = self._chance.choice([b"", b"\xc1", b"\x93\x01\x02", b"\xc1" + self._chance.randbytes(20)])
            self._world.story.fault("garbage", "broker", body)
            self._world.garbage.append(body)
            self._world.broker.inject(self._chance.choice(queues), body)

    # --- hints

    async def bad_hints(self) -> None:
        """Control messages and events are lost, late, repeated, or gaps."""
        weather, chance = self._world.bus.weather, self._chance
        weather.lost = chance.choice([0, 0.3, 1.0])
        weather.late = chance.choice([0, 0.3])
        weather.repeated = chance.choice([0, 0.5])
        weather.gaps = chance.choice([0, 0.2])


Fault: TypeAlias = Callable[[Faults], Coroutine[Any, Any, None]]

KINDS: dict[str, Fault] = {
    "crash": Faults.crash,
    "crash at await": Faults.crash_at_await,
    "crash at call": Faults.crash_at_call,
    "crash in body": Faults.crash_in_body,
    "crash all": Faults.crash_all,
    "stop": Faults.stop,
    "freeze": Faults.freeze,
    "hang": Faults.hang,
    "namesake": Faults.namesake,
    "worker clock": Faults.jump_clock,
    "store away": Faults.store_away,
    "store slow": Faults.store_slow,
    "store refuses": Faults.store_refuses,
    "lost replies": Faults.store_forgets_replies,
    "store full": Faults.store_full,
    "store clock": Faults.store_clock,
    "store crash": Faults.store_crash,
    "cut from store": Faults.cut_from_store,
    "cut from broker": Faults.cut_from_broker,
    "broker restart": Faults.broker_away,
    "broker wiped": Faults.broker_wiped,
    "purge": Faults.purge,
    "disconnect": Faults.disconnect,
    "blocked": Faults.block_publishers,
    "bad messages": Faults.bad_messages,
    "dead letters": Faults.give_up,
    "bad hints": Faults.bad_hints,
    "garbage": Faults.garbage,
}
"""Every kind that a plan may draw, by name."""

PLANNED: dict[str, Fault] = {**KINDS, "damage": Faults.damage}
"""With those that a plan has only where it is changed so: a run that they meet fails, until somebody resumes it."""

WEIGHTS = {
    "crash at await": 4, "crash at call": 4, "crash in body": 4, "bad messages": 4, "freeze": 2, "lost replies": 2,
    "bad hints": 2,
}  # fmt: skip
"""How many times likelier than the others some kinds are."""
