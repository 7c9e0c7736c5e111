from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import NodeCancelledError, ResourceNotFoundError


class Shop(Context):
    spent: int = 0


class Http: ...


class FakeHttp(Http): ...


def test_a_context_for_tests_tells_what_it_was_given() -> None:
    failure = FailureInfo(node="charge", error_type="DeclinedError", message="no", attempts=3)
    state, deadline = Shop(), datetime(2030, 1, 1, tzinfo=UTC)
    ctx = WorkflowCtx.for_test(
        state,
        attempt=2,
        failure=failure,
        run_id="r",
        item_id="i",
        node="n",
        workflow="W",
        worker_id="w",
        deadline=deadline,
    )
    assert ctx.state is state
    assert (ctx.run_id, ctx.item_id, ctx.node, ctx.workflow, ctx.worker_id) == ("r", "i", "n", "W", "w")
    assert (ctx.attempt, ctx.failure, ctx.deadline) == (2, failure, deadline)
    assert repr(ctx) == "<WorkflowCtx of 'n', run 'r', attempt 2>"


def test_without_a_state_there_is_none() -> None:
    ctx = WorkflowCtx.for_test()
    assert isinstance(ctx.state, NoContext)
    assert (ctx.attempt, ctx.failure, ctx.deadline, ctx.time_left) == (1, None, None, None)


def test_the_idempotency_key_is_the_same_over_attempts_and_of_one_item() -> None:
    keys = {WorkflowCtx.for_test(attempt=n).idempotency_key for n in range(1, 4)}
    assert len(keys) == 1
    assert WorkflowCtx.for_test(item_id="other").idempotency_key not in keys
    assert WorkflowCtx.for_test(run_id="other").idempotency_key not in keys


def test_resources_are_found_by_type_and_by_a_base_of_it() -> None:
    fake = FakeHttp()
    assert WorkflowCtx.for_test(resources={Http: fake}).resource(Http) is fake
    assert WorkflowCtx.for_test(resources={FakeHttp: fake}).resource(Http) is fake


def test_a_missing_resource_is_an_error_that_names_what_there_is() -> None:
    with pytest.raises(ResourceNotFoundError) as caught:
        WorkflowCtx.for_test(node="charge", resources={FakeHttp: FakeHttp()}).resource(dict)
    assert "Node 'charge' asked for a resource of type dict, but the lifespan provides: FakeHttp." in str(caught.value)


async def test_sleeping_passes_at_once_and_moves_the_clock() -> None:
    ctx = WorkflowCtx.for_test(deadline=datetime.fromtimestamp(100, UTC))
    assert ctx.time_left == timedelta(seconds=100)
    await ctx.sleep(timedelta(seconds=40))
    await ctx.sleep(0.5)
    assert ctx.time_left == timedelta(seconds=59.5)
    await ctx.sleep(1_000)
    assert ctx.time_left == timedelta()


async def test_cancelling_the_own_run_is_seen_by_the_step() -> None:
    ctx = WorkflowCtx.for_test()
    waiting = asyncio.ensure_future(ctx.cancelled())
    assert not ctx.is_cancelled
    await ctx.cancel()
    await asyncio.wait_for(waiting, 1)
    assert ctx.is_cancelled


async def test_run_future_gives_the_result_or_the_error() -> None:
    ctx = WorkflowCtx.for_test()

    async def fail() -> int:
        raise ValueError("no")

    assert await ctx.run_future(asyncio.sleep(0, result=5)) == 5
    with pytest.raises(ValueError, match="no"):
        await ctx.run_future(fail())


async def test_run_future_cancels_what_it_waits_for_when_the_step_should_stop() -> None:
    ctx = WorkflowCtx.for_test(node="charge", run_id="r1")
    cleaned_up = asyncio.Event()
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    waiting = asyncio.ensure_future(ctx.run_future(work()))
    await started.wait()
    await ctx.cancel()
    with pytest.raises(NodeCancelledError, match=r"Run 'r1' was cancelled while node 'charge' was at work."):
        await waiting
    assert cleaned_up.is_set()
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancelled_step_does_not_sleep() -> None:
    ctx = WorkflowCtx.for_test(is_cancelled=True)
    with pytest.raises(NodeCancelledError):
        await ctx.run_future(asyncio.Event().wait())


async def test_cancelling_the_step_from_outside_leaves_no_task_behind() -> None:
    ctx = WorkflowCtx.for_test()
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(ctx.run_future(work()))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(asyncio.all_tasks()) == 1


def test_the_logger_takes_events_and_is_the_same_each_time() -> None:
    ctx = WorkflowCtx.for_test()
    ctx.log.info("order.charged", total=5)
    ctx.log.bind(order="o1").warning("order.late")
    assert ctx.log is ctx.log


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bogus", r"WorkflowCtx.for_test\(\) has no argument 'bogus'. It takes state, resources, attempt, failure,"),
        ("resource", "has no argument 'resource'. Did you mean resources"),
    ],
)
def test_an_argument_that_a_context_for_tests_does_not_have_is_named(name: str, sentence: str) -> None:
    wrong: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=sentence):
        WorkflowCtx.for_test(**wrong)
