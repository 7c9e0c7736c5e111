"""What a run waits for passes at once on virtual time: holds, retries and timeouts, on every embedded store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from floxide_amqp import (
    ConfigurationError,
    Floxide,
    Hold,
    Next,
    ResultTimeoutError,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.testing import virtual_time
from floxide_amqp.testing.environment import WorkflowEnvironment

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MOST_REAL_SECONDS = 60.0


class Diary:
    """When nodes ran, in hours since the loop began."""

    def __init__(self) -> None:
        self.hours: list[float] = []

    def note(self) -> None:
        self.hours.append(round(asyncio.get_running_loop().time() / 3600, 2))


@node(requires=(Diary,))
async def remind(ctx: WorkflowCtx, name: str) -> Next[str] | Hold:
    diary = ctx.resource(Diary)
    diary.note()
    if len(diary.hours) < 2:
        return Hold(for_=2 * DAY)
    return Next(name)


@node(
    requires=(Diary,),
    retry=RetryPolicy(max_attempts=3, initial_backoff=HOUR, multiplier=2, max_backoff=DAY, jitter=0),
)
async def call(ctx: WorkflowCtx, name: str) -> str:
    ctx.resource(Diary).note()
    if ctx.attempt < 3:
        raise ConnectionError("nobody answers")
    return f"{name} was reached"


class Reminder(Workflow[str, str]):
    start = remind
    edges = (remind >> call,)


class Late(Workflow[str, str], timeout=timedelta(hours=30, minutes=20)):
    start = remind
    edges = (remind >> call,)


async def test_a_hold_of_days_and_retries_of_hours_take_no_time() -> None:
    diary, began = Diary(), time.perf_counter()
    assert await Reminder.run("Ada", resources={Diary: diary}) == "Ada was reached"
    assert diary.hours == pytest.approx([0, 48, 48, 49, 51], abs=0.02)
    assert time.perf_counter() - began < MOST_REAL_SECONDS


async def test_a_run_fails_at_its_timeout_to_the_second() -> None:
    diary = Diary()
    with pytest.raises(RunTimeoutError):
        await Late.run("Ada", resources={Diary: diary})
    assert asyncio.get_running_loop().time() == pytest.approx(30 * 3600 + 1200, abs=1)
    assert diary.hours == [0]


async def test_sqlite_follows_virtual_time_as_memory_does(tmp_path: Path) -> None:
    diary, began = Diary(), time.perf_counter()
    store = f"sqlite:///{tmp_path}/runs.db"
    assert await Reminder.run_with_checkpoint("Ada", store=store, run_id="r", resources={Diary: diary})
    assert diary.hours == pytest.approx([0, 48, 48, 49, 51], abs=0.02)
    assert time.perf_counter() - began < MOST_REAL_SECONDS


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_run_that_is_resumed_goes_on_waiting_for_what_is_left(tmp_path: Path, kind: str) -> None:
    diary = Diary()
    store = MemoryKeyValueStore() if kind == "memory" else f"sqlite:///{tmp_path}/runs.db"
    with pytest.raises(ResultTimeoutError):
        await Reminder.run_with_checkpoint("Ada", store=store, run_id="r", resources={Diary: diary}, timeout=10 * HOUR)
    await asyncio.sleep(4_321)
    assert await Reminder.resume(store=store, run_id="r", resources={Diary: diary}) == "Ada was reached"
    assert diary.hours == pytest.approx([0, 48, 48, 49, 51], abs=0.02)


async def test_a_failed_run_that_is_resumed_has_its_whole_timeout_again() -> None:
    store, diary = MemoryKeyValueStore(), Diary()
    with pytest.raises(RunTimeoutError):
        await Late.run_with_checkpoint("Ada", store=store, run_id="r", resources={Diary: diary})
    diary.hours.clear()
    with pytest.raises(RunTimeoutError):
        await Late.resume(store=store, run_id="r", resources={Diary: diary})
    assert asyncio.get_running_loop().time() == pytest.approx(60 * 3600 + 2400, abs=1)


def test_run_is_enough_where_there_is_no_hook() -> None:
    assert virtual_time.run(Reminder.run("Ada", resources={Diary: Diary()})) == "Ada was reached"


async def test_an_application_runs_with_several_workers_on_virtual_time() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Diary]:
        yield Diary()

    app = Floxide(workflows=[Reminder], lifespan=lifespan)
    async with app.orchestrator() as orchestrator, app.worker(name="second") as second:
        working = asyncio.create_task(second.run_forever())
        handles = [await orchestrator.start(Reminder, f"n{n}") for n in range(3)]
        await asyncio.gather(*(handle.wait() for handle in handles))
        second.stop()
        await working
    assert asyncio.get_running_loop().time() < 60 * 3600


async def test_an_environment_moves_between_what_happens_and_tells_the_time() -> None:
    diary = Diary()
    async with WorkflowEnvironment(Reminder, resources={Diary: diary}) as environment:
        assert environment.now() == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        run = await environment.start(Reminder, "Ada", run_id="r")
        await environment.sleep(DAY)
        assert (await run.status(), diary.hours) == (RunStatus.WAITING, [0])
        assert environment.now() == datetime(2023, 11, 15, 22, 13, 20, tzinfo=UTC)
        (waiting,) = await environment.orchestrator.pending_work("r")
        assert waiting.due_at == environment.now() + DAY
        assert await run.result() == "Ada was reached"
        assert environment.now() - datetime(2023, 11, 16, 22, 13, 20, tzinfo=UTC) < 4 * HOUR


async def test_an_environment_runs_an_application_as_it_is_but_without_its_broker_and_store(tmp_path: Path) -> None:
    @node
    async def fail(x: int) -> int:
        raise ValueError(x)

    class Failing(Workflow[int, int]):
        start = fail

    app = Floxide("amqp://nowhere", store=f"sqlite:///{tmp_path}/never.db", workflows=[Failing])
    async with WorkflowEnvironment(app=app) as environment:
        run = await environment.start(Failing, 1)
        with pytest.raises(RunFailedError):
            await run.result()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a folder just made


def test_an_environment_on_the_wall_clock_says_what_to_do() -> None:
    async def main() -> None:
        async with WorkflowEnvironment(Reminder):
            pass

    with pytest.raises(ConfigurationError, match=r"virtual_time\.run"):
        asyncio.run(main())


async def test_waiting_for_what_never_comes_is_an_error_and_no_endless_loop() -> None:
    async with WorkflowEnvironment(Reminder, resources={Diary: Diary()}) as environment:
        run = await environment.start(Reminder, "Ada")
        await run.pause()
        with pytest.raises(ResultTimeoutError):
            await run.result(timeout=timedelta(days=20))


def test_a_loop_ends_with_an_error_when_its_time_is_up() -> None:
    async def main() -> None:
        async with WorkflowEnvironment(Reminder, resources={Diary: Diary()}) as environment:
            run = await environment.start(Reminder, "Ada")
            await run.pause()
            await run.result()

    with pytest.raises(virtual_time.DeadlockError, match="30 days"):
        virtual_time.run(main(), longest=timedelta(days=30))
