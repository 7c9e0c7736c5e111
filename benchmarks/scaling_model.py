"""A simulation of client → broker → worker → store, event by event, with natural groups of commits.

Runs are kept in flight by clients, as in the contest: when one has ended, the next one is started. A process does one
thing at a time; so does a queue. A server of the store does as many as it has cores. Each process has one group of
commits under way with each server, and what comes meanwhile goes into the next one. Where everything is on one
machine, all of them share its cores in short turns.
"""

from __future__ import annotations

import functools
import math
import random
import string
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scaling_inputs import Inputs
from benchmarks.scaling_stations import Cores, Events, Groups, Station
from floxide_amqp.core.ids import SLOT_COUNT
from floxide_amqp.drivers.sharded.placement import placement

BUSY = 0.9
"""Whoever has at least so much of its time taken is what the rate ends at."""

WARM_UP = 0.3
"""So much of the runs pass before anything is counted."""

LEAST_ROUNDS = 6
"""So many times as many runs as are in flight are played at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What there is of each part.

    Attributes:
        in_flight: Runs that all clients together keep in flight.
        concurrency: Runs that a worker has in hand at a time.
        shards: Servers of the store.
        shard_cores: Of each of them.
        queues: Task queues, evenly used, each with a core of its broker.
        machine_cores: Of the one machine that all are on; None where each has its own.
    """

    steps: int
    in_flight: int
    clients: int = 1
    workers: int = 1
    shards: int = 1
    shard_cores: int = 2
    queues: int = 1
    concurrency: int = 100
    machine_cores: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a simulation.

    Attributes:
        steps_per_second: All together.
        latency_seconds: Of a run, from its start until its client has the result, on average.
        in_flight: Runs in flight, on average over time.
        busy: Of each part how much of its time its busiest one is at work, 0 to 1.
        group: Commits in a group, on average.
    """

    steps_per_second: float
    latency_seconds: float
    in_flight: float
    busy: dict[str, float]
    group: float

    @property
    def saturated(self) -> str:
        """What has no time left; the machine before the parts that share it, and "nothing" where all have some."""
        name, most = max(self.busy.items(), key=lambda each: (each[1] >= BUSY and each[0] == "machine", each[1]))
        return name if most >= BUSY else "nothing"


@functools.cache
def shard_names(number: int) -> tuple[str, ...]:
    """Return names on which the slots fall as evenly as on any of a1, a2, …, b1, b2, …, to z1, z2, …."""
    named = [tuple(f"{letter}{each}" for each in range(1, number + 1)) for letter in string.ascii_lowercase]
    return min(named, key=lambda names: max(shares(names).values()))


def shares(names: Sequence[str]) -> dict[str, float]:
    """Return which part of all runs each server has: of 64 slots those that its name draws."""
    drawn = placement(names)
    return {name: sum(drawn[slot] == name for slot in drawn if slot >= 0) / SLOT_COUNT for name in names}


def news_share(inputs: Inputs, clients: int) -> float:
    """Return how much of a worker's time goes into hearing of what other clients than the first one start."""
    return (clients - 1) * inputs.news_per_second * inputs.news_us / 1e6


def limits(inputs: Inputs, layout: Layout) -> dict[str, float]:
    """Return the steps per second at which each part would have no time left, infinite where it takes none."""
    steps = layout.steps
    left = max(0.0, 1.0 - news_share(inputs, layout.clients))
    servers = {
        "client": float(layout.clients), "worker": layout.workers * left, "broker": float(layout.queues),
        "store": layout.shard_cores / max(shares(shard_names(layout.shards)).values()),
    }  # fmt: skip
    found = {name: _rate(number, part.of(steps), steps) for (name, number), part in zip(
        servers.items(), (inputs.client, inputs.worker, inputs.broker, inputs.store), strict=True
    )}  # fmt: skip
    if layout.machine_cores is not None:
        whole = sum(part.of(steps) for part in inputs.parts().values())
        found["machine"] = _rate(layout.machine_cores, whole, steps)
    return found


def _rate(servers: float, us_per_run: float, steps: int) -> float:
    return servers * 1e6 / us_per_run * steps if us_per_run else math.inf


def simulate(inputs: Inputs, layout: Layout, *, runs: int = 4_000, seed: int = 1) -> Outcome:
    """Play so many runs; the same seed gives the same outcome."""
    return _Simulation(inputs, layout, max(runs, LEAST_ROUNDS * layout.in_flight), seed).play()


