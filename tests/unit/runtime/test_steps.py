"""What a node may do to its worker, and what of it counts."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Abort,
    Context,
    Hold,
    Interceptor,
    Next,
    NextAll,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    StepCall,
    Sum,
    Transition,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]


class Notes(Context):
    total: Annotated[int, Sum()] = 0


class BrokenStrError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def one_node(function: Any, *, retry: RetryPolicy | None = None) -> Any:
    class OneNode(Workflow[int, int, Notes], retry=retry):
        start = function
        edges = ()

    return OneNode


async def play(cluster: Cluster, workflow: Any, value: int = 1) -> Any:
    await cluster.start_worker()
    handle = await cluster.client().start(workflow, value, run_id="run")
    return await handle.result(timeout=600)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (GeneratorExit(), "GeneratorExit"),
        (BrokenStrError(), r"BrokenStrError.__str__ raised ValueError"),
        (RecursionError("deep"), "RecursionError"),
        (OSError("name \udcff"), "name"),
    ],
)
async def test_whatever_a_node_raises_fails_its_run_and_the_worker_goes_on(
    cluster: MakeCluster, error: BaseException, shown: str
) -> None:
    @node
    async def raises(x: int) -> int:
        if x == 0:
            return 5
        raise error

    workflow = one_node(raises)
    here = cluster(workflow)
    with pytest.raises(RunFailedError, match=shown):
        await play(here, workflow)
    assert await (await here.client().start(workflow, 0, run_id="next")).result(10) == 5


@pytest.mark.parametrize("error", [StopIteration("empty"), SystemExit(1), KeyboardInterrupt(), ValueError("bad")])
async def test_whatever_a_sync_node_raises_in_its_thread_fails_its_run(
    cluster: MakeCluster, error: BaseException
) -> None:
    @node
    def raises(x: int) -> int:
        raise error

    workflow = one_node(raises)
    with ThreadPoolExecutor(1) as executor, pytest.raises(RunFailedError):
        await play(cluster(workflow, executor=executor), workflow)


async def test_a_sync_node_runs_in_a_thread(cluster: MakeCluster) -> None:
    import threading

    @node
    def where(ctx: WorkflowCtx[Notes], x: int) -> int:
        ctx.state.total += 2
        return int(threading.current_thread() is threading.main_thread())

    workflow = one_node(where)
    with ThreadPoolExecutor(1) as executor:
        here = cluster(workflow, executor=executor)
        assert await play(here, workflow) == 0
        assert (await here.client().context(workflow, "run")).total == 2


async def test_a_value_of_another_type_fails_the_run_and_names_both_types(cluster: MakeCluster) -> None:
    @node
    async def lies(x: int) -> int:
        return "text"  # type: ignore[return-value]

    workflow = one_node(lies)
    with pytest.raises(RunFailedError, match="int"):
        await play(cluster(workflow), workflow)


async def test_a_node_past_its_timeout_fails_and_what_it_changed_is_dropped(cluster: MakeCluster) -> None:
    @node(timeout=timedelta(seconds=3))
    async def slow(ctx: WorkflowCtx[Notes], x: int) -> int:
        ctx.state.total += 1
        await asyncio.sleep(10)
        return x

    workflow = one_node(slow)
    here = cluster(workflow)
    with pytest.raises(RunFailedError, match="NodeTimeoutError"):
        await play(here, workflow)
    assert (await here.client().context(workflow, "run")).total == 0


async def test_a_node_that_ignores_its_timeout_is_left_alone(cluster: MakeCluster) -> None:
    ended = asyncio.Event()

    @node(timeout=1.0)
    async def stubborn(x: int) -> int:
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue
        return x

    workflow = one_node(stubborn)
    with pytest.raises(RunFailedError, match="NodeTimeoutError"):
        await play(cluster(workflow), workflow)
    ended.set()


async def test_a_node_that_ignores_a_cancelled_run_gives_its_slot_back(cluster: MakeCluster) -> None:
    ended, begun = asyncio.Event(), asyncio.Event()

    @node
    async def stubborn(x: int) -> int:
        if x == 0:
            return 0
        begun.set()
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue
        return x

    workflow = one_node(stubborn)
    here = cluster(workflow, limits=Limits(concurrency=1))
    await here.start_worker()
    client = here.client()
    handle = await client.start(workflow, 1, run_id="run")
    await begun.wait()
    await handle.cancel()
    assert await (await client.start(workflow, 0, run_id="next")).result(30) == 0
    ended.set()
    await asyncio.sleep(1)
    assert await handle.status() is RunStatus.CANCELLED


async def test_a_run_past_its_timeout_fails_and_its_step_is_interrupted(cluster: MakeCluster) -> None:
    heard = asyncio.Event()

    @node
    async def slow(ctx: WorkflowCtx[Notes], x: int) -> int:
        assert ctx.deadline is not None
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            heard.set()
            raise
        return x

    class Late(Workflow[int, int, Notes], timeout=5.0):
        start = slow
        edges = ()

    here = cluster(Late)
    with pytest.raises(RunTimeoutError, match="5 s"):
        await play(here, Late)
    await asyncio.wait_for(heard.wait(), 5)


async def test_a_broken_retry_predicate_fails_the_run_instead_of_spinning(cluster: MakeCluster) -> None:
    def broken(error: Exception) -> bool:
        raise ZeroDivisionError("in the policy")

    @node(retry=RetryPolicy(max_attempts=3, retry_on=broken))
    async def raises(x: int) -> int:
        raise ValueError("the node")

    workflow = one_node(raises)
    with pytest.raises(RunFailedError, match="in the policy"):
        await play(cluster(workflow), workflow)


async def test_a_retry_waits_for_its_backoff_and_counts_attempts(cluster: MakeCluster) -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    @node(retry=RetryPolicy(max_attempts=3, initial_backoff=10.0, multiplier=2.0, jitter=0.0, max_backoff=60.0))
    async def third_time(ctx: WorkflowCtx[Notes], x: int) -> int:
        times.append(loop.time())
        if ctx.attempt < 3:
            raise ValueError("again")
        return ctx.attempt

    workflow = one_node(third_time)
    here = cluster(workflow)
    assert await play(here, workflow) == 3
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [10, 20]
    assert [error.will_retry for error in await here.client().errors("run")] == [True, True]
    await here.check_completed("run")


async def test_retries_without_any_pause_do_not_lose_their_timers(cluster: MakeCluster) -> None:
    @node(retry=RetryPolicy(max_attempts=20, initial_backoff=0.0))
    async def last_time(ctx: WorkflowCtx[Notes], x: int) -> int:
        if ctx.attempt < 20:
            raise ValueError("again")
        return x

    workflow = one_node(last_time)
    here = cluster(workflow)
    await here.start_worker()
    assert await play(here, workflow) == 1
    await here.check_completed("run")


async def test_a_failed_join_falls_back_with_the_list_as_it_came_whatever_the_body_did_to_it(
    cluster: MakeCluster,
) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([1, 2, 3])

    @node
    async def spoil(xs: list[int]) -> int:
        xs.append("not an int")  # type: ignore[arg-type]
        raise ValueError("spoilt")

    @node
    async def mend(xs: list[int]) -> int:
        return sum(xs)

    class Mended(Workflow[int, int]):
        start = split
        edges = (split >> gather(spoil), spoil.on_failure >> mend)

    here = cluster(Mended)
    assert await play(here, Mended) == 6
    await here.check_completed("run")


async def test_results_come_to_the_join_in_the_order_of_the_fan_out(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(list(range(20)))

    @node
    async def slow_first(ctx: WorkflowCtx[Notes], x: int) -> int:
        await ctx.sleep(20 - x)
        return x

    @node
    async def keep(xs: list[int]) -> list[int]:
        return xs

    class Ordered(Workflow[int, list[int], Notes]):
        start = split
        edges = (split >> slow_first >> gather(keep),)

    assert await play(cluster(Ordered, limits=Limits(concurrency=30)), Ordered) == list(range(20))


async def test_a_join_sees_what_every_branch_wrote_also_on_another_worker(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(list(range(6)))

    @node
    async def write(ctx: WorkflowCtx[Notes], x: int) -> int:
        await ctx.sleep(1)
        if x != 5:  # the last to end writes nothing, so only reading shows it what the others wrote
            ctx.state.total += 1
        else:
            await ctx.sleep(2)
        return x

    @node
    async def look(ctx: WorkflowCtx[Notes], xs: list[int]) -> int:
        return ctx.state.total

    class Seeing(Workflow[int, int, Notes]):
        start = split
        edges = (split >> write >> gather(look),)

    here = cluster(Seeing, limits=Limits(concurrency=2))
    await here.start_worker()
    await here.start_worker()
    assert await play(here, Seeing) == 5


async def test_thousands_of_items_are_made_page_by_page_and_joined_in_order(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(1_100))

    @node
    async def same(x: int) -> int:
        return x

    @node
    async def keep(xs: list[int]) -> list[int]:
        return xs

    class Large(Workflow[int, list[int]]):
        start = split
        edges = (split >> same >> gather(keep),)

    here = cluster(Large, limits=Limits(concurrency=100))
    assert await play(here, Large) == list(range(1_100))
    await here.check_completed("run")


async def test_isolated_steps_lose_no_update_although_they_read_and_write(cluster: MakeCluster) -> None:
    class Counter(Context):
        value: int = 0

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(8))

    @node(isolated=True)
    async def raise_it(ctx: WorkflowCtx[Counter], x: int) -> int:
        before = ctx.state.value
        await asyncio.sleep(0.1)
        ctx.state.value = before + 1
        return x

    @node
    async def count(ctx: WorkflowCtx[Counter], xs: list[int]) -> int:
        return ctx.state.value

    class Counting(Workflow[int, int, Counter]):
        start = split
        edges = (split >> raise_it >> gather(count),)

    here = cluster(Counting)
    await here.start_worker()
    assert await play(here, Counting) == 8


async def test_a_merge_by_hold_fires_once_when_the_last_has_arrived(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(5))

    @node
    async def merge(ctx: WorkflowCtx[Notes], x: int) -> Next[int] | Hold:
        ctx.state.total += 1
        await asyncio.sleep(0.01)
        return Next(ctx.state.total) if ctx.state.total == 5 else Hold()

    class Merging(Workflow[int, int, Notes]):
        start = split
        edges = (split >> merge,)

    here = cluster(Merging)
    await here.start_worker()
    assert await play(here, Merging) == 5


async def test_a_run_in_which_everything_holds_is_failed_as_stalled(cluster: MakeCluster) -> None:
    @node
    async def wait(x: int) -> int | Hold:
        return Hold()

    workflow = one_node(wait)
    with pytest.raises(RunFailedError, match="RunStalledError"):
        await play(cluster(workflow), workflow)


async def test_abort_is_never_retried_and_takes_the_failure_edge(cluster: MakeCluster) -> None:
    tries: list[int] = []

    @node(retry=RetryPolicy(max_attempts=5))
    async def gives_up(x: int) -> int | Abort:
        tries.append(x)
        return Abort(ValueError("no"))

    @node
    async def told(ctx: WorkflowCtx[Notes], x: int) -> int:
        assert ctx.failure is not None
        assert (ctx.failure.node, ctx.failure.error_type, ctx.failure.attempts) == ("gives_up", "ValueError", 1)
        return x + 100

    class Aborting(Workflow[int, int, Notes]):
        start = gives_up
        edges = (gives_up.on_failure(ValueError) >> told,)

    assert await play(cluster(Aborting), Aborting) == 101
    assert tries == [1]


async def test_interceptors_surround_steps_from_the_first_to_the_last(cluster: MakeCluster) -> None:
    heard: list[str] = []

    class Named(Interceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
            heard.append(f"{self.name} before {call.node} {call.input}")
            result = await proceed()
            heard.append(f"{self.name} after")
            return result

    @node
    async def inner(x: int) -> int:
        heard.append("body")
        return x

    workflow = one_node(inner)
    await play(cluster(workflow, interceptors=(Named("outer"), Named("nested"))), workflow)
    assert heard == ["outer before inner 1", "nested before inner 1", "body", "nested after", "outer after"]


async def test_a_worker_without_what_nodes_require_does_not_start(cluster: MakeCluster) -> None:
    class Client: ...

    @node(requires=(Client,))
    async def needy(x: int) -> int:
        return x

    here = cluster(one_node(needy))
    member = await here.start_worker()
    with pytest.raises(ConfigurationError, match="Client"):
        await member.task


async def test_a_long_step_lets_its_message_go_and_is_found_in_the_store(cluster: MakeCluster) -> None:
    begun = asyncio.Event()

    @node
    async def long(x: int) -> int:
        begun.set()
        await asyncio.sleep(60)
        return x

    workflow = one_node(long)
    here = cluster(workflow)
    member = await here.start_worker()
    handle = await here.client().start(workflow, 1, run_id="run")
    await begun.wait()
    await asyncio.sleep(QUICK.early_acknowledge + 1)
    assert here.store.leftovers("messages:") == {}
    assert len(here.store.leftovers("owned:")[f"owned:{member.name}"]) == 1
    assert await handle.result(100) == 1
    await here.check_completed("run")


async def test_a_body_that_never_waits_has_a_task_and_variables_of_its_own(cluster: MakeCluster) -> None:
    seen = contextvars.ContextVar[list[str]]("seen", default=[])  # noqa: B039 - only read, as every default here
    tasks: list[Any] = []

    @node
    async def looks(x: int) -> int:
        tasks.append(asyncio.current_task())
        seen.set([*seen.get(), str(x)])
        return len(seen.get())

    class Twice(Workflow[int, int, Notes]):
        start = looks.named("first")
        edges = (start >> looks.named("second"),)

    assert await play(cluster(Twice), Twice) == 1  # the second does not see what the first has set
    assert [task.get_name() for task in tasks] == ["floxide.node.first", "floxide.node.second"]
    assert seen.get() == []


async def test_a_timeout_within_a_body_begins_before_it_first_waits(cluster: MakeCluster) -> None:
    @node
    async def hurries(x: int) -> int:
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        except TimeoutError:
            return x + 1
        return x

    workflow = one_node(hurries)
    assert await play(cluster(workflow), workflow) == 2
