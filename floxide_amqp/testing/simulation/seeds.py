"""Plays one seed: a random workflow, random faults, and everything that must hold afterwards."""

from __future__ import annotations

import functools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from floxide_amqp.runtime.settings import Retention
from floxide_amqp.testing.simulation.cluster import Simulation
from floxide_amqp.testing.simulation.drama import Drama, RunSpec
from floxide_amqp.testing.simulation.exercised import Exercised
from floxide_amqp.testing.simulation.label_watch import LABELLED_SHARE
from floxide_amqp.testing.simulation.plan import NO_POISON, Plan, draw_plan, draw_servers
from floxide_amqp.testing.simulation.random_pieces import Told
from floxide_amqp.testing.simulation.random_workflows import random_workflow
from floxide_amqp.testing.simulation.rolling import Rolling, draw_rolling
from floxide_amqp.testing.simulation.scene import Outside
from floxide_amqp.testing.simulation.scenes import draw_scene
from floxide_amqp.testing.simulation.starters import STARTED, Starters, draw_starters
from floxide_amqp.testing.simulation.verdict import Verdict

RECIPES = 400
"""Different random workflows; a seed draws one of them, and those made are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How one seed ended.

    Attributes:
        digest: Hash of everything that happened.
        seconds: Virtual time.
        real_seconds: Time it took.
        violations: What must never happen and did; empty if all is well.
        lines: The story, if it was asked for.
        nodes: The nodes of a workflow of one's own.
        disturbed: Those of them that ran under a fault.
        exercised: What of each group of the language happened, and how often.
    """

    seed: int
    digest: str
    seconds: float
    real_seconds: float
    runs: int
    completed: int
    cancelled: int
    commits: int
    faults: Counter[str]
    violations: tuple[str, ...]
    lines: tuple[str, ...] = ()
    nodes: frozenset[str] = frozenset()
    disturbed: frozenset[str] = frozenset()
    exercised: Exercised = field(default_factory=Exercised)


@functools.lru_cache(maxsize=RECIPES)
def recipe(number: int) -> tuple[Any, Callable[[int], Told]]:
    """Return a random workflow, the same each time."""
    return random_workflow(number, hears_outside=True)


def play_seed(
    seed: int,
    *,
    is_told: bool = False,
    kinds: Sequence[str] | None = None,
    change: Callable[[Plan], Plan] = lambda plan: plan,
    draw: Callable[[random.Random], Starters | None] = draw_starters,
) -> Played:
    """Play one seed and return how it ended.

    Args:
        seed: The seed.
        is_told: Whether to keep the story.
        kinds: The kinds of faults that may happen; all by default.
        change: Changes the plan that was drawn, where something is to happen more often than it does.
        draw: Draws what starts runs by itself, where that is to be in more stories than it is.
    """
    began = time.perf_counter()
    chance = random.Random(seed)
    workflow, tell = recipe(chance.randrange(RECIPES))
    spread = random.Random(f"servers of seed {seed}")  # not of `chance`: nothing else is redrawn
    plan = change(replace(draw_plan(chance, kinds=kinds), servers=draw_servers(spread)))
    is_labelled = random.Random(f"labels of seed {seed}").random() < LABELLED_SHARE
    plan = replace(plan, is_labelled=plan.is_labelled or is_labelled)
    outside = Outside()
    scene = draw_scene(random.Random(f"scene of seed {seed}"), outside) if _has_room_for_a_scene(plan) else None
    if scene is not None:
        limits = replace(plan.settings.limits, deaths=NO_POISON)
        plan = replace(plan, settings=replace(plan.settings, limits=limits, resources={Outside: outside}))
    starters = draw(random.Random(f"starters of seed {seed}"))
    world = Simulation(
        [workflow, *(scene.workflows if scene is not None else ()), *(STARTED if starters is not None else ())],
        chance.randrange(1 << 60), settings=plan.settings, is_shuffled=plan.is_shuffled, is_told=is_told,
        servers=plan.servers,
    )  # fmt: skip
    if starters is not None:
        starters.put_into(world)
    runs = [RunSpec(f"run-{n}", x := chance.randint(0, 1000), tell(x)) for n in range(plan.runs)]
    own = random.Random(chance.random())
    drama = Drama(world, plan, workflow, own, runs, scene=scene, starters=starters)
    deploy = random.Random(f"deploy of seed {seed}")  # not of `chance` either
    policy = plan.rolling or draw_rolling(deploy)
    if policy is not None:
        drama.rolling = Rolling(workflow, policy, deploy, plan.seconds)
    return play(seed, drama, began)


def _has_room_for_a_scene(plan: Plan) -> bool:
    """Whether runs stay to be looked at, on a store that is never away for good."""
    return len(plan.servers) == 1 and plan.settings.retention == Retention()


def play(seed: int, drama: Drama, began: float) -> Played:
    """Play a simulation that is set up, and return how it ended.

    Args:
        seed: What everything in it was drawn from.
        drama: The simulation.
        began: What `time.perf_counter` showed when it was begun.
    """
    world, runs = drama.simulation, drama.runs
    broken: list[str] = []
    try:
        verdict = world.play(drama.play)
    except Exception as error:  # noqa: BLE001 - whatever ends a simulation early is a finding; its story is over by now
        verdict = Verdict()
        broken.append(f"at {world.loop.time():.3f} s: the simulation broke: {type(error).__name__}: {error}")
    story = world.story
    violations = [*story.violations, *broken, *(f"unhandled: {error}" for error in world.loop.errors)]
    return Played(
        seed=seed, digest=story.digest(), seconds=world.loop.time(), real_seconds=time.perf_counter() - began,
        runs=len(runs), completed=verdict.completed, cancelled=verdict.cancelled, commits=story.commits,
        faults=story.faults, violations=tuple(violations), lines=tuple(story.lines),
        exercised=world.watch.exercised.counts,
    )  # fmt: skip