class _Simulation:
    def __init__(self, inputs: Inputs, layout: Layout, runs: int, seed: int) -> None:
        self._inputs = inputs
        self._layout = layout
        self._left = self._runs = runs
        self._chance = random.Random(seed)
        self._events = Events()
        cores = Cores(self._events, layout.machine_cores)
        self._machine = cores if layout.machine_cores is not None else None
        heard = max(1.0 - news_share(inputs, layout.clients), 0.01)
        self._clients = [Station(self._events, cores, 1) for _ in range(layout.clients)]
        self._workers = [Station(self._events, cores, 1, slowed=1 / heard) for _ in range(layout.workers)]
        self._queues = [Station(self._events, cores, 1) for _ in range(layout.queues)]
        self._shards = [Station(self._events, cores, layout.shard_cores) for _ in range(layout.shards)]
        names = shard_names(layout.shards)
        self._slots = [names.index(shard) for slot, shard in placement(names).items() if slot >= 0]
        self._of_clients = [self._groups_of(each) for each in self._clients]
        self._of_workers = [self._groups_of(each) for each in self._workers]
        self._room = [layout.concurrency] * layout.workers
        self._ready = deque[_Run]()
        self._ended = self._flying = 0
        self._latencies = 0.0
        self._flying_us, self._looked_at_us = 0.0, 0.0

    def play(self) -> Outcome:
        for number in range(min(self._layout.in_flight, self._runs)):
            self._start(self._clients[number % len(self._clients)])
        stations = self._stations()
        before: dict[str, list[float]] = {}
        began_us, counted_from = 0.0, 0
        first = int(self._runs * WARM_UP)
        # The last ones in flight are not waited for: with ever fewer of them nothing would be busy.
        until = self._runs - self._layout.in_flight
        while self._ended < until:
            self._events.happen()
            if not before and self._ended >= first:
                before = {name: [each.busy_us for each in all_of] for name, all_of in stations.items()}
                began_us, counted_from = self._events.now_us, self._ended
                self._latencies, self._flying_us, self._looked_at_us = 0.0, 0.0, self._events.now_us
        took_us, ended = self._events.now_us - began_us, self._ended - counted_from
        self._note_flying(0)
        busy = {
            name: max((each.busy_us - was) / took_us / _servers(each) for each, was in zip(
                all_of, before[name], strict=True))
            for name, all_of in stations.items()
        }  # fmt: skip
        if self._machine is not None and self._layout.machine_cores:
            busy["machine"] /= self._layout.machine_cores
        groups = [each for of_one in (*self._of_clients, *self._of_workers) for each in of_one]
        return Outcome(
            steps_per_second=ended * self._layout.steps / took_us * 1e6,
            latency_seconds=self._latencies / ended / 1e6, in_flight=self._flying_us / took_us, busy=busy,
            group=sum(each.batches for each in groups) / sum(each.groups for each in groups),
        )  # fmt: skip

    def _stations(self) -> dict[str, Sequence[Station | Cores]]:
        stations: dict[str, Sequence[Station | Cores]] = {
            "client": self._clients, "worker": self._workers, "broker": self._queues, "store": self._shards,
        }  # fmt: skip
        return stations if self._machine is None else stations | {"machine": [self._machine]}

    def _groups_of(self, process: Station) -> list[Groups]:
        return [Groups(self._events, process, shard, self._inputs) for shard in self._shards]

    def _start(self, client: Station) -> None:
        if not self._left:
            return
        self._left -= 1
        run = _Run(
            self._clients.index(client), self._slots[self._chance.randrange(len(self._slots))],
            self._left % len(self._queues), self._layout.steps, self._events.now_us,
        )  # fmt: skip
        self._note_flying(1)
        store = self._of_clients[run.client][run.shard]
        half = self._inputs.store.per_run / 2
        client.work(self._some(self._inputs.client.of(run.left) / 2), lambda: store.submit(
            half, lambda: self._queues[run.queue].work(
                self._some(self._inputs.broker.of(run.left) / 2), lambda: self._deliver(run))))  # fmt: skip

    def _deliver(self, run: _Run) -> None:
        worker = max(range(len(self._room)), key=lambda each: (self._room[each], self._chance.random()))
        if not self._room[worker]:
            self._ready.append(run)
            return
        self._room[worker] -= 1
        self._step(run, worker, self._inputs.worker.per_run)

    def _step(self, run: _Run, worker: int, first: float) -> None:
        us = self._some(first + self._inputs.worker.per_step)
        store = self._of_workers[worker][run.shard]
        self._workers[worker].work(us, lambda: store.submit(
            self._inputs.store.per_step, lambda: self._stepped(run, worker)))  # fmt: skip

    def _stepped(self, run: _Run, worker: int) -> None:
        run.left -= 1
        if run.left:
            self._step(run, worker, 0.0)
            return
        self._room[worker] += 1
        if self._ready:
            self._deliver(self._ready.popleft())
        broker = self._some(self._inputs.broker.of(self._layout.steps) / 2)
        self._queues[run.queue].work(broker, lambda: self._clients[run.client].work(
            self._some(self._inputs.client.of(self._layout.steps) / 2),
            lambda: self._of_clients[run.client][run.shard].submit(
                self._inputs.store.per_run / 2, lambda: self._end(run))))  # fmt: skip

    def _end(self, run: _Run) -> None:
        self._ended += 1
        self._latencies += self._events.now_us - run.began_us
        self._note_flying(-1)
        self._start(self._clients[run.client])

    def _note_flying(self, change: int) -> None:
        self._flying_us += self._flying * (self._events.now_us - self._looked_at_us)
        self._looked_at_us = self._events.now_us
        self._flying += change

    def _some(self, us: float) -> float:
        """Return a time around this one: half to one and a half of it."""
        return us * (0.5 + self._chance.random())


@dataclass(slots=True)
class _Run:
    client: int
    shard: int
    queue: int
    left: int
    began_us: float


def _servers(each: Station | Cores) -> int:
    return each.servers if isinstance(each, Station) else 1
