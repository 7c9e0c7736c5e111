"""What `simulate` finds in workflows of users, how it says so, and that a seed can be played again."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    ConfigurationError,
    Context,
    Hold,
    Next,
    NextAll,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    Start,
    Sum,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.exceptions import ResourceNotFoundError
from floxide_amqp.testing.simulation import Ending, SimulationFailedError, simulate

SEEDS = range(40)


class Basket(Context):
    spent: Annotated[int, Sum()] = 0


class Bank:
    """The world outside: what is booked stays booked, whoever crashes."""

    def __init__(self) -> None:
        self.booked: Counter[str] = Counter()
        self._keys: set[str] = set()

    async def charge(self, item: str, key: str | None = None) -> int:
        if key is None or key not in self._keys:
            self.booked[item] += 1
            self._keys.add(key or "")
        await asyncio.sleep(0.01)
        return len(item)


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=timedelta(hours=1)))
async def charge_carelessly(ctx: WorkflowCtx[Basket], item: str) -> int:
    price = await ctx.resource(Bank).charge(item)
    ctx.state.spent += price
    return price


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=timedelta(hours=1)))
async def charge_once(ctx: WorkflowCtx[Basket], item: str) -> int:
    price = await ctx.resource(Bank).charge(item, ctx.idempotency_key)
    ctx.state.spent += price
    return price


class Careless(Workflow[str, int, Basket]):
    start = charge_carelessly


class Careful(Workflow[str, int, Basket]):
    start = charge_once


def charged_once(ending: Ending[int]) -> None:
    assert ending.results == [len(run.input) for run in ending.runs]
    assert [run.context.spent for run in ending.runs] == ending.results
    assert all(count == 1 for count in ending.resource(Bank).booked.values()), ending.resource(Bank).booked


def test_a_node_that_is_not_idempotent_is_found_and_its_seed_named() -> None:
    with pytest.raises(SimulationFailedError, match=r"fails on seed \d+:\n  AssertionError: Counter") as found:
        simulate(Careless, "book", "pen", check=charged_once, resources=lambda: {Bank: Bank()})
    message = str(found.value)
    assert f"seeds=[{found.value.seed}], is_told=True" in message
    assert f"FLOXIDE_SIMULATION_SEED={found.value.seed} python -m pytest" in message
    assert "test_a_node_that_is_not_idempotent_is_found_and_its_seed_named" in message
    assert isinstance(found.value.__cause__, AssertionError)


def test_a_failing_seed_fails_again_in_the_same_way() -> None:
    told: list[str] = []
    for _ in range(2):
        with pytest.raises(SimulationFailedError) as found:
            simulate(Careless, "book", "pen", check=charged_once, resources=lambda: {Bank: Bank()})
        told.append(str(found.value))
    assert told[0] == told[1]


def test_the_same_with_the_idempotency_key_holds_for_every_seed() -> None:
    totals = simulate(Careful, "book", "pen", check=charged_once, resources=lambda: {Bank: Bank()}, seeds=SEEDS)
    assert (totals.seeds, totals.runs, totals.completed) == (40, 80, 80)
    assert totals.faults["crash"] > 10


def test_the_variable_plays_one_seed_and_tells_its_story(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOXIDE_SIMULATION_SEED", "7")
    assert simulate(Careful, "book", resources=lambda: {Bank: Bank()}).seeds == 1
    assert "The story of seed 7:" in capsys.readouterr().out


@node
async def split(ctx: WorkflowCtx[Basket], count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
async def wait(ctx: WorkflowCtx[Basket], number: int) -> Next[int] | Hold:
    if ctx.state.spent == 0:
        ctx.state.spent += 1
        return Hold(for_=timedelta(days=2))
    return Next(number)


@node
async def total(ctx: WorkflowCtx[Basket], numbers: list[int]) -> int:
    return sum(numbers)


class Waiting(Workflow[int, int, Basket]):
    start = split
    edges = (split >> wait >> gather(total),)


def test_holds_of_days_are_skipped() -> None:
    simulate(Waiting, 3, check=lambda ending: None if ending.results == [3] else pytest.fail("wrong"), seeds=range(10))


# --- after a long wait


@node
async def wait_an_hour(ctx: WorkflowCtx[Basket], item: str) -> Next[str] | Hold:
    if ctx.state.spent == 0:
        ctx.state.spent += 1
        return Hold(for_=timedelta(hours=1))
    return Next(item)


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=timedelta(seconds=30)))
async def fail_once(ctx: WorkflowCtx[Basket], item: str) -> str:
    if ctx.attempt == 1:
        raise ConnectionError("nobody answers")
    return item


class AfterAnHour(Workflow[str, int, Basket]):
    start = wait_an_hour
    edges = (wait_an_hour >> charge_carelessly,)


class AfterARetry(Workflow[str, int, Basket]):
    start = fail_once
    edges = (fail_once >> charge_carelessly,)


def nobody_paid_twice(ending: Ending[int]) -> None:
    assert set(ending.resource(Bank).booked.values()) == {1}


@pytest.mark.parametrize("workflow", [AfterAnHour, AfterARetry])
def test_what_comes_after_a_long_wait_is_played_under_faults_too(workflow: type[Workflow[str, int, Basket]]) -> None:
    with pytest.raises(SimulationFailedError, match="AssertionError"):
        simulate(workflow, "book", "pen", check=nobody_paid_twice, resources=lambda: {Bank: Bank()}, seeds=SEEDS)


@node
async def take_minutes(ctx: WorkflowCtx[Basket], number: int) -> int:
    await ctx.sleep(100)
    return number


class Slow(Workflow[int, int, Basket], timeout=timedelta(hours=1)):
    start = take_minutes


def test_time_is_skipped_only_where_nothing_happens_in_it() -> None:
    assert simulate(Slow, 1, faults=["crash"], seeds=range(5)).completed == 5


@node
async def pick(ctx: WorkflowCtx[Basket], number: int) -> int:
    return number


def is_negative(number: int) -> bool:
    return number < 0


@node
async def take(ctx: WorkflowCtx[Basket], number: int) -> int:
    return number


@node
async def keep(ctx: WorkflowCtx[Basket], number: int) -> int:
    return number


class Picking(Workflow[int, int, Basket]):
    start = pick
    edges = (pick.when(is_negative) >> take, pick.otherwise >> keep)


def test_it_tells_which_nodes_never_ran_under_a_fault() -> None:
    totals = simulate(Picking, 1, seeds=SEEDS, faults=["crash in body", "lost replies"])
    assert totals.never_under_fault == ["take"]
    assert totals.summary(0.0).splitlines()[-1].split() == ["never", "under", "a", "fault", "take"]
    assert simulate(Picking, 1, seeds=range(3), faults=[]).never_under_fault == ["keep", "pick", "take"]
    both_ways = simulate(Picking, 1, -1, seeds=range(120), faults=["crash in body", "lost replies"])
    assert both_ways.never_under_fault == []
    assert both_ways.summary(0.0).endswith("no node")


@node
async def refuse(ctx: WorkflowCtx[Basket], number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return number


class Refusing(Workflow[int, int, Basket]):
    start = refuse


def test_a_run_that_fails_is_an_ending_to_be_checked() -> None:
    def check(ending: Ending[int]) -> None:
        good, bad = ending.runs
        assert good.result() == 1
        assert bad.status is RunStatus.FAILED
        with pytest.raises(RunFailedError, match="negative"):
            bad.result()

    simulate(Refusing, 1, Start(-1, run_id="bad"), check=check, seeds=range(10))


def test_without_a_check_every_run_must_complete() -> None:
    with pytest.raises(SimulationFailedError, match="RunFailedError: Run 'run-0' failed"):
        simulate(Refusing, -1, seeds=range(2))


def test_runs_that_are_cancelled_are_so_in_the_end() -> None:
    ended: list[RunStatus] = []

    def check(ending: Ending[int]) -> None:
        ended.extend(run.status for run in ending.runs)

    simulate(Waiting, 3, 4, check=check, cancels=True, seeds=range(25))
    assert {RunStatus.COMPLETED, RunStatus.CANCELLED} == set(ended)


def test_it_says_what_it_needs() -> None:
    with pytest.raises(ConfigurationError, match="at least one input"):
        simulate(Refusing)
    with pytest.raises(ConfigurationError, match="has no seed"):
        simulate(Refusing, 1, seeds=[])


@pytest.mark.parametrize(("faults", "named"), [(["crash", "crsh"], "'crsh'"), ("crash", "'crash'")])
def test_a_fault_that_there_is_not_is_answered_with_those_there_are(faults: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{named} is none. There are: crash, crash at await"):
        simulate(Refusing, 1, faults=faults)


def test_a_variable_that_is_no_seed_is_answered_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOXIDE_SIMULATION_SEED", "abc")
    with pytest.raises(ConfigurationError, match="FLOXIDE_SIMULATION_SEED=abc names no seed: give a whole number"):
        simulate(Refusing, 1)


@node(requires=(Bank,))
async def charge_with_care(ctx: WorkflowCtx[Basket], item: str) -> int:
    return await ctx.resource(Bank).charge(item, ctx.idempotency_key)


class Declaring(Workflow[str, int, Basket]):
    start = charge_with_care


def test_a_missing_resource_is_not_taken_for_a_bug_of_the_workflow() -> None:
    with pytest.raises(ConfigurationError, match=r"Bank \(for Declaring.charge_with_care\).*resources=lambda"):
        simulate(Declaring, "book")
    with pytest.raises(ResourceNotFoundError, match="'charge_once' asked for a resource of type Bank"):
        simulate(Careful, "book")


def test_the_story_of_a_failure_is_one_line_per_thing_that_a_person_follows() -> None:
    with pytest.raises(SimulationFailedError) as found:
        simulate(
            AfterAnHour, "book", check=nobody_paid_twice, resources=lambda: {Bank: Bank()}, faults=["crash in body"]
        )
    tale = found.value.tale
    said = [re.sub(r"^ *\S+( s)?  ", "", line) for line in tale]
    first = next(number for number, line in enumerate(said) if "runs charge_carelessly of run-0 (turn 1)" in line)
    rest = "\n".join(said[first:])
    assert re.search(
        r"^(worker-\d+) runs charge_carelessly of run-0 \(turn 1\)\n"
        r"\1 does not live to see the end of this\n"
        r"\1 crashes\n"
        r"(?s:.*)runs charge_carelessly of run-0 \(turn \d\)\n"
        r"(?s:.*)charge_carelessly of run-0 is committed\n"
        r"run-0 is completed", rest,
    )  # fmt: skip
    assert "wait_an_hour of run-0 waits for 60 min" in said
    assert "\n".join(f"  {line}" for line in tale[-10:]) in str(found.value)


async def test_in_a_running_loop_it_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="plain function"):
        simulate(Refusing, 1)


async def test_it_runs_beside_a_loop_in_a_thread() -> None:
    def play() -> Any:
        return simulate(Refusing, 1, seeds=range(3))

    assert (await asyncio.to_thread(play)).seeds == 3
