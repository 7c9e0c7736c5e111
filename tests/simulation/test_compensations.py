"""Runs that undo what they did, under faults and crashes: every step that may have happened, once, the last first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Cancelled,
    Compensation,
    Context,
    NextAll,
    RetryPolicy,
    RunStatus,
    Sum,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core import compensation, decide, moves, plan
from floxide_amqp.core.changes import WhenCount
from floxide_amqp.runtime import left_items, undoing
from floxide_amqp.testing.simulation import Ending, SimulationFailedError, simulate
from floxide_amqp.testing.simulation.faults import KINDS

TRIES = RetryPolicy(max_attempts=6, initial_backoff=timedelta(milliseconds=50))


class Spent(Context):
    total: Annotated[int, Sum()] = 0


ALL_FAULTS = tuple(kind for kind in KINDS if kind not in ("worker clock", "store clock", "garbage", "store crash"))
"""But for wrong clocks and for a store that loses what it had promised to keep."""

NO_ZOMBIES = tuple(kind for kind in ALL_FAULTS if kind not in ("freeze", "hang", "namesake", "cut from store"))
"""Nobody takes a worker for dead whose bodies go on."""


class Bank:
    """The world outside: what is booked stays booked until it is given back, and its key books nothing any more.

    Attributes:
        late: Keys under which something was to be booked after it had been given back.
    """

    def __init__(self) -> None:
        self.booked: dict[str, int] = {}
        self.late: list[str] = []
        self.told = 0
        self._closed: set[str] = set()

    async def book(self, key: str, amount: int) -> None:
        await asyncio.sleep(0.2)
        if key in self._closed:
            self.late.append(key)
        else:
            self.booked[key] = amount
        await asyncio.sleep(0.005)

    async def give_back(self, key: str) -> None:
        await asyncio.sleep(0.01)
        self._closed.add(key)
        self.booked.pop(key, None)


@node(retry=TRIES)
async def unreserve(ctx: WorkflowCtx[Spent], of: Compensation[int, int]) -> None:
    await ctx.resource(Bank).give_back(of.idempotency_key)
    ctx.state.total -= of.output or 0


@node(compensation=unreserve, retry=TRIES)
async def reserve(ctx: WorkflowCtx[Spent], x: int) -> int:
    await ctx.resource(Bank).book(ctx.idempotency_key, x)
    ctx.state.total += x
    return x


@node(retry=TRIES)
async def split(x: int) -> NextAll[int]:
    return NextAll(range(1, x + 1))


@node(retry=TRIES)
async def uncharge(ctx: WorkflowCtx[Spent], of: Compensation[int, int]) -> None:
    await ctx.resource(Bank).give_back(of.idempotency_key)


@node(compensation=uncharge, retry=TRIES)
async def charge(ctx: WorkflowCtx[Spent], x: int) -> int:
    await ctx.resource(Bank).book(ctx.idempotency_key, 100 * x)
    return 100 * x


@node
async def conclude(ctx: WorkflowCtx[Spent], values: list[int]) -> int:
    await asyncio.sleep(0.02)
    if sum(values) % 200 == 100:
        raise ArithmeticError("odd")
    return sum(values)


@node(retry=TRIES)
async def tell(ctx: WorkflowCtx[Spent], of: Cancelled) -> None:
    ctx.resource(Bank).told += 1


class Booking(Workflow[int, int, Spent]):
    """Reserves, charges several times at once, and fails at the end where the sum is odd."""

    start = reserve
    edges = (reserve >> split >> charge >> gather(conclude),)
    on_cancel = tell


@node(compensation=uncharge, retry=TRIES)
async def charge_later(ctx: WorkflowCtx[Spent], x: int) -> int:
    """Two are quick; the others are at it for long, and book at the end."""
    await asyncio.sleep(0.0 if x < 3 else 0.6)
    await ctx.resource(Bank).book(ctx.idempotency_key, 100 * x)
    return 100 * x


class Racing(Workflow[int, int, Spent]):
    """Goes on with the first two charges; the others are cancelled, and undone with the rest where the sum is odd."""

    start = reserve
    edges = (reserve >> split >> charge_later >> gather(conclude, at_most=2),)
    on_cancel = tell


def nothing_is_kept_but_of_completed_runs(ending: Ending[int]) -> None:
    """The books agree with how the runs ended: what has failed or was cancelled has booked nothing."""
    terminated = {run.run_id for run in ending.runs if "terminated" in str(run.error)}
    kept = terminated | {run.run_id for run in ending.runs if run.status is RunStatus.COMPLETED}
    booked = ending.resource(Bank).booked
    assert {key.partition(":")[0] for key in booked} <= kept, booked
    for run in ending.runs:
        if run.status is RunStatus.COMPLETED:
            own = sum(amount for key, amount in booked.items() if key.startswith(f"{run.run_id}:"))
            assert own == run.output + run.input


def nothing_is_late_either(ending: Ending[int]) -> None:
    """Besides, no body does anything once its step is being undone."""
    nothing_is_kept_but_of_completed_runs(ending)
    assert not ending.resource(Bank).late


def nothing_swept_is_late(ending: Ending[int]) -> None:
    """What has failed or was cancelled has booked nothing, also of what was cancelled with its fan-out."""
    bank = ending.resource(Bank)
    kept = {run.run_id for run in ending.runs if run.status is RunStatus.COMPLETED or "terminated" in str(run.error)}
    assert {key.partition(":")[0] for key in bank.booked} <= kept, bank.booked
    assert not bank.late, bank.late


def raced(seeds: range, *, faults: Sequence[str] = NO_ZOMBIES, **more: Any) -> Any:
    return simulate(
        Racing, 3, 5, 6, resources=lambda: {Bank: Bank()}, seeds=seeds, check=nothing_swept_is_late, faults=faults,
        **more,
    )  # fmt: skip


def played(seeds: range, *, faults: Sequence[str] = ALL_FAULTS, **more: Any) -> Any:
    check = nothing_is_kept_but_of_completed_runs if faults is ALL_FAULTS else nothing_is_late_either
    return simulate(Booking, 3, 4, 5, resources=lambda: {Bank: Bank()}, seeds=seeds, check=check, faults=faults, **more)


def test_what_failed_or_was_cancelled_is_undone_whatever_befalls_its_workers() -> None:
    totals = played(range(12), cancels=True)
    assert totals.completed
    assert {"charge", "reserve"}.isdisjoint(totals.never_under_fault)


def test_what_a_storm_of_controls_leaves_is_all_or_nothing() -> None:
    """Runs that were terminated undo nothing; all others do."""
    totals = played(range(100, 108), faults=NO_ZOMBIES, storms=True)
    assert totals.faults["terminate"]
    assert totals.faults["cancel"]


def test_what_is_swept_is_undone_when_its_body_has_ended_and_not_before() -> None:
    totals = raced(range(12), cancels=True)
    assert {"charge_later", "reserve"}.isdisjoint(totals.never_under_fault)


def forget_what_begins(patch: pytest.MonkeyPatch) -> None:
    """A step that can be undone is noted when it completes, and not before its body runs."""
    for module in (moves, plan):
        patch.setattr(module, "begin", lambda item, nodes: (item, ()))


def undo_in_the_order_of_doing(patch: pytest.MonkeyPatch) -> None:
    """The log is undone from its beginning."""
    patch.setattr(undoing, "reversed", lambda numbers: numbers, raising=False)


def undo_before_the_body_has_ended(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits for bodies in flight."""

    patch.setattr(undoing, "is_at_work", lambda item: False)


