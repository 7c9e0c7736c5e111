"""One simulated story: the cluster, its runs, what befalls them, and the verdict on how they ended."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
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
from floxide_amqp.testing.simulation.cluster import Simulation, WorkerProcess
from floxide_amqp.testing.simulation.label_watch import labels_for_next
from floxide_amqp.testing.simulation.outage import play_outage
from floxide_amqp.testing.simulation.plan import Plan
from floxide_amqp.testing.simulation.process import Death, Process
from floxide_amqp.testing.simulation.random_pieces import Told
from floxide_amqp.testing.simulation.random_signals import OUTSIDE
from floxide_amqp.testing.simulation.rolling import Rolling
from floxide_amqp.testing.simulation.scene import Scene
from floxide_amqp.testing.simulation.starters import Starters
from floxide_amqp.testing.simulation.verdict import Verdict, check_end, let_scene_end
from floxide_amqp.testing.simulation.verdict import judge as judge_known
from floxide_amqp.testing.simulation.windows import LaterFaults, let_faults_happen


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
