"""Small plays beside the random workflows of a seed: what clients do to runs, and what must have come of it.

Random workflows show what nodes can say; a scene shows what people do: sagas that fail or are stopped, retries, forks
and other things done by hand, starts that are delayed, deadlines, runs that are followed as they go. A scene is acted
by a process that may die, and then by another from the beginning: all of it is idempotent by the ids of its runs.
"""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from floxide_amqp import (
    Abort,
    Append,
    Compensation,
    Context,
    Hold,
    InvalidRunStateError,
    ItemEnded,
    NoContext,
    Orchestrator,
    RunEvent,
    RunStatus,
    Signal,
    Workflow,
    WorkflowCtx,
    WorkItemNotFoundError,
    node,
)
from floxide_amqp.testing.simulation.exercised import SEARCH, TIMERS, ExerciseWatch

SHARE = 0.3
"""Share of the seeds in which there is a scene."""

LOOK_SECONDS = 0.2
DELAY_SECONDS = 0.4

NEVER = Signal("never", str)
"""What some runs wait for, in vain."""


@dataclass
class Outside:
    """What nodes did to the world outside: the keys of steps, in the order of time."""

    did: list[str] = field(default_factory=list[str])
    undid: list[str] = field(default_factory=list[str])


class Scene(Protocol):
    """Something that clients do.

    Attributes:
        workflows: What its runs are of.
    """

    workflows: Sequence[Any]

    @abstractmethod
    async def act(self, client: Orchestrator) -> None:
        """Do it, or do it again, and wait until the runs have ended."""
        ...

    @abstractmethod
    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """Return what does not hold when all have ended, and count what no commit tells."""
        ...


def draw_scene(chance: random.Random, outside: Outside) -> Scene | None:
    """Draw a scene for a seed, or none."""
    if chance.random() >= SHARE:
        return None
    return chance.choice([lambda: Sagas(outside, chance.random()), ByHand, Times, Followed])()


# --- sagas


class RefusedError(Exception):
    """What a run fails with, on purpose."""


@node
async def undo(ctx: WorkflowCtx[NoContext], of: Compensation[str, str]) -> None:
    """Undo a booking."""
    ctx.resource(Outside).undid.append(of.idempotency_key)


@node(compensation=undo)
async def book(ctx: WorkflowCtx[NoContext], plan: str) -> str:
    """Book something."""
    ctx.resource(Outside).did.append(ctx.idempotency_key)
    await ctx.sleep(0.02)
    return plan


@node
async def decide(plan: str) -> str | Hold | Abort:
    """End as the plan says, or wait for somebody to end it."""
    if plan == "failed":
        return Abort(RefusedError(plan))
    return plan if plan == "kept" else Hold(until=NEVER)


class Travelling(Workflow[str, str]):
    """Books three things."""

    start = book.named("flight")
    edges = (book.named("flight") >> book.named("hotel") >> book.named("car") >> decide,)


class Sagas(Scene):
    """Runs that fail, are cancelled, terminated, or go well: what each did is undone as promised.

    Args:
        outside: What their nodes did.
        moment: How soon they are stopped, 0 to 1.
    """

    workflows = (Travelling,)
    ends: Mapping[str, Any] = {
        "kept": RunStatus.COMPLETED, "failed": RunStatus.FAILED, "cancelled": RunStatus.CANCELLED,
        "terminated": RunStatus.CANCELLED,
    }  # fmt: skip

    def __init__(self, outside: Outside, moment: float) -> None:
        self._outside = outside
        self._moment = moment

    async def act(self, client: Orchestrator) -> None:
        """Start them, stop two, and wait."""
        for plan in self.ends:
            await client.start(Travelling, plan, run_id=f"saga-{plan}")
        await asyncio.sleep(self._moment * 0.3)
        await client.cancel("saga-cancelled")
        await client.terminate("saga-terminated")
        for plan in self.ends:
            await client.wait(f"saga-{plan}")

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """I12, as the world outside saw it."""
        wrong: list[str] = []
        for plan, end in self.ends.items():
            run_id = f"saga-{plan}"
            status = await client.status(run_id)
            did, undid = (_firsts(each, run_id) for each in (self._outside.did, self._outside.undid))
            if status is not end:
                wrong.append(f"I1: run {run_id} is {status.value}, and should be {end.value}")
            if plan in ("kept", "terminated"):
                wrong += [f"I12: {key} was undone, and was not to be" for key in undid]
                continue
            wrong += [f"I12: {key} was done in a run that is {status.value}, and never undone" for key in did
                      if key not in undid]  # fmt: skip
            order = [key for key in undid if key in did]
            if order != [key for key in reversed(did) if key in undid]:
                wrong.append(f"I12: run {run_id} did {did}, and undid {order}")
        return wrong


def _firsts(keys: Sequence[str], run_id: str) -> list[str]:
    """The keys of a run, each where it was noted first."""
    return list(dict.fromkeys(key for key in keys if key.startswith(f"{run_id}:")))


# --- by hand


class Steps(Context):
    """Which steps there were."""

    names: Annotated[list[str], Append()] = []  # noqa: RUF012 - defaults are copied per run


@node
async def measure(ctx: WorkflowCtx[Steps], number: int) -> int:
    """Add one."""
    ctx.state.names.append("measure")
    return number + 1


@node
async def judge(ctx: WorkflowCtx[Steps], number: int) -> int | Hold | Abort:
    """Fail below zero, wait at zero."""
    ctx.state.names.append("judge")
    if number < 0:
        return Abort(RefusedError(str(number)))
    return number or Hold(until=NEVER)


