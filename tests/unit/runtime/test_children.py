"""Child workflows: runs of their own that a node starts, waits for, and takes along when its own run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import (
    ChildRunFailedError,
    ChildWorkflow,
    Context,
    Fixed,
    NextAll,
    OnClose,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    Workflow,
    WorkflowCtx,
    gather,
    node,
    with_retry,
)
from floxide_amqp.core.ids import RunId
from tests.unit.runtime.cluster import Cluster

NewCluster = Callable[..., Cluster]


@node
async def charge(ctx: WorkflowCtx[Any], amount: int) -> int:
    await ctx.sleep(0.5)
    return amount + 1


@node
async def book(amount: int) -> int:
    return amount * 10


class Billing(Workflow[int, int]):
    start = charge
    edges = (charge >> book,)


@node
async def prepare(x: int) -> int:
    return x + 5


@node
async def report(x: int) -> str:
    return f"billed {x}"


class Ordering(Workflow[int, str]):
    start = prepare
    edges = (prepare >> ChildWorkflow(Billing) >> report,)


async def children_of(cluster: Cluster, run_id: str) -> list[Any]:
    services = cluster.client().services
    return [child for child, _ in (await services.children.page(run_id))[0]]  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_child_is_a_run_of_its_own_whose_output_its_parent_goes_on_with(cluster: NewCluster) -> None:
    here = cluster(Ordering)
    await here.start_worker()
    client = here.client()
    run = await client.start(Ordering, 1, run_id="order")
    assert await run.result(60) == "billed 70"
    (child,) = await children_of(here, "order")
    assert child.status is RunStatus.COMPLETED
    info = await client.run_info(child.run_id)
    assert (info.workflow, info.status) == ("Billing", RunStatus.COMPLETED)
    await here.check_completed("order")
    await here.check_completed(child.run_id)
    assert here.store.leftovers("letters") == {}


# --- failure


class BrokeError(Exception):
    """What a child fails with."""


@node
async def failing(ctx: WorkflowCtx[Any], x: int) -> int:
    ctx.resource(Fate).tries += 1
    if ctx.resource(Fate).tries <= ctx.resource(Fate).failures:
        raise BrokeError(f"no money for {x}")
    return x


class Fate:
    """How often the child fails."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries = 0


class Doomed(Workflow[int, int]):
    start = failing
    edges = (failing,)


class Strict(Workflow[int, int]):
    start = prepare
    edges = (prepare >> ChildWorkflow(Doomed),)


@node
async def console(ctx: WorkflowCtx[Any], x: int) -> str:
    failure = ctx.failure
    assert failure is not None
    return f"{failure.node}: {failure.error_type.rpartition('.')[2]} for {x}"


@node
async def praise(x: int) -> str:
    return f"well done, {x}"


doomed = ChildWorkflow(Doomed, name="doomed")


class Lenient(Workflow[int, str]):
    start = prepare
    edges = (prepare >> doomed >> praise, doomed.on_failure(ChildRunFailedError) >> console)


@pytest.mark.asyncio
async def test_a_child_that_fails_fails_its_parents_node_with_what_it_failed_with(cluster: NewCluster) -> None:
    here = cluster(Strict, resources={Fate: Fate(99)})
    await here.start_worker()
    client = here.client()
    run = await client.start(Strict, 1, run_id="parent")
    with pytest.raises(RunFailedError) as caught:
        await run.result(60)
    assert caught.value.node == "Doomed"
    assert caught.value.error_type.endswith("ChildRunFailedError")
    (child,) = await children_of(here, "parent")
    assert f"Run {child.run_id!r} of workflow 'Doomed'" in caught.value.error_message
    assert "BrokeError: no money for 6" in caught.value.error_message
    assert child.status is RunStatus.FAILED
    assert child.failed_node == "failing"


@pytest.mark.asyncio
async def test_a_failed_child_takes_the_on_failure_edge_of_its_node(cluster: NewCluster) -> None:
    here = cluster(Lenient, resources={Fate: Fate(99)})
    await here.start_worker()
    run = await here.client().start(Lenient, 1, run_id="parent")
    assert await run.result(60) == "doomed: ChildRunFailedError for 6"
    await here.check_completed("parent")


@pytest.mark.asyncio
async def test_each_retry_of_the_node_starts_a_new_child(cluster: NewCluster) -> None:
    policy = RetryPolicy(max_attempts=3, initial_backoff=0.1)
    stubborn = with_retry(ChildWorkflow(Doomed), policy)

    class Stubborn(Workflow[int, int]):
        start = stubborn
        edges = (stubborn,)

    here = cluster(Stubborn, resources={Fate: Fate(2)})
    await here.start_worker()
    run = await here.client().start(Stubborn, 1, run_id="parent")
    assert await run.result(60) == 1
    statuses = [child.status for child in await children_of(here, "parent")]
    assert statuses == [RunStatus.FAILED, RunStatus.FAILED, RunStatus.COMPLETED]
    await here.check_completed("parent")


