"""What people do to runs by hand: outputs, inputs, contexts; and that it is on record who did it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    CodecError,
    Context,
    Fixed,
    InvalidRunStateError,
    NextAll,
    RunFailedError,
    RunStatus,
    Sum,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.exceptions import ContextChangeError, WorkItemNotFoundError
from floxide_amqp.runtime.orchestrator import Orchestrator
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Account(Context):
    owner: Fixed[str] = "nobody"
    total: Annotated[int, Sum()] = 0
    limit: int = 10


@node
async def twice(x: int) -> int:
    return 2 * x


@node
async def strict(ctx: WorkflowCtx[Account], x: int) -> int:
    """Takes no more than the limit."""
    ctx.state.total += x
    if x > ctx.state.limit:
        raise ValueError(f"{x} is too much")
    return x + 1


@node
async def shown(ctx: WorkflowCtx[Account], x: int) -> str:
    return f"{x} of {ctx.state.total}"


class Limited(Workflow[int, str, Account]):
    start = twice
    edges = (twice >> strict >> shown,)


class Waiting:
    """A step that waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go, self.interrupted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def workflow(self) -> Any:
        @node
        async def wait(ctx: WorkflowCtx[Account], x: int) -> int:
            self.begun.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.interrupted.set()
                raise
            ctx.state.total += 1
            return x

        class Patient(Workflow[int, str, Account]):
            start = wait
            edges = (wait >> strict >> shown,)

        return Patient


async def failed(cluster: Cluster) -> tuple[Orchestrator, Any, str]:
    """A run of which `strict` has failed on 20."""
    await cluster.start_worker()
    client = cluster.client()
    handle = await client.start(Limited, 10, run_id="run")
    with pytest.raises(RunFailedError) as error:
        await handle.result(60)
    return client, handle, error.value.item_id


async def actions(client: Orchestrator) -> list[tuple[str, str, str, str]]:
    return [(entry.action, entry.by, entry.reason, entry.detail) for entry in await client.audit_log("run")]


