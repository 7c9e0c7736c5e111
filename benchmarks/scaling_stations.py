"""What a simulation of scaling is made of: events in the order of time, cores, stations, and groups of commits."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from benchmarks.scaling_inputs import Inputs
from floxide_amqp.stores.session import MAX_GROUP

TURN_US = 1_000.0
"""Longest time that one of many has a core of a shared machine before the next one gets it."""

Done = Callable[[], None]


class Events:
    """What will happen, in the order of time."""

    def __init__(self) -> None:
        self.now_us = 0.0
        self._coming: list[tuple[float, int, Done]] = []
        self._number = count()

    def after(self, us: float, act: Done) -> None:
        heapq.heappush(self._coming, (self.now_us + us, next(self._number), act))

    def happen(self) -> None:
        self.now_us, _, act = heapq.heappop(self._coming)
        act()


class Cores:
    """The cores of a machine, taken in turns; without a number, there is always one more."""

    def __init__(self, events: Events, number: int | None) -> None:
        self._events = events
        self._free = number
        self._waiting = deque[tuple[float, Done]]()
        self.busy_us = 0.0

    def work(self, us: float, done: Done) -> None:
        if self._free is None:
            self._events.after(us, done)
        elif self._free:
            self._free -= 1
            self._turn(us, done)
        else:
            self._waiting.append((us, done))

    def _turn(self, us: float, done: Done) -> None:
        now = min(us, TURN_US)
        self.busy_us += now
        self._events.after(now, lambda: self._end_turn(us - now, done))

    def _end_turn(self, left: float, done: Done) -> None:
        if left > 0:
            self._waiting.append((left, done))
        if self._waiting:
            self._turn(*self._waiting.popleft())
        elif self._free is not None:
            self._free += 1
        if left <= 0:
            done()


class Station:
    """One that works: a process, a queue, or a server with several cores. It is busy while it waits for a core, too."""

    def __init__(self, events: Events, cores: Cores, servers: int, *, slowed: float = 1.0) -> None:
        self._events = events
        self._cores = cores
        self._free = self.servers = servers
        self._slowed = slowed
        self._waiting = deque[tuple[float, Done]]()
        self.busy_us = 0.0

    def work(self, us: float, done: Done) -> None:
        if self._free:
            self._free -= 1
            self._begin(us * self._slowed, done)
        else:
            self._waiting.append((us * self._slowed, done))

    def _begin(self, us: float, done: Done) -> None:
        began_us = self._events.now_us
        self._cores.work(us, lambda: self._end(began_us, done))

    def _end(self, began_us: float, done: Done) -> None:
        self.busy_us += self._events.now_us - began_us
        if self._waiting:
            self._begin(*self._waiting.popleft())
        else:
            self._free += 1
        done()


class Groups:
    """What one process sends to one server: one group under way, and the next one gathering."""

    def __init__(self, events: Events, process: Station, server: Station, inputs: Inputs) -> None:
        self._events = events
        self._process = process
        self._server = server
        self._inputs = inputs
        self._gathered: list[tuple[float, Done]] = []
        self._is_under_way = False
        self.groups = self.batches = 0

    def submit(self, us: float, done: Done) -> None:
        self._gathered.append((us, done))
        if not self._is_under_way:
            self._is_under_way = True
            self._process.work(self._inputs.worker_us_per_group, self._send)

    def _send(self) -> None:
        group, self._gathered = self._gathered[:MAX_GROUP], self._gathered[MAX_GROUP:]
        self.groups += 1
        self.batches += len(group)
        us = self._inputs.store_us_per_group + sum(each for each, _ in group)
        wait = self._inputs.group_us
        self._server.work(us, lambda: self._events.after(wait, lambda: self._answered(group)))

    def _answered(self, group: list[tuple[float, Done]]) -> None:
        self._is_under_way = bool(self._gathered)
        if self._gathered:
            self._process.work(self._inputs.worker_us_per_group, self._send)
        for _, done in group:
            done()
