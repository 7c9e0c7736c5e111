"""What the decorator and the classes infer, and what calling a node directly gives."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Never, assert_type

from shop import *

from floxide_amqp import Context, NoContext, RetryPolicy, SplitNode, Transition, WorkflowCtx, with_retry
from floxide_amqp.core.function_node import FunctionNode

assert_type(charge, FunctionNode[OrderContext, Order, Receipt, Coroutine[Any, Any, Receipt]])
assert_type(
    approve,
    FunctionNode[OrderContext, Receipt, Approved | Rejected, Coroutine[Any, Any, Transition[Approved | Rejected]]],
)
assert_type(split, FunctionNode[OrderContext, Approved, str, Coroutine[Any, Any, Transition[str]]])
assert_type(pick, FunctionNode[Context, str, Picked, Coroutine[Any, Any, Picked]])
assert_type(notify, FunctionNode[OrderContext, Packed | Refund, str, str])
assert_type(start_empty, FunctionNode[OrderContext, None, int, Coroutine[Any, Any, int]])
assert_type(give_up, FunctionNode[OrderContext, Order, Never, Coroutine[Any, Any, Transition[Never]]])
assert_type(mixed, FunctionNode[OrderContext, Order, int, Coroutine[Any, Any, Transition[int]]])
assert_type(bare_or_hold, FunctionNode[OrderContext, Order, int, Coroutine[Any, Any, int]])
assert_type(
    judge, FunctionNode[Context, Receipt, Approved | Rejected, Coroutine[Any, Any, Approved | Rejected]]
)  # mypy would make `object` of a bare union if it met `Hold` in the same annotation
assert_type(judge_in_a_thread, FunctionNode[Context, Receipt, Approved | Rejected, Approved | Rejected])
assert_type(sync_plain, FunctionNode[Context, str, int, int])
assert_type(sync_or_abort, FunctionNode[Context, str, int, int])
assert_type(sync_next, FunctionNode[Context, str, int, Transition[int]])
assert_type(optional, FunctionNode[Context, str, int | None, int | None])
assert_type(charge.named("charge_again"), FunctionNode[OrderContext, Order, Receipt, Coroutine[Any, Any, Receipt]])
assert_type(
    with_retry(charge, RetryPolicy(max_attempts=5)),
    FunctionNode[OrderContext, Order, Receipt, Coroutine[Any, Any, Receipt]],
)

assert_type(Tag[int](42), Tag[int])
assert_type(Tag[int](42).named("second"), Tag[int])
assert_type(Pair[str]("b"), Pair[str])
assert_type(Scale(2.0), Scale)
assert_type(SplitNode(halves), SplitNode[Order, str])


async def called_directly() -> None:
    ctx = WorkflowCtx.for_test(OrderContext(customer="c1"), resources={Http: Http()}, attempt=2)
    assert_type(ctx, WorkflowCtx[OrderContext])
    assert_type(ctx.state.customer, str)
    assert_type(ctx.resource(Http), Http)
    assert_type(await charge(ctx, Order("1", [])), Receipt)
    assert_type(await pick("nut"), Picked)
    assert_type(sync_plain("four"), int)
    assert_type(notify(ctx, Packed(1)), str)
    assert_type(await approve(ctx, Receipt("1")), Transition[Approved | Rejected])
    assert_type(WorkflowCtx.for_test(), WorkflowCtx[NoContext])
    assert_type(await pick(WorkflowCtx.for_test(), "nut"), Picked)
    assert_type(await ctx.run_future(pick("nut")), Picked)
