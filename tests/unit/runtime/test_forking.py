"""New runs that begin in another run's past, with its context as of then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Append,
    BatchNode,
    CodecError,
    Context,
    Hold,
    Next,
    NextAll,
    RunConflictError,
    RunStatus,
    Sum,
    Workflow,
    WorkflowCtx,
    all_of,
    any_of,
    gather,
    n_of,
    node,
    repeat,
)
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.exceptions import ForkError
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.settings import Limits, Retention
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Trail(Context):
    steps: Annotated[list[str], Append()] = []
    total: Annotated[int, Sum()] = 0


def step(name: str, by: int) -> Any:
    @node
    async def add(ctx: WorkflowCtx[Trail], x: int) -> int:
        ctx.state.steps.append(f"{name} {x}")
        ctx.state.total += by
        return x + by

    return add.named(name)


one, ten, hundred = step("one", 1), step("ten", 10), step("hundred", 100)


class Chain(Workflow[int, int, Trail]):
    start = one
    edges = (one >> ten >> hundred,)


async def finished(cluster: Cluster, workflow: Any, input: Any) -> tuple[Orchestrator, Any]:
    await cluster.start_worker()
    client = cluster.client()
    handle = await client.start(workflow, input, run_id="old", attributes={"tenant": "acme"})
    await handle.wait(60)
    return client, handle


async def item_of(client: Orchestrator, node_name: str, number: int = 0) -> str:
    items = [item for item in await client.work_items("old") if item.node == node_name]
    return items[number].item_id


async def test_a_fork_begins_with_a_past_item_and_the_context_as_its_body_saw_it(cluster: MakeCluster) -> None:
    here = cluster(Chain)
    client, old = await finished(here, Chain, 5)
    item_id = await item_of(client, "ten")
    new = await client.fork(Chain, "old", from_item=item_id, new_run_id="new", by="ann", reason="what if")
    assert await new.result(60) == 116
    assert (await client.context(Chain, "new")).steps == ["one 5", "ten 6", "hundred 16"]
    assert (await client.context(Chain, "new")).total == 111
    assert [item.node for item in await client.work_items("new")] == ["ten", "hundred"]
    info = await client.run_info("new")
    assert (info.forked_from, dict(info.attributes)) == (("old", item_id), {"tenant": "acme"})
    assert await old.result(1) == 116
    (noted,) = await client.audit_log("new")
    assert (noted.action, noted.by, noted.reason) == ("fork", "ann", "what if")
    await here.check_completed("new")


async def test_a_fork_may_begin_with_another_input_and_another_context(cluster: MakeCluster) -> None:
    here = cluster(Chain)
    client, _ = await finished(here, Chain, 5)
    new = await client.fork(
        Chain, "old", from_item=await item_of(client, "hundred"), input=1000, context=Trail(total=7)
    )
    assert await new.result(60) == 1100
    assert (await client.context(Chain, new.run_id)).total == 107
    with pytest.raises(CodecError, match="The input of node 'hundred'"):
        await client.fork(Chain, "old", from_item=await item_of(client, "hundred"), input="many")


async def test_forking_again_with_the_same_ids_returns_the_same_run(cluster: MakeCluster) -> None:
    here = cluster(Chain)
    client, _ = await finished(here, Chain, 5)
    ten_id, hundred_id = await item_of(client, "ten"), await item_of(client, "hundred")
    for _ in range(2):
        new = await client.fork(Chain, "old", from_item=ten_id, new_run_id="new")
        assert await new.result(60) == 116
    assert len(await here.history("new")) == 2
    with pytest.raises(RunConflictError):
        await client.fork(Chain, "old", from_item=hundred_id, new_run_id="new")


async def test_a_run_is_forked_from_what_it_failed_with(cluster: MakeCluster) -> None:
    @node
    async def picky(x: int) -> int:
        if x > 10:
            raise ValueError("too much")
        return x

    class Picky(Workflow[int, int, Trail]):
        start = one
        edges = (one >> picky,)

    here = cluster(Picky)
    client, old = await finished(here, Picky, 50)
    assert await old.status() is RunStatus.FAILED
    failed = (await client.pending_work("old"))[0].item_id
    new = await client.fork(Picky, "old", from_item=failed, input=3)
    assert await new.result(60) == 3
    assert await old.status() is RunStatus.FAILED


@node
async def split(ctx: WorkflowCtx[Trail], count: int) -> NextAll[int]:
    ctx.state.steps.append("split")
    return NextAll(range(count))


@node
async def join(ctx: WorkflowCtx[Trail], values: list[int]) -> int:
    ctx.state.steps.append("join")
    return sum(values)


class Fan(Workflow[int, int, Trail]):
    start = split
    edges = (split >> ten >> gather(join) >> one,)


async def test_a_fork_from_inside_a_fan_out_joins_with_what_had_arrived_beside_it(cluster: MakeCluster) -> None:
    here = cluster(Fan)
    client, old = await finished(here, Fan, 4)
    assert await old.result(1) == 47
    second = await item_of(client, "ten", 2)
    new = await client.fork(Fan, "old", from_item=second, input=1000, new_run_id="new")
    beside = [10 + place for place in range(4) if place != await place_of(client, second)]
    assert await new.result(60) == 1010 + sum(beside) + 1
    await here.check_completed("new")


async def place_of(client: Orchestrator, item_id: str) -> int:
    """The place of an element in the innermost fan-out around it, which is also what it took."""
    (stored,) = await client.services.items.find(RunId("old"), (WorkItemId(item_id),))
    assert stored is not None
    return stored.item.order[-1]


async def test_a_fork_from_a_join_has_all_that_arrived(cluster: MakeCluster) -> None:
    here = cluster(Fan)
    client, _ = await finished(here, Fan, 4)
    new = await client.fork(Fan, "old", from_item=await item_of(client, "join"))
    assert await new.result(60) == 47
    assert [item.node for item in await client.work_items(new.run_id)] == ["join", "one"]


async def test_a_fork_from_a_nested_fan_out_closes_both(cluster: MakeCluster) -> None:
    @node
    async def rows(count: int) -> NextAll[int]:
        return NextAll([2] * count)

    class Nested(Workflow[int, int, Trail]):
        start = rows
        edges = (rows >> split >> ten >> gather(join) >> hundred >> gather(join.named("all_rows")),)

    here = cluster(Nested)
    client, old = await finished(here, Nested, 3)
    assert await old.result(1) == 3 * (21 + 100)
    third = await item_of(client, "ten", 3)
    new = await client.fork(Nested, "old", from_item=third, input=1000, new_run_id="new")
    assert await new.result(60) == 3 * (21 + 100) + 1000 - await place_of(client, third)
    await here.check_completed("new")
    assert [item.node for item in await client.work_items("new")] == ["ten", "join", "hundred", "all_rows"]


async def test_where_the_context_as_of_then_is_trimmed_away_the_fork_is_refused_and_says_so(
    cluster: MakeCluster,
) -> None:
    @node
    async def count(ctx: WorkflowCtx[Trail], x: int) -> int:
        ctx.state.total += 1
        return x + 1

    class Counting(Workflow[int, int, Trail]):
        start = one
        edges = (one >> count >> count.named("again") >> count.named("more") >> hundred >> step("last", 1),)

    here = cluster(Counting, limits=replace(Limits(), context_snapshot=1))
    client, old = await finished(here, Counting, 0)
    assert await old.result(1) == 105
    items = await client.work_items("old")
    with pytest.raises(ForkError, match=r"the context as of then \(change 1\) is gone") as refused:
        await client.fork(Counting, "old", from_item=items[1].item_id)
    assert "give the context" in str(refused.value)
    given = await client.fork(Counting, "old", from_item=items[1].item_id, context=Trail())
    assert await given.result(60) == 105
    late = await client.fork(Counting, "old", from_item=items[-1].item_id)
    assert await late.result(60) == 105
    assert (await client.context(Counting, late.run_id)).total == 105


async def test_an_input_that_was_not_kept_has_to_be_given(cluster: MakeCluster) -> None:
    here = cluster(Chain, retention=Retention(keep_inputs=False))
    client, _ = await finished(here, Chain, 5)
    item_id = await item_of(client, "ten")
    with pytest.raises(ForkError, match="its input was not kept"):
        await client.fork(Chain, "old", from_item=item_id)
    new = await client.fork(Chain, "old", from_item=item_id, input=6)
    assert await new.result(60) == 116


async def test_only_what_has_ended_is_the_past(cluster: MakeCluster) -> None:
    @node
    async def wait(x: int) -> int | Hold:
        return Hold(for_=1_000)

    class Holding(Workflow[int, int]):
        start = wait

    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    await client.start(Holding, 1, run_id="old")
    while not (items := await client.pending_work("old")) or items[0].due_at is None:
        pass
    with pytest.raises(ForkError, match="it is held"):
        await client.fork(Holding, "old", from_item=items[0].item_id)
    with pytest.raises(ForkError, match="there is no such item"):
        await client.fork(Holding, "old", from_item="nothing")


async def test_a_fan_out_that_goes_in_waves_is_forked_from_its_opener(cluster: MakeCluster) -> None:
    @node
    async def plus(x: int) -> int:
        return x + 1

    class Batched(Workflow[list[int], list[int]]):
        start = BatchNode(plus, max_in_flight=2)

    here = cluster(Batched)
    client, old = await finished(here, Batched, [1, 2, 3])
    assert await old.result(1) == [2, 3, 4]
    inner = next(item for item in await client.work_items("old") if item.node.endswith("/item"))
    with pytest.raises(ForkError, match="goes in waves"):
        await client.fork(Batched, "old", from_item=inner.item_id)
    whole = await client.fork(Batched, "old", from_item=(await client.work_items("old"))[0].item_id)
    assert await whole.result(60) == [2, 3, 4]


async def test_a_fork_of_a_fork_has_what_had_arrived_in_it_too(cluster: MakeCluster) -> None:
    here = cluster(Fan)
    client, _ = await finished(here, Fan, 4)
    second = await item_of(client, "ten", 2)
    place = await place_of(client, second)
    new = await client.fork(Fan, "old", from_item=second, input=1000, new_run_id="new")
    assert await new.result(60) == sum(range(10, 14)) - (10 + place) + 1010 + 1
    own = next(item for item in await client.work_items("new") if item.node == "ten")
    newer = await client.fork(Fan, "new", from_item=own.item_id, input=5000, new_run_id="newer")
    assert await newer.result(60) == sum(range(10, 14)) - (10 + place) + 5010 + 1
    await here.check_completed("newer")


async def test_where_the_join_of_a_fork_fails_what_runs_in_its_place_has_what_arrived(cluster: MakeCluster) -> None:
    @node
    async def picky(values: list[int]) -> int:
        raise ValueError("no")

    @node
    async def poorer(values: list[int]) -> int:
        raise ValueError("neither")

    class Poor(Workflow[int, int, Trail]):
        start = split
        edges = (
            split >> ten >> gather(picky) >> one,
            picky.on_failure >> poorer,
            poorer.on_failure >> join >> one,
        )

    here = cluster(Poor)
    client, old = await finished(here, Poor, 3)
    assert await old.result(1) == 34
    second = await item_of(client, "ten")
    new = await client.fork(Poor, "old", from_item=second, new_run_id="new")
    assert await new.result(60) == 34
    await here.check_completed("new")


async def test_a_fork_is_deleted_with_what_arrived_in_a_fan_out_that_it_did_not_open(cluster: MakeCluster) -> None:
    here = cluster(Fan)
    client, _ = await finished(here, Fan, 4)
    second = await item_of(client, "ten", 2)
    new = await client.fork(Fan, "old", from_item=second, new_run_id="new")
    await new.result(60)
    for run_id in ("old", "new"):
        await client.delete(run_id)
    assert here.store.leftovers("in:", "live:") == {}


@node
async def stock(x: int) -> int:
    return x + 1


@node
async def credit(x: int) -> int:
    return x + 2


@node
async def send(checks: tuple[int | None, int | None]) -> int:
    return (checks[0] or 0) * (checks[1] or 0)


class Checked(Workflow[int, int, Trail]):
    start = one
    edges = (one >> ten >> (stock, credit), all_of(stock, credit, missing="skip") >> send >> hundred)


@pytest.mark.parametrize("beside", ["stock", "credit"])
async def test_beside_a_join_of_edges_no_run_begins(cluster: MakeCluster, beside: str) -> None:
    here = cluster(Checked)
    client, old = await finished(here, Checked, 4)
    assert await old.result(1) == 16 * 17 + 100
    cure = r"'send' joins what comes from it with .* Fork from an item that all ways to 'send' lead through"
    with pytest.raises(ForkError, match=cure):
        await client.fork(Checked, "old", from_item=await item_of(client, beside), new_run_id="new")


@pytest.mark.parametrize(("begins", "gives"), [("one", 372), ("ten", 372), ("send", 372), ("hundred", 372)])
async def test_before_and_behind_a_join_of_edges_a_run_may_begin(cluster: MakeCluster, begins: str, gives: int) -> None:
    here = cluster(Checked)
    client, _ = await finished(here, Checked, 4)
    new = await client.fork(Checked, "old", from_item=await item_of(client, begins), new_run_id="new")
    assert await new.result(60) == gives
    await here.check_completed("new")


@node
async def take(x: int) -> int:
    return x


@node
async def take_some(xs: list[int]) -> int:
    return sum(xs)


@pytest.mark.parametrize("join", [any_of(stock, credit) >> take, n_of(1, stock, credit) >> take_some])
async def test_beside_a_join_that_waits_for_nobody_a_run_begins(cluster: MakeCluster, join: Any) -> None:
    class Quick(Workflow[int, int, Trail]):
        start = one
        edges = (one >> (stock, credit), join)

    here = cluster(Quick)
    client, _ = await finished(here, Quick, 4)
    new = await client.fork(Quick, "old", from_item=await item_of(client, "stock"), new_run_id="new", input=10)
    assert await new.result(60) == 11
    await here.check_completed("new")


async def test_a_join_in_a_loop_that_a_run_begins_behind_is_reached_again(cluster: MakeCluster) -> None:
    @node
    async def again(checks: tuple[int, int]) -> Next[int | str]:
        return Next(checks[0] if checks[0] < 5 else "done")

    @node
    async def begin(x: int) -> int:
        return x

    @node
    async def end(x: str) -> str:
        return x

    class Looping(Workflow[int, str]):
        start = begin
        edges = (
            begin >> (stock, credit),
            all_of(stock, credit) >> again,
            again.when(int) >> repeat(begin, max_iterations=9),
            again.when(str) >> end,
        )

    here = cluster(Looping)
    client, old = await finished(here, Looping, 1)
    assert await old.result(1) == "done"
    new = await client.fork(Looping, "old", from_item=await item_of(client, "again"), new_run_id="new")
    assert await new.result(60) == "done"
    await here.check_completed("new")