@pytest.mark.asyncio
async def test_a_failed_parent_that_is_resumed_starts_a_new_child(cluster: NewCluster) -> None:
    here = cluster(Strict, resources={Fate: Fate(1)})
    await here.start_worker()
    client = here.client()
    run = await client.start(Strict, 1, run_id="parent")
    assert await run.wait(60) is RunStatus.FAILED
    await client.resume("parent")
    assert await run.result(60) == 6
    assert [child.status for child in await children_of(here, "parent")] == [RunStatus.FAILED, RunStatus.COMPLETED]


@pytest.mark.asyncio
async def test_a_child_that_is_cancelled_by_hand_fails_its_parents_node(cluster: NewCluster) -> None:
    here = cluster(Slowly)
    await here.start_worker()
    client = here.client()
    run = await client.start(Slowly, 1, run_id="parent")
    child = await first_child(here, "parent")
    await client.cancel(child, reason="enough")
    with pytest.raises(RunFailedError, match=r"was cancelled \(enough\)"):
        await run.result(60)


@pytest.mark.asyncio
async def test_a_child_that_is_too_late_fails_by_its_own_timeout(cluster: NewCluster) -> None:
    class Hasty(Workflow[int, int]):
        start = ChildWorkflow(Slow, timeout=2.0)
        edges = (start,)

    here = cluster(Hasty)
    await here.start_worker()
    run = await here.client().start(Hasty, 1, run_id="parent")
    with pytest.raises(RunFailedError, match=r"RunTimeoutError.*timeout of 2 s"):
        await run.result(60)


# --- the end of a parent


@node
async def long(ctx: WorkflowCtx[Any], x: int) -> int:
    await ctx.sleep(1_000)
    return x


class Slow(Workflow[int, int]):
    start = long
    edges = (long,)


@node
async def a_minute(ctx: WorkflowCtx[Any], x: int) -> int:
    await ctx.sleep(60)
    return x


class Minute(Workflow[int, int]):
    start = a_minute
    edges = (a_minute,)


class Slowly(Workflow[int, int]):
    start = ChildWorkflow(Slow)
    edges = (start,)


class Outer(Workflow[int, int]):
    start = ChildWorkflow(Slowly)
    edges = (start,)


async def first_child(cluster: Cluster, run_id: str) -> str:
    """The first child of a run, once it is there as a run."""
    services = cluster.client().services
    while True:
        found = await children_of(cluster, run_id)
        if found and await services.runs.find(found[0].run_id) is not None:
            return str(found[0].run_id)
        await asyncio.sleep(0.05)


async def three_levels(here: Cluster) -> tuple[str, str, str]:
    await here.client().start(Outer, 1, run_id="top")
    middle = await first_child(here, "top")
    return "top", middle, await first_child(here, middle)


@pytest.mark.asyncio
async def test_cancelling_goes_down_a_tree_of_three_levels(cluster: NewCluster) -> None:
    here = cluster(Outer)
    await here.start_worker()
    tree = await three_levels(here)
    client = here.client()
    assert [(await client.status(run_id)) for run_id in tree[:2]] == [RunStatus.WAITING, RunStatus.WAITING]
    await client.cancel("top", reason="changed my mind")
    for run_id in tree:
        assert await client.wait(run_id, 60) is RunStatus.CANCELLED
    assert (await client.run_info(tree[2])).reason == f"its parent run {tree[1]} has ended"
    assert await here.settle() == {}
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert (await children_of(here, "top"))[0].status is RunStatus.CANCELLED


@pytest.mark.asyncio
async def test_cancelling_reaches_children_that_nobody_has_started_yet(cluster: NewCluster) -> None:
    here = cluster(Outer)
    first = await here.start_worker()
    client = here.client()
    first.services.on_letters = lambda letters: None  # it dies before it delivers
    await client.start(Outer, 1, run_id="top")
    while not await children_of(here, "top"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    await first.kill()
    (child,) = await children_of(here, "top")
    assert await client.services.runs.find(child.run_id) is None
    await client.cancel("top")
    await here.start_worker()
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert await client.status(child.run_id) is RunStatus.CANCELLED
    assert await here.settle() == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["fails by its timeout", "fails by another branch"])
