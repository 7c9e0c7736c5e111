"""Plays one seed: a random workflow, random faults, and everything that must hold afterwards."""

from __future__ import annotations

import asyncio
import functools
import random
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from floxide_amqp.exceptions import (
    FloxideError,
    InvalidRunStateError,
    RunConflictError,
    RunDeletedError,
    RunNotFoundError,
)
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.settings import Retention
from floxide_amqp.testing.simulation.cluster import Simulation, WorkerProcess
from floxide_amqp.testing.simulation.exercised import Exercised
from floxide_amqp.testing.simulation.label_watch import LABELLED_SHARE, labels_for_next
from floxide_amqp.testing.simulation.outage import play_outage
from floxide_amqp.testing.simulation.plan import NO_POISON, Plan, draw_plan, draw_servers
from floxide_amqp.testing.simulation.process import Death, Process
from floxide_amqp.testing.simulation.random_pieces import Told
from floxide_amqp.testing.simulation.random_signals import OUTSIDE
from floxide_amqp.testing.simulation.random_workflows import random_workflow
from floxide_amqp.testing.simulation.rolling import Rolling, draw_rolling
from floxide_amqp.testing.simulation.scenes import Outside, Scene, draw_scene
from floxide_amqp.testing.simulation.starters import STARTED, Starters, draw_starters
from floxide_amqp.testing.simulation.verdict import Verdict, check_end, let_scene_end
from floxide_amqp.testing.simulation.verdict import judge as judge_known
from floxide_amqp.testing.simulation.windows import LaterFaults, let_faults_happen

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


@dataclass
class RunSpec:
    """A run to be started, and what must come of it, if that is known."""

    run_id: str
    input: Any
    told: Told | None = None
    context: Any = None
    is_started: bool = False
    may_be_cancelled: bool = False
    must_be_cancelled: bool = False


Judge: TypeAlias = Callable[[Simulation, Any, Sequence[RunSpec]], Awaitable[Verdict]]
"""Waits until all is quiet in a calm world and notes in its story what does not hold of these runs of a workflow."""


