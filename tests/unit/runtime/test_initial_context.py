"""The context of runs that are given none."""

from __future__ import annotations

from itertools import count
from typing import Annotated, Any

import pytest

from floxide_amqp import Append, Context, DefinitionError, Fixed, Workflow, WorkflowCtx, node
from floxide_amqp.core.context import context_to_plain
from floxide_amqp.runtime.initial_context import initial_context
from floxide_amqp.stores.encoding import unpack


class Packing(Context):
    packed: Annotated[list[str], Append()] = ["box"]
    limit: Fixed[int] = 3


@node
async def pack_it(ctx: WorkflowCtx[Packing], article: str) -> int:
    del article
    return len(ctx.state.packed)


class Shop(Workflow[str, int, Packing]):
    start = pack_it


NUMBERS = count(1)


class Numbered(Context):
    number: Fixed[int] = 0

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"number": next(NUMBERS), **values})


@node
async def tell(ctx: WorkflowCtx[Numbered], _: str) -> int:
    return ctx.state.number


class Counting(Workflow[str, int, Numbered]):
    start = tell


class Named(Context):
    customer: Fixed[str]


@node
async def greet(ctx: WorkflowCtx[Named], _: str) -> str:
    return ctx.state.customer


class Greeting(Workflow[str, str, Named]):
    start = greet


def test_a_run_without_a_context_has_the_defaults_of_its_class() -> None:
    for _ in range(2):
        assert initial_context(Shop.graph, None) == initial_context(Shop.graph, Packing())
    assert unpack(initial_context(Shop.graph, None)) == context_to_plain(Packing())


def test_a_class_with_a_constructor_of_its_own_makes_each_runs_context() -> None:
    first, second = (unpack(initial_context(Counting.graph, None)) for _ in range(2))
    assert first != second


def test_a_field_without_default_is_asked_for_each_time() -> None:
    for _ in range(2):
        with pytest.raises(DefinitionError, match=r"'Greeting' needs a context: pass context=Named\(...\)"):
            initial_context(Greeting.graph, None)
