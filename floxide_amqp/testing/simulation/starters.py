"""What starts runs by itself in some stories: a schedule, or a source from a queue that somebody else fills."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from floxide_amqp import AmqpSource, IteratorSource, MessageKey, Orchestrator, Overlap, Schedule, Workflow, node
from floxide_amqp.exceptions import FloxideError, ScheduleNotFoundError, SourceNotFoundError
from floxide_amqp.testing.simulation.cluster import Simulation
from floxide_amqp.testing.simulation.process import Death, Process
from floxide_amqp.testing.simulation.source_watch import QUEUE
from floxide_amqp.testing.simulation.verdict import requeue_letters

STARTERS_SHARE: Final = 0.14
"""Share of the stories that have one, about half of them a schedule."""

ITEMS: Final = 12
"""Items of an iterator."""

NAME: Final = "starter"
"""What the schedule or the source is called."""

END_SECONDS: Final = 900.0
"""Virtual time within which all that was started has ended, and nothing waits, once all is calm."""


@node
async def ticking(seconds: float) -> float:
    """Take its time."""
    await asyncio.sleep(seconds)
    return seconds


class Ticking(Workflow[float, float]):
    """What a schedule starts."""

    start = ticking


@dataclass(frozen=True)
class Sent:
    """What a message says."""

    n: int
    seconds: float


@node
async def handling(sent: Sent) -> int:
    """Take as long as the message says."""
    await asyncio.sleep(sent.seconds)
    return sent.n


class Handling(Workflow[Sent, int]):
    """What a source starts."""

    start = handling


STARTED: Final = (Ticking, Handling)
"""The workflows of what is started."""


@dataclass
class Starters:
    """What starts runs in one story.

    Attributes:
        schedule: The schedule, if there is one.
        source: The source, if there is one.
        messages: What is sent to its queue, and how often, in order.
        planner: The process that steers it.
    """

    chance: random.Random
    schedule: Schedule[float] | None = None
    source: AmqpSource[Sent] | IteratorSource[Sent, int] | None = None
    messages: Sequence[tuple[bytes, str | None]] = ()
    planner: Process | None = None

    def put_into(self, world: Simulation) -> None:
        """Let the processes of a world declare it."""
        if self.schedule is not None:
            world.settings = replace(world.settings, schedules=(self.schedule,))
        if self.source is not None:
            world.settings = replace(world.settings, sources=(self.source,))
            world.broker.foreign.add(QUEUE)
            world.watch.sources.name = self.source.name
            if isinstance(self.source, IteratorSource):
                for n in range(1, ITEMS + 1):
                    world.watch.sources.send(b"item %d" % n, str(n))

    async def act(self, world: Simulation) -> None:
        """Send messages, and steer, from a process that may die."""
        self.planner = process = world.process("planner")
        if self.chance.random() < 0.3:
            process.die_at(Death("", self.chance.randint(20, 200)))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(world))
            process.run(self._steer(world.orchestrator(process)))

    async def end(self, world: Simulation) -> None:
        """In a calm world, let everything that is to be started be started, and end; note what is not."""
        await world.wait_until(lambda: self.planner is None or not self.planner.is_up, END_SECONDS)
        async with world.client("planner at last") as client:
            if self.schedule is not None:
                await self._end_schedule(world, client)
            if self.source is not None:
                await self._end_source(world, client)

    # --- the schedule

    async def _end_schedule(self, world: Simulation, client: Orchestrator) -> None:
        watch = world.watch.schedules
        while True:
            with suppress(ScheduleNotFoundError):  # until some worker has put it
                await client.schedules.resume(NAME)
                break
            await asyncio.sleep(1.0)
        until = watch.settled_until(NAME)
        await world.wait_until(lambda: watch.settled_until(NAME) > until, END_SECONDS)
        if watch.settled_until(NAME) == until:
            world.story.violation("I16: a schedule that is not paused stands still")
        await client.schedules.pause(NAME)
        await self._wait_until(lambda: not watch.unsettled(NAME), world, client)
        for run_id in watch.unsettled(NAME):
            lost = "never began" if run_id in watch.lost() else "did not end"
            world.story.violation(f"I16: run {run_id} {lost}")

    # --- the source

    async def _send(self, world: Simulation) -> None:
        for body, key in self.messages:
            await asyncio.sleep(self.chance.choice([0.0, 0.0, 0.01, 0.5]))
            self._send_one(world, body, key)
            if key is None:  # somebody else sends what no run can be made of either, at the same moment
                self._send_one(world, body, key)

    def _send_one(self, world: Simulation, body: bytes, key: str | None) -> None:
        world.watch.sources.send(body, key)
        world.broker.inject(QUEUE, body)

    async def _end_source(self, world: Simulation, client: Orchestrator) -> None:
        watch = world.watch.sources
        while True:
            with suppress(SourceNotFoundError):
                await client.sources.resume(NAME)
                break
            await asyncio.sleep(1.0)
        self._send_what_is_lost(world)

        def is_over() -> bool:
            runs = [run for run in world.watch.runs.values() if run.run_id.startswith(f"{NAME}:")]
            is_done = all(run.status is not None and run.status.is_terminal for run in runs)
            return (
                is_done and all(watch.is_recorded(body) for body in watch.sent) and not world.broker.queues.get(QUEUE)
            )

        await self._wait_until(is_over, world, client)
        if isinstance(self.source, IteratorSource) and world.story.faults["lost tail"]:
            return  # of several servers one may have forgotten a run that another one's position counts on
        for body in watch.sent:
            if not watch.is_recorded(body):
                world.story.violation(f"I20: of {body!r} nothing has become")

    def _send_what_is_lost(self, world: Simulation) -> None:
        """Send again what was not sent yet, what a broker that was wiped, or a store that went back, has lost."""
        watch = world.watch.sources
        for body, key in self.messages:
            is_sent = body in watch.sent
            forgives = not is_sent or world.story.faults["broker wiped"] or world.story.faults["lost tail"]
            if forgives and not (is_sent and watch.is_recorded(body)) and not world.broker.has_another(body):
                self._send_one(world, body, key)

    async def _wait_until(self, is_so: Callable[[], bool], world: Simulation, client: Orchestrator) -> None:
        """Wait, and let items be tried again meanwhile whose messages the broker gave up on too often."""
        until = world.loop.time() + END_SECONDS
        while not is_so() and world.loop.time() < until:
            await requeue_letters(world, client)
            await asyncio.sleep(1.0)

    # --- whoever steers

    async def _steer(self, client: Orchestrator) -> None:
        chance = random.Random(self.chance.random())
        for number in range(chance.choice([0, 0, 2, 5])):
            await asyncio.sleep(chance.choice([0.02, 0.5, 3.0]))
            with suppress(FloxideError):
                await self._steer_once(client, chance, number)

    async def _steer_once(self, client: Orchestrator, chance: random.Random, number: int) -> None:
        steers = client.schedules if self.schedule is not None else client.sources
        if self.schedule is not None and chance.random() < 0.5:
            await client.schedules.trigger(NAME, trigger_id=str(number % 2))
            return
        await steers.pause(NAME)
        await asyncio.sleep(chance.choice([0.0, 0.5, 5.0]))
        await steers.resume(NAME)


KINDS: Final = ("schedule", "schedule", "schedule", "queue", "queue", "iterator")
"""What starts runs, drawn from."""


def draw_starters(chance: random.Random, share: float = STARTERS_SHARE, kind: str = "") -> Starters | None:
    """Draw what starts runs in a story; None for nothing, as in most.

    Args:
        chance: Draws it.
        share: In how many stories there is something.
        kind: Of what kind it is; drawn by default.
    """
    if chance.random() >= share:
        return None
    own, drawn = random.Random(chance.random()), chance.choice(KINDS)
    match kind or drawn:
        case "schedule":
            return Starters(own, schedule=_draw_schedule(chance))
        case "queue":
            return Starters(own, source=_draw_source(chance), messages=_draw_messages(chance))
        case _:
            return Starters(own, source=_draw_iterator(chance))


def in_every_story(kind: str) -> Callable[[random.Random], Starters | None]:
    """Return a draw in which every story has a ``schedule``, a ``queue`` or an ``iterator``."""
    return partial(draw_starters, share=1.0, kind=kind)


def _draw_schedule(chance: random.Random) -> Schedule[float]:
    return Schedule(
        NAME, Ticking, chance.choice([0.0, 0.0, 1.0, 8.0]), every=chance.choice([2.0, 5.0]),
        overlap=chance.choice([*Overlap]), catch_up=chance.choice([0.0, 10.0]), jitter=chance.choice([0.0, 0.0, 1.0]),
    )  # fmt: skip


def _draw_source(chance: random.Random) -> AmqpSource[Sent]:
    return AmqpSource(
        NAME, Handling, queue=QUEUE, key=MessageKey.field("n"), batch=chance.choice([1, 3, 200]),
        prefetch=chance.choice([1, 4, 500]), max_open_runs=chance.choice([1, 3, 1_000, None]),
    )  # fmt: skip


def _draw_iterator(chance: random.Random) -> IteratorSource[Sent, int]:
    pause, seconds = chance.choice([0.0, 0.1, 0.7]), chance.choice([0.0, 0.0, 1.0])

    async def items(after: int | None) -> AsyncIterator[tuple[int, Sent]]:
        for n in range((after or 0) + 1, ITEMS + 1):
            await asyncio.sleep(pause)
            yield n, Sent(n, seconds)

    return IteratorSource(
        NAME, Handling, items, batch=chance.choice([1, 3, 200]), max_open_runs=chance.choice([1, 3, 1_000, None])
    )


def _draw_messages(chance: random.Random) -> list[tuple[bytes, str | None]]:
    seconds = chance.choice([0, 0, 1])
    drawn: list[tuple[bytes, str | None]] = []
    for n in range(chance.choice([2, 6, 15])):
        is_bad = chance.random() < 0.1
        body = f'{{"n": {n}, "seconds": {seconds}' + ("" if is_bad else "}")
        drawn += [(body.encode(), None if is_bad else str(n))] * chance.choice([1, 1, 1, 2, 3])
    return drawn