async def test_a_parent_that_fails_takes_its_children_along(cluster: NewCluster, how: str) -> None:
    @node
    async def breaking(ctx: WorkflowCtx[Any], x: int) -> int:
        await ctx.sleep(3)
        if how == "fails by another branch":
            raise BrokeError("on purpose")
        await ctx.sleep(1_000)
        return x

    class Branching(Workflow[int, list[int]], timeout=20.0):
        start = prepare
        edges = (prepare >> (ChildWorkflow(Slow), breaking),)

    here = cluster(Branching)
    await here.start_worker()
    client = here.client()
    run = await client.start(Branching, 1, run_id="parent")
    child = await first_child(here, "parent")
    assert await run.wait(60) is RunStatus.FAILED
    assert await client.wait(child, 60) is RunStatus.CANCELLED


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", [None, OnClose.CANCEL, OnClose.ABANDON])
async def test_a_child_that_nobody_waits_for_goes_on_unless_it_is_to_end_with_its_parent(
    cluster: NewCluster, policy: OnClose | None
) -> None:
    class Starting(Workflow[int, str]):
        start = ChildWorkflow(Slow, wait=False, on_close=policy)
        edges = (start,)

    here = cluster(Starting)
    await here.start_worker()
    client = here.client()
    run = await client.start(Starting, 1, run_id="parent")
    child = await run.result(60)
    if policy is OnClose.CANCEL:
        assert await client.wait(child, 60) is RunStatus.CANCELLED
    else:
        await asyncio.sleep(60)
        assert not (await client.status(child)).is_terminal
        await client.cancel(child)
    await here.check_completed("parent")


# --- pausing


async def paused(cluster: Cluster, run_id: str) -> bool:
    run = await cluster.client().services.runs.load(RunId(run_id))
    return run.state.status is RunStatus.PAUSED


@pytest.mark.asyncio
async def test_pausing_goes_down_the_tree_and_so_does_resuming(cluster: NewCluster) -> None:
    here = cluster(Outer)
    await here.start_worker()
    tree = await three_levels(here)
    client = here.client()
    await client.pause("top", reason="lunch")
    while not all([await paused(here, run_id) for run_id in tree]):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    assert (await client.run_info(tree[2])).reason == f"its parent run {tree[1]} is paused"
    await client.resume("top")
    while any([await paused(here, run_id) for run_id in tree]):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    await client.cancel("top")
    assert await client.wait(tree[2], 60) is RunStatus.CANCELLED


@pytest.mark.asyncio
async def test_a_child_that_somebody_paused_stays_so_when_its_parent_goes_on(cluster: NewCluster) -> None:
    here = cluster(Slowly)
    await here.start_worker()
    client = here.client()
    await client.start(Slowly, 1, run_id="parent")
    child = await first_child(here, "parent")
    await client.pause(child, reason="by hand")
    await client.pause("parent")
    await client.resume("parent")
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    assert await paused(here, child)
    await client.cancel("parent")
    assert await client.wait(child, 60) is RunStatus.CANCELLED


@pytest.mark.asyncio
async def test_a_parent_that_is_paused_and_resumed_again_and_again_takes_its_child_along(cluster: NewCluster) -> None:
    here = cluster(Slowly)
    await here.start_worker()
    await here.start_worker()
    client = here.client()
    await client.start(Slowly, 1, run_id="parent")
    child = await first_child(here, "parent")
    for number in range(7):
        await (client.pause("parent") if number % 2 == 0 else client.resume("parent"))
        await asyncio.sleep(0.001 * number)
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    assert await paused(here, child)
    await client.cancel("parent")