@dataclass
class Drama:
    """One seed's simulation, and the people in it who start and steer runs."""

    simulation: Simulation
    plan: Plan
    workflow: Any
    chance: random.Random
    runs: list[RunSpec] = field(default_factory=list[RunSpec])
    judge: Judge = judge_known
    later: LaterFaults | None = None
    scene: Scene | None = None
    starters: Starters | None = None
    rolling: Rolling | None = None

    async def play(self) -> Verdict:
        """Let everything happen, then judge it."""
        world, plan = self.simulation, self.plan
        background = [
            asyncio.create_task(self._keep_workers(), name="supervisor"),
            asyncio.create_task(
                let_faults_happen(world, random.Random(self.chance.random()), plan.faults), name="faults"
            ),
            *(asyncio.create_task(self._keep_client(number), name="clients") for number in range(plan.clients)),
            asyncio.create_task(self._steer(), name="steering"),
        ]
        if self.scene is not None:
            background.append(asyncio.create_task(self._keep_scene(self.scene), name="scene"))
        if self.rolling is not None:
            background.append(asyncio.create_task(self.rolling.act(world, self._at_work), name="rolling"))
        if self.starters is not None:
            background.append(asyncio.create_task(self.starters.act(world), name="starters"))
        await asyncio.sleep(plan.seconds)
        for task in background[1:]:
            task.cancel()
        await asyncio.gather(*background[1:], return_exceptions=True)
        world.calm()
        for task in background:
            if task.done() and not task.cancelled() and task.exception() is not None:
                world.story.violation(f"{task.get_name()}: {task.exception()!r}")
        if self.rolling is not None:
            self.rolling.end(world, self._at_work())
        if self.starters is not None:
            await self.starters.end(world)
        if len(world.servers) > 1:
            await play_outage(world, random.Random(self.chance.random()), self.workflow, self.runs)
        if self.later is not None:
            await self.later.play()
        if self.scene is not None:
            await let_scene_end(world, self.scene)
        verdict = await self.judge(world, self.workflow, self.runs)
        background[0].cancel()
        await check_end(world)
        return verdict

    # --- processes that are kept running

    async def _keep_workers(self) -> None:
        names = 0
        while True:
            for _ in range(self.plan.workers - len(self._working())):
                names += 1
                name = f"worker-{names}"
                gone = [worker.name for worker in self.simulation.workers if not worker.process.is_up]
                if gone and self.chance.random() < 0.5:
                    name = self.chance.choice(gone)
                skew = self.plan.skews_ms[names % len(self.plan.skews_ms)]
                known = self.simulation.workflows
                workflows = known if self.rolling is None else self.rolling.workflows(known)
                self.simulation.start_worker(name, skew_ms=skew, labels=self._labels(), workflows=workflows)
            await asyncio.sleep(self.chance.choice([0.2, 1.0]))

    def _labels(self) -> AbstractSet[str] | None:
        """What the next worker has; None for whatever is asked for."""
        if not self.plan.is_labelled:
            return None
        working = [worker for worker in self.simulation.working() if not worker.process.is_stopping]
        served = frozenset(queue for worker in working for queue in worker.worker.queues)
        return labels_for_next(Registry(self.simulation.workflows), served)

    def _working(self) -> list[str]:
        return [worker.name for worker in self._at_work()]

    def _at_work(self) -> list[WorkerProcess]:
        return [worker for worker in self.simulation.working() if not worker.process.is_stopping]

    async def _keep_client(self, number: int) -> None:
        """Start all runs, from a process that may die on the way; then from another."""
        for life in range(self.plan.client_deaths + 1):
            process = self.simulation.process(f"client-{number}-{life}")
            if life < self.plan.client_deaths:
                call = self.chance.choice(["committed", "commit", "publish", "published", "broadcast", ""])
                process.die_at(Death(call, self.chance.randint(1, 4) if call else self.chance.randint(1, 60)))
            main = process.run(self._start_all(process))
            while process.is_up:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
            if main.done():
                return
            await asyncio.sleep(self.chance.choice([0.0, 0.3]))

    async def _start_all(self, process: Process) -> None:
        async with self.simulation.orchestrator(process).open() as client:
            for run in self.runs:
                while not await self._start(client, run):  # noqa: ASYNC110 - time is virtual
                    await asyncio.sleep(0.5)
            await self._send_all(client)
            for run in self.runs:
                while not await self._wait(client, run):  # noqa: ASYNC110 - time is virtual
                    await asyncio.sleep(0.5)

    async def _start(self, client: Orchestrator, run: RunSpec) -> bool:
        try:
            await client.start(
                self.workflow, run.input, context=run.context, run_id=run.run_id, attributes={"run": run.run_id},
                dedupe_key=self._key_of(run),
            )  # fmt: skip
        except RunDeletedError:
            return True
        except FloxideError:
            return False
        run.is_started = True
        await self._start_by_key(client, run)
        if run.told is not None and self.chance.random() < 0.1:
            await self._start_another(client, run)
        return True

    def _key_of(self, run: RunSpec) -> str | None:
        """Return the key by which a run is told apart; about each third has one."""
        return run.run_id if zlib.crc32(f"{run.run_id}:{run.input}".encode()) % 3 == 0 else None

    async def _start_by_key(self, client: Orchestrator, run: RunSpec) -> None:
        """Whoever starts another run with the key of this one gets this one."""
        key = self._key_of(run)
        if key is None:
            return
        try:
            same = await client.start(self.workflow, run.input, context=run.context, dedupe_key=key)
        except FloxideError:
            return
        self.simulation.story.fault("deduplicated start", run.run_id)
        if (same.run_id, same.deduplicated) != (run.run_id, True):
            self.simulation.story.violation(f"I16: the key of run {run.run_id} led to run {same.run_id}")

    async def _send_all(self, client: Orchestrator) -> None:
        """Send every run what its workflow waits for from outside, early, late, and some of it twice."""
        sent = [
            (run, number)
            for run in self.runs
            for number in range(getattr(self.workflow, "outside_votes", 0))
            for _ in range(self.chance.choice([1, 1, 2]))
        ]
        self.chance.shuffle(sent)
        for run, number in sent:
            await asyncio.sleep(self.chance.choice([0.0, 0.0, 0.05, 1.0]))
            with suppress(FloxideError):  # the judge sends again what did not arrive
                if await client.signal(run.run_id, OUTSIDE, number, signal_id=f"outside-{number}"):
                    self.simulation.story.fault("signal", run.run_id)

    async def _start_another(self, client: Orchestrator, run: RunSpec) -> None:
        try:
            await client.start(self.workflow, run.input + 1, run_id=run.run_id)
        except RunConflictError:
            self.simulation.story.fault("conflicting start", run.run_id)
        except FloxideError:
            return
        else:
            self.simulation.story.violation(f"run {run.run_id} was started with two inputs")

    async def _wait(self, client: Orchestrator, run: RunSpec) -> bool:
        try:
            await client.wait(run.run_id)
        except RunDeletedError:
            return True
        except FloxideError:
            return False
        return True

    async def _keep_scene(self, scene: Scene) -> None:
        """Have a scene acted, by a process that may die, and then by another."""
        chance = random.Random(self.chance.random())
        for life in range(2):
            process = self.simulation.process(f"actor-{life}")
            if not life:
                process.die_at(Death(chance.choice(["committed", "commit", ""]), chance.randint(1, 30)))
            process.run(self._act(process, scene))
            try:
                while process.is_up:  # noqa: ASYNC110 - time is virtual
                    await asyncio.sleep(0.1)
            finally:
                process.kill()  # at the end of the story: nobody acts beside who plays the scene to its end then

    async def _act(self, process: Process, scene: Scene) -> None:
        async with self.simulation.orchestrator(process).open() as client:
            while True:
                try:
                    return await scene.act(client)
                except FloxideError:
                    await asyncio.sleep(0.5)

    # --- those who steer

    async def _steer(self) -> None:
        """Pause, resume and cancel runs by storms, from one process."""
        if not self.plan.steering:
            return
        process = self.simulation.process("operator")
        main = process.run(self._steering(process))
        if self.chance.random() < 0.3:
            process.die_at(Death("", self.chance.randint(20, 200)))
        try:
            while process.is_up:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
        finally:
            process.kill()  # at the end of the story: nobody pauses what is to come to its end then
        if main.done():
            main.result()

    async def _steering(self, process: Process) -> None:
        chance = random.Random(process.chance.random())
        async with self.simulation.orchestrator(process).open() as client:
            for _ in range(self.plan.steering):
                await asyncio.sleep(chance.choice([0.0, 0.02, 0.5]))
                await self._steer_one(client, chance.choice(self.runs), chance)

    async def _steer_one(self, client: Orchestrator, run: RunSpec, chance: random.Random) -> None:
        story = self.simulation.story
        try:
            deeds = ["pause", "pause", "resume", "cancel" if self.plan.may_cancel else "pause"]
            match chance.choice([*deeds, *(("terminate", "retry", "cancel") if self.plan.is_stormy else ())]):
                case "pause":
                    await client.pause(run.run_id)
                    story.fault("pause", "operator", run.run_id)
                    await asyncio.sleep(chance.choice([0.0, 0.02, 2.0]))
                    await client.resume(run.run_id)
                case "resume":
                    await client.resume(run.run_id)
                case "retry":
                    await client.retry(run.run_id)
                    story.fault("retry", "operator", run.run_id)
                case deed:
                    run.may_be_cancelled = True
                    if await (client.terminate if deed == "terminate" else client.cancel)(run.run_id):
                        run.must_be_cancelled = True
                        story.fault(deed, "operator", run.run_id)
        except (RunNotFoundError, InvalidRunStateError):
            return
        except FloxideError as error:
            story.note("operator", "met", type(error).__name__)


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
