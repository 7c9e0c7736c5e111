"""What must hold when the faults are over and everything is quiet: I1 to I10."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import (
    DeadLetterNotFoundError,
    FloxideError,
    InvalidRunStateError,
    ResultTimeoutError,
    RunCancelledError,
    RunDeletedError,
    RunNotFoundError,
)
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.stores.encoding import decode_payload
from floxide_amqp.testing.simulation.cluster import Simulation
from floxide_amqp.testing.simulation.names import misnamed
from floxide_amqp.testing.simulation.pruned import check_pruned
from floxide_amqp.testing.simulation.random_signals import OUTSIDE
from floxide_amqp.testing.simulation.rate_watch import check_rates
from floxide_amqp.testing.simulation.scene import UNREADABLE, Scene
from floxide_amqp.testing.simulation.undone import check_undone

MOST_SECONDS = 600.0
"""Virtual time within which every run ends once nothing goes wrong any more."""

LOOK_SECONDS = 2.0
"""Between two looks whether they have."""

LOSING = frozenset({"purge", "broker wiped", "lost tail"})
"""Faults that take away what was in a queue, or in the store, for good."""

POISON = ("PoisonError", "OutcomeUnknownError")
"""What a run may fail with here: workers died on one of its items again and again, or on one of a child's."""

SETTLE_SECONDS = 120.0
"""Virtual time within which nothing leads anywhere any more once all runs have ended."""


class Known(Protocol):
    """A value that is known beforehand, and how many steps lead to it."""

    value: int | None
    steps: int


class Started(Protocol):
    """A run that is to be started, or was."""

    run_id: str
    input: Any
    context: Any
    is_started: bool
    may_be_cancelled: bool
    must_be_cancelled: bool


class Expected(Started, Protocol):
    """A run, and what must come of it."""

    @property
    def told(self) -> Known | None:
        """What its workflow makes of its input, if it is known."""
        ...


@dataclass
class Verdict:
    """How the runs of a simulation ended."""

    completed: int = 0
    cancelled: int = 0


async def judge(world: Simulation, workflow: Any, runs: Sequence[Expected]) -> Verdict:
    """Wait until all is quiet and check everything; what does not hold goes into the story.

    Args:
        world: The simulation, calm by now.
        workflow: What all runs are of.
        runs: The runs and what must come of them; their context counts ``steps``.
    """
    story, verdict = world.story, Verdict()
    async with world.client("judge") as client:
        await let_all_end(world, client, workflow, runs)
        for run in runs:
            _check_failures(world, run)
            try:
                await _check_run(world, client, workflow, run, verdict)
            except FloxideError as error:
                story.violation(f"I1: run {run.run_id}: {type(error).__name__}: {error}")
        await check_what_is_left(world, client, workflow, runs)
        for run in runs:
            await check_pruned(world, client, workflow, run)
    return verdict


async def let_all_end(
    world: Simulation, client: Orchestrator, workflow: Any, runs: Sequence[Started], *, resumes_failed: bool = True
) -> None:
    """Wait until every run of a calm world has ended; those that nobody was told of are started, paused ones resumed.

    Args:
        world: The simulation, calm by now.
        client: Starts, resumes and waits.
        workflow: What all runs are of.
        runs: The runs.
        resumes_failed: Whether failed ones go on too.
    """
    await let_all_go_on(world, client, workflow, runs, resumes_failed=resumes_failed)
    await _wait_for_all(world, client, runs)


async def let_all_go_on(
    world: Simulation, client: Orchestrator, workflow: Any, runs: Sequence[Started], *, resumes_failed: bool = True
) -> None:
    """In a calm world, start the runs that nobody was told of and resume those that are paused."""
    for run in runs:
        await _make_sure_it_goes_on(world, client, workflow, run, resumes_failed=resumes_failed)
        await _send_again(client, workflow, run)
    await requeue_letters(world, client)


async def let_scene_end(world: Simulation, scene: Scene) -> None:
    """Have a scene acted to its end in a calm world, by somebody who does not die, and check what came of it."""
    until = world.loop.time() + MOST_SECONDS
    async with world.client("prompter") as client:
        acting = asyncio.create_task(_act_again(scene, client), name="prompter")
        while not acting.done() and world.loop.time() < until:
            await asyncio.wait({acting}, timeout=LOOK_SECONDS)
            await requeue_letters(world, client)
            world.skip_what_is_far()
        if not acting.done():
            acting.cancel()
            world.story.violation(f"I1: the scene {type(scene).__name__} has no end")
        await asyncio.wait({acting})
        if not acting.cancelled() and acting.exception() is not None:
            world.story.violation(f"the scene {type(scene).__name__} broke: {acting.exception()!r}")
        if not world.story.faults["lost tail"] and not acting.cancelled():
            for wrong in await scene.check(client, world.watch.exercised):
                world.story.violation(wrong)