async def test_a_failed_run_is_retried_with_another_input_for_what_failed(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client, handle, _ = await failed(here)
    await client.retry("run", input=7, by="ann", reason="a typo")
    assert await handle.result(60) == "8 of 7"
    assert await actions(client) == [("retry", "ann", "a typo", "with another input")]
    await here.check_completed("run")


async def test_retrying_without_an_input_tries_the_same_again(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client, handle, _ = await failed(here)
    await client.edit_context(Limited, "run", lambda state: setattr(state, "limit", 99), by="ann")
    await handle.retry()
    assert await handle.result(60) == "21 of 20"
    assert [entry[0] for entry in await actions(client)] == ["edit_context", "retry"]


async def test_an_input_of_another_type_is_refused_and_nothing_is_changed(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client, handle, _ = await failed(here)
    with pytest.raises(CodecError, match="The input of node 'strict'"):
        await client.retry("run", input="seven")
    assert await handle.status() is RunStatus.FAILED
    assert await actions(client) == []


async def test_only_a_failed_run_can_be_retried(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Limited, 1, run_id="run")
    assert await handle.result(60) == "3 of 2"
    with pytest.raises(InvalidRunStateError, match="Cannot retry run 'run': it is completed"):
        await client.retry("run")


async def test_an_item_that_failed_is_given_its_output_and_the_run_goes_on_behind_it(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client, handle, item_id = await failed(here)
    await client.complete_item("run", item_id, 5, by="ann", reason="asked the bank")
    assert await handle.status() is RunStatus.FAILED
    await handle.resume()
    assert await handle.result(60) == "5 of 0"
    assert await actions(client) == [
        ("complete_item", "ann", "asked the bank", item_id),
        ("resume", client.services.name, "", ""),
    ]
    await here.check_completed("run")


async def test_an_item_in_a_fan_out_can_be_given_its_output_too(cluster: MakeCluster) -> None:
    @node
    async def split(count: int) -> NextAll[int]:
        return NextAll(range(count))

    @node
    async def third_fails(x: int) -> int:
        if x == 2:
            raise ValueError("no")
        return x

    @node
    async def add(values: list[int]) -> int:
        return sum(values)

    class Split(Workflow[int, int]):
        start = split
        edges = (split >> third_fails >> gather(add),)

    here = cluster(Split)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Split, 4, run_id="run")
    with pytest.raises(RunFailedError) as error:
        await handle.result(60)
    await client.complete_item("run", error.value.item_id, 100)
    await handle.resume()
    assert await handle.result(60) == 104
    await here.check_completed("run")


async def test_an_item_that_has_ended_or_is_none_can_be_given_nothing(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client, _, _ = await failed(here)
    (ended, *_) = await client.work_items("run")
    for item_id in (ended.item_id, "nothing"):
        with pytest.raises(WorkItemNotFoundError, match="waits for an output"):
            await client.complete_item("run", item_id, 5)


async def test_an_item_in_a_workers_hands_is_left_to_it(cluster: MakeCluster) -> None:
    waiting = Waiting()
    here = cluster(waiting.workflow())
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 3, run_id="run")
    await waiting.begun.wait()
    with pytest.raises(InvalidRunStateError, match="Pause it first"):
        await client.complete_item("run", (await client.pending_work("run"))[0].item_id, 1)
    await handle.pause()
    await asyncio.sleep(2 * here.timeouts.early_acknowledge)
    (item,) = await client.pending_work("run")
    assert item.status is WorkItemStatus.IN_PROGRESS
    with pytest.raises(InvalidRunStateError, match=r"is in progress\. Wait until its worker has ended it"):
        await client.complete_item("run", item.item_id, 1)
    waiting.go.set()
    await handle.resume()
    assert await handle.result(60) == "4 of 4"


@pytest.mark.parametrize("hears", [True, False], ids=["told", "not told"])
async def test_a_body_that_nobody_has_claimed_is_interrupted_and_what_it_comes_to_is_refused(
    cluster: MakeCluster, hears: bool
) -> None:
    steps = Waiting()
    workflow = steps.workflow()
    here = cluster(workflow)
    await here.start_worker()
    client = here.client()
    handle = await client.start(workflow, 1, run_id="run", context=Account(owner="ann"))
    await steps.begun.wait()
    await client.pause("run", by="ann")
    (item,) = await client.pending_work("run")
    assert item.status is WorkItemStatus.PENDING
    if not hears:
        here.bus._listeners.clear()
    await client.complete_item("run", item.item_id, 7, by="ann", reason="it takes too long")
    if hears:
        await steps.interrupted.wait()
    else:
        steps.go.set()
        await asyncio.sleep(5)
    await handle.resume()
    assert await handle.result(60) == "8 of 7"  # the body's own change of the context is refused with its result
    assert ("complete_item", "ann", "it takes too long", item.item_id) in await actions(client)
    await here.check_completed("run")


async def test_a_run_is_completed_by_hand_and_what_is_in_flight_is_interrupted(cluster: MakeCluster) -> None:
    waiting = Waiting()
    here = cluster(waiting.workflow())
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 3, run_id="run")
    await waiting.begun.wait()
    await client.complete("run", "done elsewhere", by="ann", reason="the machine is broken")
    assert await handle.result(60) == "done elsewhere"
    await waiting.interrupted.wait()
    assert await actions(client) == [("complete", "ann", "the machine is broken", "")]
    assert [item.status for item in await client.pending_work("run")] == [WorkItemStatus.CANCELLED]
    assert await here.settle() == {}
    with pytest.raises(InvalidRunStateError, match="Cannot complete run 'run': it is completed"):
        await client.complete("run", "again")


async def test_a_failed_run_is_completed_with_all_outputs_where_there_may_be_several(cluster: MakeCluster) -> None:
    @node
    async def spread(x: int) -> NextAll[int]:
        return NextAll(range(x))

    @node
    async def fails_at_two(x: int) -> int:
        if x == 2:
            raise ValueError("no")
        return x

    class Spread(Workflow[int, list[int]]):
        start = spread
        edges = (spread >> fails_at_two,)

    here = cluster(Spread)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Spread, 3, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    with pytest.raises(CodecError, match="The output of run 'run'"):
        await client.complete("run", ["a"])
    await client.complete("run", [7, 8])
    assert await handle.result(60) == [7, 8]


async def test_the_context_of_a_paused_run_is_edited_while_a_step_in_flight_changes_it_too(
    cluster: MakeCluster,
) -> None:
    waiting = Waiting()
    here = cluster(waiting.workflow())
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 3, run_id="run")
    await waiting.begun.wait()
    await handle.pause()
    seen: list[int] = []

    def edit(state: Account) -> None:
        seen.append(state.total)
        state.total += 100
        state.limit = 50

    await client.edit_context(here.workflows[0], "run", edit, by="ann", reason="agreed by phone")
    waiting.go.set()
    await handle.resume()
    assert await handle.result(60) == "4 of 104"
    assert seen == [0]
    assert (await client.context(here.workflows[0], "run")).limit == 50
    assert ("edit_context", "ann", "agreed by phone", "limit, total") in await actions(client)


async def test_an_edit_that_met_another_change_is_made_again_on_what_there_is_now(cluster: MakeCluster) -> None:
    waiting = Waiting()
    here = cluster(waiting.workflow())
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 3, run_id="run")
    await waiting.begun.wait()
    await handle.pause()
    seen: list[int] = []
    commit = client.services.commit

    async def after_the_step(*args: Any) -> Any:
        if len(seen) == 1:
            waiting.go.set()
            while (await client.context(here.workflows[0], "run")).total == 0:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.01)
        return await commit(*args)

    def edit(state: Account) -> None:
        seen.append(state.total)
        edit_total(state)

    client.services.commit = after_the_step  # type: ignore[method-assign,assignment]
    await client.edit_context(here.workflows[0], "run", edit)
    assert seen == [0, 1]
    assert (await client.context(here.workflows[0], "run")).total == 11


def edit_total(state: Account) -> None:
    state.total += 10


async def test_what_no_node_could_change_cannot_be_edited_either(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client, _, _ = await failed(here)
    with pytest.raises(ContextChangeError, match="owner"):
        await client.edit_context(Limited, "run", lambda state: setattr(state, "owner", "ann"))
    await client.edit_context(Limited, "run", lambda state: None)
    assert await actions(client) == []


async def test_the_context_of_a_run_that_goes_on_is_left_to_its_nodes(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client = here.client()
    await client.start(Limited, 3, run_id="run")
    with pytest.raises(InvalidRunStateError, match="Pause it first"):
        await client.edit_context(Limited, "run", edit_total)


async def test_every_action_is_on_record_with_who_and_why(cluster: MakeCluster) -> None:
    here = cluster(Limited)
    client = here.client()
    await client.start(Limited, 3, run_id="run")
    await client.pause("run", by="ann", reason="wait")
    await client.resume("run", by="bob")
    await client.cancel("run", by="ann", reason="enough")
    await client.cancel("run", by="eve")
    assert await actions(client) == [
        ("pause", "ann", "wait", ""),
        ("resume", "bob", "", ""),
        ("cancel", "ann", "enough", ""),
    ]