@node
async def tell(ctx: WorkflowCtx[Steps], number: int) -> str:
    """Tell how it came about."""
    return f"{number} after {', '.join(ctx.state.names)}"


class Judging(Workflow[int, str, Steps]):
    """Three steps."""

    start = measure
    edges = (measure >> judge >> tell,)


class ByHand(Scene):
    """Runs that are retried with another input, forked, gone on with by hand, and given their output."""

    workflows = (Judging,)
    ends: Mapping[str, Any] = {
        "hand-retried": "7 after measure, judge",
        "hand-forked": "4 after measure, judge",
        "hand-fork": "40 after measure, judge",
        "hand-completed": "9 after measure, judge, hand",
        "hand-given": "by hand",
    }

    async def act(self, client: Orchestrator) -> None:
        """Start them, do it, and wait."""
        for run_id, number in {"hand-retried": -5, "hand-forked": 3, "hand-completed": -1, "hand-given": -1}.items():
            await client.start(Judging, number, run_id=run_id)
        await client.wait("hand-retried")
        with suppress(InvalidRunStateError):
            await client.retry("hand-retried", input=7)
        await client.wait("hand-forked")
        (item,) = [each for each in await client.work_items("hand-forked") if each.node == "judge"]
        await client.fork(Judging, "hand-forked", from_item=item.item_id, new_run_id="hand-fork", input=40)
        await self._complete(client)
        await self._give(client)
        for run_id in self.ends:
            await client.wait(run_id)

    async def _complete(self, client: Orchestrator) -> None:
        await _until_held(client, "hand-completed")
        with suppress(InvalidRunStateError, WorkItemNotFoundError):  # somebody before this one did
            await client.pause("hand-completed")
            await client.edit_context(Judging, "hand-completed", _add_hand)
            for item in await client.pending_work("hand-completed"):
                await client.complete_item("hand-completed", item.item_id, 9)
        with suppress(InvalidRunStateError):
            await client.resume("hand-completed")

    async def _give(self, client: Orchestrator) -> None:
        await _until_held(client, "hand-given")
        with suppress(InvalidRunStateError):
            await client.complete("hand-given", "by hand")

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """Each came to what hands made of it."""
        results = {run_id: await client.handle(Judging, run_id).result() for run_id in self.ends}
        return [f"I5: run {run_id} returned {found!r}, not {self.ends[run_id]!r}" for run_id, found in results.items()
                if found != self.ends[run_id]]  # fmt: skip


def _add_hand(state: Steps) -> None:
    if "hand" not in state.names:
        state.names.append("hand")


async def _until_held(client: Orchestrator, run_id: str) -> None:
    """Wait until the judge of a run waits, or somebody did something about it."""
    while True:
        if (await client.status(run_id)) in (RunStatus.PAUSED, RunStatus.COMPLETED):
            return
        if any(item.node == "judge" and item.status.value == "held" for item in await client.pending_work(run_id)):
            return
        await asyncio.sleep(LOOK_SECONDS)


# --- times


class Times(Scene):
    """A run that begins later, and one that is over too late."""

    workflows = (Judging,)

    async def act(self, client: Orchestrator) -> None:
        """Start them and wait."""
        await client.start(Judging, 1, run_id="time-delayed", delay=DELAY_SECONDS)
        await client.start(Judging, -1, run_id="time-deadline", timeout=DELAY_SECONDS)
        await client.wait("time-delayed")
        await client.wait("time-deadline")

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """The one completed, the other failed by its time."""
        wrong: list[str] = []
        for run_id, end in {"time-delayed": RunStatus.COMPLETED, "time-deadline": RunStatus.FAILED}.items():
            info = await client.run_info(run_id)
            if info.status is not end or (end is RunStatus.FAILED and "Timeout" not in info.failure):
                wrong.append(f"I1: run {run_id} is {info.status.value}: {info.failure}")
        watch.count(TIMERS, "deadlines")
        return wrong


# --- following


class Followed(Scene):
    """A run that is followed as it goes, found by its attributes and looked at."""

    workflows = (Judging,)

    def __init__(self) -> None:
        self._heard: list[RunEvent] = []

    async def act(self, client: Orchestrator) -> None:
        """Start it, and hear its events, behind those that were heard before."""
        await client.start(Judging, 1, run_id="followed", attributes={"scene": "followed"})
        after = self._heard[-1].position if self._heard else ""
        async for event in client.events("followed", after=after):
            self._heard.append(event)

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """Its events were what its history says, each once."""
        wrong: list[str] = []
        heard = [event.item_id for event in self._heard if isinstance(event, ItemEnded)]
        history = [item.item_id for item in await client.work_items("followed")]
        kinds = [type(event).__name__ for event in self._heard]
        if heard != history or kinds[:1] != ["RunStarted"] or kinds[-1:] != ["RunEnded"]:
            wrong.append(f"I5: who followed the run heard {kinds} of {heard}, and {history} ended")
        found = await client.list_runs(attributes={"scene": "followed"})
        view = await client.query(Judging, "followed")
        if [run.run_id for run in found.runs] != ["followed"] or view.status is not RunStatus.COMPLETED:
            wrong.append(f"I12: a list by attributes has {found.runs}, and the run is seen as {view.status.value}")
        watch.counts[SEARCH, "events heard"] += len(self._heard)
        watch.count(SEARCH, "lists by attributes")
        watch.count(SEARCH, "views")
        return wrong