@pytest.mark.asyncio
async def test_a_child_that_is_started_by_a_paused_parent_is_paused(cluster: NewCluster) -> None:
    here = cluster(Slowly)
    first = await here.start_worker()
    client = here.client()
    first.services.on_letters = lambda letters: None
    await client.start(Slowly, 1, run_id="parent")
    while not await children_of(here, "parent"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    await client.pause("parent")
    (child,) = await children_of(here, "parent")
    while await client.services.runs.find(child.run_id) is None:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    while not await paused(here, child.run_id):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    await client.cancel("parent")


@pytest.mark.asyncio
async def test_a_client_that_is_open_delivers_what_it_causes(cluster: NewCluster) -> None:
    here = cluster(Slowly)
    await here.start_worker()
    async with here.client().open() as client:
        await client.start(Slowly, 1, run_id="parent")
        child = await first_child(here, "parent")
        began = asyncio.get_running_loop().time()
        await client.cancel("parent")
        assert await client.wait(child, 60) is RunStatus.CANCELLED
        assert asyncio.get_running_loop().time() - began < 3  # nobody waits for a letter to be found


@pytest.mark.asyncio
async def test_it_is_said_which_child_a_run_waits_for(cluster: NewCluster) -> None:
    here = cluster(Slowly)
    await here.start_worker()
    client = here.client()
    await client.start(Slowly, 1, run_id="parent")
    child = await first_child(here, "parent")
    info = await client.run_info("parent")
    assert info.status is RunStatus.WAITING
    (wait,) = info.waits
    assert (wait.what, wait.items) == (f"run {child!r}, which node 'Slow' has started", 1)
    assert wait.since is not None
    await client.cancel("parent")


# --- what a child is started with


class Account(Context):
    """A child's state that has to be given."""

    owner: Fixed[str]


@node
async def owned(ctx: WorkflowCtx[Account], x: int) -> str:
    return f"{x} of {ctx.state.owner}"


class Owned(Workflow[int, str, Account]):
    start = owned
    edges = (owned,)


@pytest.mark.asyncio
async def test_a_childs_state_is_made_from_its_input(cluster: NewCluster) -> None:
    class Giving(Workflow[int, str]):
        start = ChildWorkflow(Owned, context=lambda x: Account(owner=f"owner {x}"))
        edges = (start,)

    here = cluster(Giving)
    await here.start_worker()
    assert await (await here.client().start(Giving, 3)).result(60) == "3 of owner 3"


@pytest.mark.asyncio
async def test_a_child_whose_state_is_not_given_fails_its_node(cluster: NewCluster) -> None:
    class Forgetting(Workflow[int, str]):
        start = ChildWorkflow(Owned)
        edges = (start,)

    here = cluster(Forgetting)
    await here.start_worker()
    with pytest.raises(RunFailedError, match="needs a context"):
        await (await here.client().start(Forgetting, 3)).result(60)


@pytest.mark.asyncio
async def test_children_in_a_fan_out_are_gathered_in_order(cluster: NewCluster) -> None:
    @node
    async def listing(x: int) -> NextAll[int]:
        return NextAll(range(x))

    @node
    async def adding(ctx: WorkflowCtx[Any], xs: list[int]) -> str:
        return str(xs)

    class Many(Workflow[int, str]):
        start = listing
        edges = (listing >> ChildWorkflow(Billing) >> gather(adding),)

    here = cluster(Many)
    await here.start_worker()
    await here.start_worker()
    assert await (await here.client().start(Many, 40, run_id="parent")).result(120) == str(
        [(n + 1) * 10 for n in range(40)]
    )
    assert len(await children_of(here, "parent")) == 40
    await here.check_completed("parent")


@pytest.mark.asyncio
async def test_what_closes_children_comes_too_late_for_a_parent_that_goes_on_again(cluster: NewCluster) -> None:
    broken = {"is": True}

    @node
    async def breaking(ctx: WorkflowCtx[Any], x: int) -> int:
        if broken["is"]:
            raise BrokeError("once")
        return x

    class Branching(Workflow[int, list[int]]):
        start = prepare
        edges = (prepare >> (ChildWorkflow(Minute), breaking),)

    here = cluster(Branching)
    worker = await here.start_worker()
    deliver, worker.services.on_letters = worker.services.on_letters, lambda letters: None
    client = here.client()
    run = await client.start(Branching, 1, run_id="parent")
    while not await children_of(here, "parent"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    assert await run.wait(60) is RunStatus.FAILED
    broken["is"] = False
    assert await run.resume()
    while (await client.run_info("parent")).status is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    worker.services.on_letters = deliver
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert [(child.status, child.is_closing) for child in await children_of(here, "parent")] == [(None, False)]
    assert len(await run.result(200)) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", list(OnClose))
async def test_terminating_a_parent_ends_its_children_by_their_policy(cluster: NewCluster, policy: OnClose) -> None:
    class Calling(Workflow[int, int]):
        start = ChildWorkflow(Minute, on_close=policy)
        edges = (start,)

    here = cluster(Calling)
    await here.start_worker()
    client = here.client()
    run = await client.start(Calling, 1, run_id="parent")
    child = await first_child(here, "parent")
    await run.terminate(reason="enough")
    assert await run.status() is RunStatus.CANCELLED
    assert await client.wait(child, 200) is {
        OnClose.CANCEL: RunStatus.CANCELLED, OnClose.ABANDON: RunStatus.COMPLETED,
    }[policy]  # fmt: skip
    assert await here.settle() == {}


@pytest.mark.asyncio
async def test_a_run_can_be_deleted_as_soon_as_it_is_cancelled(cluster: NewCluster) -> None:
    here = cluster(Outer)
    await here.start_worker()
    tree = await three_levels(here)
    client = here.client()
    await client.cancel("top")
    assert await client.delete("top")
    for run_id in tree[1:]:
        assert await client.wait(run_id, 60) is RunStatus.CANCELLED