async def _act_again(scene: Scene, client: Orchestrator) -> None:
    while True:
        try:
            return await scene.act(client)
        except FloxideError:
            await asyncio.sleep(LOOK_SECONDS)


async def check_what_is_left(world: Simulation, client: Orchestrator, workflow: Any, runs: Sequence[Started]) -> None:
    """I3, I5, I9, I10: of runs that have ended nothing leads anywhere, and what the store says of them fits."""
    left = await world.settle(SETTLE_SECONDS)
    if left:
        world.story.violation(f"I9: left behind: {left}")
    check_children(world)
    check_rates(world.story)
    for line in world.watch.limits.left_over():
        world.story.violation(f"I14: when all is over, somebody {line}")
    for run in runs:
        await _check_counts(world, client, run)
        _check_names(world, workflow, run)
        await check_undone(world, client, RunId(run.run_id))
    await _check_quarantine(world, client)


def check_children(world: Simulation) -> None:
    """I1: when all that was started has ended, so have the runs that these have started."""
    for run in world.watch.runs.values():
        if run.status is not None and not run.status.is_terminal:
            world.story.violation(f"I1: run {run.run_id} is {run.status.value} although every run has ended")


async def check_end(world: Simulation) -> None:
    """I9: workers that are asked to end do, and leave no tasks behind."""
    left_running = await world.stop_all()
    if left_running:
        world.story.violation(f"I9: did not end: {left_running}")


async def _make_sure_it_goes_on(
    world: Simulation, client: Orchestrator, workflow: Any, run: Started, *, resumes_failed: bool
) -> None:
    """Start it if nobody was told that it is started, and resume it if it is paused."""
    was_started = run.is_started  # by now; who starts it may be at work yet
    found = await client.services.runs.find(RunId(run.run_id))
    if found is None and (await client.services.runs.tombstone(RunId(run.run_id)))[0] is not None:
        return
    if found is None and was_started and not world.story.faults["lost tail"]:
        world.story.violation(f"I1: run {run.run_id} was acknowledged, and is lost")
    with suppress(RunDeletedError):  # since it was looked for
        await client.start(workflow, run.input, context=run.context, run_id=run.run_id)
    if not resumes_failed and found is not None and found.state.status is RunStatus.FAILED:
        return
    try:
        await client.resume(run.run_id)
    except (InvalidRunStateError, RunDeletedError):
        return


async def _send_again(client: Orchestrator, workflow: Any, run: Started) -> None:
    """Send a run what it waits for from outside: what it has accepted it does not accept twice."""
    for number in range(getattr(workflow, "outside_votes", 0)):
        with suppress(InvalidRunStateError, RunNotFoundError):
            await client.signal(run.run_id, OUTSIDE, number, signal_id=f"outside-{number}")


async def requeue_letters(world: Simulation, client: Orchestrator) -> None:
    """Do what somebody does who finds letters that are kept: let their items be tried again."""
    for letter in await client.dead_letters():
        run = world.watch.runs.get(letter.run_id)
        item = None if run is None else run.items.get(letter.item_id)
        if item is not None and item.status is WorkItemStatus.PARKED:
            world.story.fault("letter kept", letter.run_id)
            with suppress(DeadLetterNotFoundError, InvalidRunStateError):
                await client.requeue_dead_letter(letter.letter_id)


async def _resume_if_paused(client: Orchestrator, run: Started) -> None:
    """Let a run go on that somebody's last word before his end has paused: on a slow network it came late."""
    if await client.status(run.run_id) is RunStatus.PAUSED:
        with suppress(InvalidRunStateError):
            await client.resume(run.run_id)


async def _wait_for_all(world: Simulation, client: Orchestrator, runs: Sequence[Started]) -> None:
    until = world.loop.time() + MOST_SECONDS
    for run in runs:
        while True:
            try:
                await client.wait(run.run_id, timeout=LOOK_SECONDS)
                break
            except RunDeletedError:
                break
            except ResultTimeoutError:
                if world.loop.time() > until:
                    break
                await requeue_letters(world, client)
                await _resume_if_paused(client, run)
                world.skip_what_is_far()


