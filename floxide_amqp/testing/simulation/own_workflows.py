"""Plays a workflow of yours under faults and crashes: `simulate`.

Real workers, orchestrators and maintenance run it in a simulated world, once per seed, while workers are killed at any
await, messages are lost, repeated and late, and store and broker are away. What your nodes do to the outside goes to
the fakes you hand in, which outlive every worker, as a bank does. When all is quiet, you say what must hold.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeGuard, TypeVar

from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import ConfigurationError, FloxideError
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.registry import Registry, graph_of
from floxide_amqp.runtime.resources import Resources
from floxide_amqp.runtime.settings import Retention
from floxide_amqp.runtime.start import Start
from floxide_amqp.testing.simulation.cluster import Simulation
from floxide_amqp.testing.simulation.drama import Drama, RunSpec
from floxide_amqp.testing.simulation.endings import EndedRun, Ending, SimulationFailedError
from floxide_amqp.testing.simulation.exposure import Exposure
from floxide_amqp.testing.simulation.faults import KINDS
from floxide_amqp.testing.simulation.plan import NO_POISON, Plan, draw_plan
from floxide_amqp.testing.simulation.report import Totals
from floxide_amqp.testing.simulation.seeds import Played, play
from floxide_amqp.testing.simulation.undone import check_bodies_undone
from floxide_amqp.testing.simulation.verdict import Verdict, check_what_is_left, let_all_end
from floxide_amqp.testing.simulation.windows import LaterFaults

InT = TypeVar("InT")
OutT = TypeVar("OutT")

SEED_VARIABLE = "FLOXIDE_SIMULATION_SEED"
"""Environment variable that makes every `simulate` play this one seed and tell its story."""

DEFAULT_SEEDS = range(100)
"""Seeds that are played if none are given: some seconds for a small workflow."""

OWN_FAULTS = tuple(kind for kind in KINDS if kind not in ("worker clock", "store clock", "garbage"))
"""Faults that befall a workflow if none are named: all but wrong clocks, which move its deadlines, and strangers."""


def simulate(
    workflow: type[WorkflowDefinition[InT, OutT, Any]],
    *inputs: InT | Start[InT],
    check: Callable[[Ending[OutT]], object] | None = None,
    resources: Callable[[], Mapping[type, object]] = dict[type, object],
    seeds: Iterable[int] = DEFAULT_SEEDS,
    faults: Sequence[str] = OWN_FAULTS,
    cancels: bool = False,
    storms: bool = False,
    retry: RetryPolicy = NO_RETRY,
    is_told: bool = False,
) -> Totals:
    """Run a workflow under faults and crashes, once per seed, and check each time what came of it.

    Faults happen in the first seconds of a story, and again each time a run goes on after a long wait: time in which
    nothing happens is skipped. What it returns names the nodes that never ran under a fault
    (`Totals.never_under_fault`).

    It blocks and has an event loop of its own: call it from a plain test function. With the environment variable
    ``FLOXIDE_SIMULATION_SEED`` it plays that seed only, and tells its story.

    Args:
        workflow: The workflow.
        inputs: One run is started for each: an input, or a `Start` with input, context and id.
        check: Says what must hold in the end, by raising an error such as an ``assert``'s. Without it the runs must
            complete.
        resources: Makes what nodes get from ``ctx.resource(...)``, by type, anew for each seed: fakes of the world
            outside, which all workers share and no crash ends.
        seeds: The seeds to play.
        faults: Kinds of faults that may happen; see `floxide_amqp.testing.simulation.faults.KINDS`.
        cancels: Whether runs are cancelled on the way, besides being paused and resumed.
        storms: Whether runs are paused, resumed, cancelled, terminated and retried all the time.
        retry: Policy of nodes for which neither they nor their workflow have one, as of `Floxide`.
        is_told: Whether the story of each seed is written to the standard output.

    Returns:
        What was played: seeds, simulated time, faults by kind.

    Raises:
        SimulationFailedError: A seed shows a bug; the message names it, and how to play it again.
        ConfigurationError: There is no input or no seed, a fault or a resource that nodes need is unknown, or an event
            loop is running here already.
        ResourceNotFoundError: A node asked for a resource that it does not declare and that `resources` lacks.
    """
    if not inputs:
        raise ConfigurationError("simulate(...) needs at least one input: simulate(Shop, 'book').")
    if asyncio._get_running_loop() is not None:  # pyright: ignore[reportPrivateUsage]  # None instead of an error
        raise ConfigurationError(
            "simulate(...) has an event loop of its own: call it from a plain function, or with asyncio.to_thread."
        )
    _check_faults(faults)
    _check_resources(workflow, resources())
    alone = _seed_of_environment()
    chosen = list(seeds) if alone is None else [alone]
    if not chosen:
        raise ConfigurationError("simulate(..., seeds=...) has no seed, so nothing would be played: seeds=range(100).")
    own = _OwnWorkflow(
        workflow=workflow, inputs=inputs, check=check or _results, resources=resources, faults=tuple(faults),
        cancels=cancels, storms=storms, retry=retry,
    )  # fmt: skip
    totals = Totals()
    for seed in chosen:
        totals.add(own.play_seed(seed, is_told=is_told or alone is not None))
    return totals


def _results(ending: Ending[Any]) -> object:
    return ending.results


@dataclass(frozen=True, kw_only=True)
class _OwnWorkflow(Generic[OutT]):
    """A workflow, and what is to be simulated of it."""

    workflow: type[WorkflowDefinition[Any, OutT, Any]]
    inputs: Sequence[Any]
    check: Callable[[Ending[OutT]], object]
    resources: Callable[[], Mapping[type, object]]
    faults: tuple[str, ...]
    cancels: bool
    storms: bool
    retry: RetryPolicy

    def play_seed(self, seed: int, *, is_told: bool) -> Played:
        """Play one seed, and raise what it shows."""
        began, chance = time.perf_counter(), random.Random(seed)
        fakes = dict(self.resources())
        plan = self._plan(chance, fakes)
        world = Simulation(
            [self.workflow], chance.randrange(1 << 60), settings=plan.settings, is_shuffled=plan.is_shuffled,
        )  # fmt: skip
        exposure = _expose(world)
        ended: list[EndedRun[OutT]] = []
        runs = [_spec(number, given) for number, given in enumerate(self.inputs)]
        drama = Drama(
            world, plan, self.workflow, random.Random(chance.random()), runs, judge=_Witness(ended, exposure).judge,
            later=LaterFaults(world, random.Random(chance.random()), self.workflow, runs, self.faults),
        )  # fmt: skip
        with _drawn_from(seed):
            played = play(seed, drama, began)
        if exposure.missing is not None:
            raise exposure.missing
        played = replace(
            played, nodes=frozenset(graph_of(self.workflow).nodes), disturbed=frozenset(exposure.disturbed)
        )
        violations, cause = list(played.violations), None
        if not violations:
            try:
                self.check(Ending(seed=seed, runs=tuple(ended), resources=fakes))
            except Exception as error:  # noqa: BLE001 - whatever the check raises is what it found
                violations, cause = [f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"], error
        tale = world.story.tale.lines() if is_told or violations else []
        if is_told:
            sys.stdout.write("\n".join((f"The story of seed {seed}:", *tale, "")))
        if violations:
            raise self._failure(played, violations, tale) from cause
        return played

    def _plan(self, chance: random.Random, fakes: dict[type, object]) -> Plan:
        plan = draw_plan(chance, kinds=self.faults)
        settings = replace(
            plan.settings,
            resources=fakes,
            retry=self.retry,
            retention=Retention(),
            limits=replace(plan.settings.limits, deaths=NO_POISON),
        )
        if self.storms:
            plan = replace(plan, steering=12, is_stormy=True, may_cancel=True, seconds=max(plan.seconds, 2.0))
        may_cancel = (self.cancels or self.storms) and plan.may_cancel
        return replace(plan, settings=settings, skews_ms=(0,), may_cancel=may_cancel)

    def _failure(self, played: Played, violations: Sequence[str], tale: Sequence[str]) -> SimulationFailedError:
        name = self.workflow.__name__
        befell = ", ".join(f"{kind} ({count}x)" for kind, count in sorted(played.faults.items())) or "nothing"
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        call = f"simulate({name}, …, seeds=[{played.seed}], is_told=True)"
        again = f"{call}, or {SEED_VARIABLE}={played.seed} python -m pytest '{test}'" if test else call
        return SimulationFailedError(
            seed=played.seed, workflow=name, violations=violations, faults=befell, tale=tale, again=again
        )  # fmt: skip


@dataclass(frozen=True)
class _Witness(Generic[OutT]):
    """Waits for the end of all runs, and notes how each ended."""

    ended: list[EndedRun[OutT]]
    exposure: Exposure

    async def judge(self, world: Simulation, workflow: Any, runs: Sequence[RunSpec]) -> Verdict:
        """Note how the runs ended; what does not hold of any workflow goes into the story."""
        verdict = Verdict()
        async with world.client("judge") as client:
            await let_all_end(world, client, workflow, runs, resumes_failed=False)
            for run in runs:
                ended = await self._look(client, workflow, run)
                verdict.completed += ended.status is RunStatus.COMPLETED
                verdict.cancelled += ended.status is RunStatus.CANCELLED
                if run.must_be_cancelled and ended.status is not RunStatus.CANCELLED:
                    world.story.violation(f"run {run.run_id} was cancelled, and is {ended.status.value} all the same")
                self.ended.append(ended)
            await check_what_is_left(world, client, workflow, runs)
            await check_bodies_undone(world, client, graph_of(workflow), self.exposure.bodies)
        return verdict

    async def _look(self, client: Orchestrator, workflow: Any, run: RunSpec) -> EndedRun[OutT]:
        output: Any = None
        error: FloxideError | None = None
        try:
            output = await client.handle(workflow, run.run_id).result(timeout=0.001)
        except FloxideError as raised:
            error = raised
        return EndedRun(
            run_id=run.run_id, input=run.input, status=await client.status(run.run_id), output=output, error=error,
            context=await client.context(workflow, run.run_id),
        )  # fmt: skip


def _spec(number: int, given: Any) -> RunSpec:
    if _is_start(given):
        return RunSpec(given.run_id or f"run-{number}", given.input, context=given.context)
    return RunSpec(f"run-{number}", given)


def _is_start(given: object) -> TypeGuard[Start[Any]]:
    return isinstance(given, Start)


def _expose(world: Simulation) -> Exposure:
    """Let a world tell who runs what, and what befalls them meanwhile."""
    exposure, watch, tell = Exposure(world.story.tale), world.watch, world.watch.on_item

    def item_written(run_id: str, old: WorkItem | None, new: WorkItem) -> None:
        exposure.item_written(run_id, new)
        tell(run_id, old, new)

    def turn_of(run_id: str, item_id: str) -> int:
        run = watch.runs.get(run_id)
        return 1 if run is None else run.turns.get(item_id, 1)

    exposure.turn_of = turn_of
    watch.on_item = item_written
    world.story.on_fault = exposure.befell
    world.settings = replace(world.settings, interceptors=(exposure,))
    return exposure


def _check_faults(faults: Sequence[str]) -> None:
    unknown = [kind for kind in faults if kind not in KINDS]
    if isinstance(faults, str) or unknown:
        named = repr(faults) if isinstance(faults, str) else ", ".join(map(repr, unknown))
        raise ConfigurationError(
            f"simulate(..., faults=...) takes a list of kinds of faults, and {named} is none. There are: "
            f"{', '.join(KINDS)}."
        )


def _check_resources(workflow: type[WorkflowDefinition[Any, Any, Any]], given: Mapping[type, object]) -> None:
    try:
        Resources(given).check(Registry([workflow]).required_resources())
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error} For simulate(...): resources=lambda: {{Type: fake}}, called once per seed."
        ) from None


def _seed_of_environment() -> int | None:
    alone = os.environ.get(SEED_VARIABLE)
    if alone is None:
        return None
    try:
        return int(alone)
    except ValueError:
        raise ConfigurationError(
            f"{SEED_VARIABLE}={alone} names no seed: give a whole number, such as {SEED_VARIABLE}=17."
        ) from None


@contextmanager
def _drawn_from(seed: int) -> Generator[None]:
    """Let user code that uses the module `random` draw the same each time a seed is played."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