def sweep_what_is_at_work(patch: pytest.MonkeyPatch) -> None:
    """What is left in a closed fan-out is cancelled, whether its bodies have ended or not."""
    patch.setattr(left_items, "is_at_work", lambda item: False)


def forget_the_next(patch: pytest.MonkeyPatch) -> None:
    """What follows from a compensation is done by its worker after the commit, and by nobody else."""
    after = compensation.after_undoing

    def without_timer(*args: Any, **more: Any) -> Any:
        changes = after(*args, **more)
        *counts, when = changes
        assert isinstance(when, WhenCount)
        return (*counts, WhenCount(when.name, when.equals, when.then))

    patch.setattr(decide, "after_undoing", without_timer)


WHEN_CANCELLED = (forget_what_begins, undo_before_the_body_has_ended)


@pytest.mark.parametrize(
    "plant", [forget_what_begins, undo_in_the_order_of_doing, undo_before_the_body_has_ended, forget_the_next]
)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        faults = ("bad hints",) if plant is undo_before_the_body_has_ended else NO_ZOMBIES
        with pytest.raises(SimulationFailedError) as found:
            played(range(20), faults=faults, storms=plant in WHEN_CANCELLED, cancels=True)
    print(f"{plant.__name__}: seed {found.value.seed}: {found.value.violations[0]}")


def test_a_sweep_that_waits_for_no_body_is_found() -> None:
    with pytest.MonkeyPatch.context() as patch:
        sweep_what_is_at_work(patch)
        with pytest.raises(SimulationFailedError) as found:
            raced(range(20), faults=("bad hints",))
    print(f"seed {found.value.seed}: {found.value.violations[0]}")