async def _check_run(world: Simulation, client: Orchestrator, workflow: Any, run: Expected, verdict: Verdict) -> None:
    steps: int | None = None
    try:
        result = await client.handle(workflow, run.run_id).result(timeout=0.001)
        state: Any = await client.context(workflow, run.run_id)
        steps = state.steps
    except RunCancelledError:
        _check_cancelled(world, run, verdict)
        return
    except RunDeletedError:
        tombstone, _ = await client.services.runs.tombstone(RunId(run.run_id))
        if tombstone is not None and tombstone.status is RunStatus.CANCELLED:
            _check_cancelled(world, run, verdict)
            return
        result = _deleted_result(world, workflow, run.run_id)
    _check_completed(world, run, verdict, result, steps)


def _check_cancelled(world: Simulation, run: Expected, verdict: Verdict) -> None:
    verdict.cancelled += 1
    if not run.may_be_cancelled:
        world.story.violation(f"run {run.run_id} is cancelled, and nobody asked for it")


def _check_completed(world: Simulation, run: Expected, verdict: Verdict, result: Any, steps: int | None) -> None:
    story = world.story
    verdict.completed += 1
    if run.must_be_cancelled and not story.faults["lost tail"]:
        story.violation(f"run {run.run_id} was cancelled, and has completed all the same")
    if run.told is None:
        return
    if result != run.told.value:
        story.violation(f"I5: run {run.run_id} returned {result}, not {run.told.value}")
    if steps is not None and steps != run.told.steps:
        story.violation(f"I4: run {run.run_id} counted {steps} steps, not {run.told.steps}")


def _deleted_result(world: Simulation, workflow: Any, run_id: str) -> Any:
    """What a run had put out before it was deleted."""
    values = [decode_payload(graph_of(workflow).output, payload) for payload in world.watch.outputs.get(run_id, [])]
    return values[0] if len(values) == 1 else values


def _check_failures(world: Simulation, run: Expected) -> None:
    """A run fails by no node of its own here: only if workers died on one of its items again and again."""
    mirrored = world.watch.runs.get(run.run_id)
    for error in [] if mirrored is None else mirrored.failures:
        if world.story.faults["damaged record"] and error.kinds[0].endswith(UNREADABLE):
            continue
        in_child = "ChildRunFailedError" in error.kinds[0] and any(poison in error.message for poison in POISON)
        if not in_child and not any(kind.endswith(POISON) for kind in error.kinds):
            world.story.violation(f"I1: run {run.run_id} failed: {error.message}")


async def _check_counts(world: Simulation, client: Orchestrator, run: Started) -> None:
    """I3: what is counted is what there is, which of a completed run is nothing."""
    run_id = RunId(run.run_id)
    found = await client.services.runs.find(run_id)
    if found is None or found.state.status is not RunStatus.COMPLETED:
        return
    counters = world.store.counters(run.run_id, slot_of(run_id))
    open_scopes = {name: value for name, value in counters.items() if name.startswith(("n:", "jw:")) and value}
    if open_scopes or found.counts.live or found.counts.waiting:
        world.story.violation(f"I3: run {run_id} is completed and counts {open_scopes}, {found.counts}")
    mirrored = world.watch.runs.get(run_id)
    if mirrored is not None and mirrored.alive():
        left = sorted(item.item_id for item in mirrored.alive())
        world.story.violation(f"I9: run {run_id} is completed and lists {left}")


def _check_names(world: Simulation, workflow: Any, run: Started) -> None:
    """I5: every item follows from an item of the run, and is called after it."""
    mirrored = world.watch.runs.get(run.run_id)
    for item in [] if mirrored is None else misnamed(graph_of(workflow), mirrored):
        world.story.violation(f"I5: item {item.item_id} ({item.node}) of run {run.run_id} follows from nothing")


async def _check_quarantine(world: Simulation, client: Orchestrator) -> None:
    """I10: whatever nobody could read is kept, unless a purge or a wipe took it before it was delivered."""
    kept = Counter(found.body for found in await client.quarantine() if not found.source)
    for body in world.garbage:
        if not kept[body] and not LOSING.intersection(world.story.faults):
            world.story.violation(f"I10: {body!r} was dropped and nobody knows")
    for body in kept - Counter(world.garbage * 100):
        world.story.violation(f"I10: {body!r} is in quarantine, and nobody had sent it")
