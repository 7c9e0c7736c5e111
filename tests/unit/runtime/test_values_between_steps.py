"""Values on their way from step to step in one worker: checked once, and each step's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from floxide_amqp import NextAll, RetryPolicy, Workflow, gather, node
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

TRIED_AGAIN = RetryPolicy(max_attempts=5)


@dataclass
class Basket:
    lines: list[str] = field(default_factory=list[str])


async def play(cluster: Cluster, workflow: Any, value: object) -> Any:
    await cluster.start_worker()
    handle = await cluster.client().start(workflow, value, run_id="run")
    return await handle.result(timeout=600)


async def test_a_value_is_validated_once_on_its_way_from_one_step_to_the_next(cluster: MakeCluster) -> None:
    validated: list[int] = []

    class Order(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def noted(cls, number: int) -> int:
            validated.append(number)
            return number

    @node
    async def step(order: Order) -> Order:
        return order.model_copy(update={"number": order.number + 1})

    class Chain(Workflow[Order, Order]):
        start = step.named("first")
        edges = (start >> step.named("second") >> step.named("third"),)

    assert (await play(cluster(Chain), Chain, Order.model_construct(number=0))).number == 3
    assert [validated.count(number) for number in range(4)] == [2, 1, 1, 2]


async def test_what_a_step_does_to_its_input_does_not_reach_what_the_step_before_returned(cluster: MakeCluster) -> None:
    kept = Basket(["first"])

    @node
    async def returns_what_it_keeps(number: int) -> Basket:
        return kept

    @node
    async def adds(basket: Basket) -> Basket:
        basket.lines.append("second")
        return basket

    class Adding(Workflow[int, Basket]):
        start = returns_what_it_keeps
        edges = (start >> adds,)

    assert await play(cluster(Adding), Adding, 1) == Basket(["first", "second"])
    assert kept == Basket(["first"])


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_step_that_is_tried_again_sees_its_input_as_it_was(cluster: MakeCluster, failures: int) -> None:
    seen: list[list[str]] = []

    @node
    async def fills(number: int) -> Basket:
        return Basket(["given"])

    @node
    async def spoils(basket: Basket) -> Basket:
        seen.append(list(basket.lines))
        basket.lines.append("spoilt")
        if len(seen) <= failures:
            raise ValueError("not yet")
        return basket

    class Spoiling(Workflow[int, Basket], retry=TRIED_AGAIN):
        start = fills
        edges = (start >> spoils,)

    assert await play(cluster(Spoiling), Spoiling, 1) == Basket(["given", "spoilt"])
    assert seen == [["given"]] * (failures + 1)


async def test_steps_beside_each_other_have_values_of_their_own(cluster: MakeCluster) -> None:
    @node
    async def spreads(number: int) -> NextAll[Basket]:
        same = Basket(["given"])
        return NextAll([same] * number)

    @node
    async def adds(basket: Basket) -> Basket:
        basket.lines.append("added")
        return basket

    @node
    async def all_lines(baskets: list[Basket]) -> list[str]:
        return sorted(line for basket in baskets for line in basket.lines)

    class Spread(Workflow[int, list[str]]):
        start = spreads
        edges = (start >> adds >> gather(all_lines),)

    assert await play(cluster(Spread), Spread, 3) == ["added"] * 3 + ["given"] * 3
