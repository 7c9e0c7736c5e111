"""Random pieces of workflows that start runs of other ones, whose result is known."""

from __future__ import annotations

from typing import Any

from floxide_amqp import (
    Abort,
    ChildRunFailedError,
    ChildWorkflow,
    GraphBuilder,
    RetryPolicy,
    WorkflowCtx,
    node,
    with_retry,
)
from floxide_amqp.testing.simulation.random_pieces import BrokenError, Chain, Maker, Piece, Tally, Told


def calling(recipe: Maker, depth: int) -> Piece:
    """Return a node that starts a run of a random workflow, and waits for it."""
    inner = recipe.inner()
    first = inner.add(2, "first")
    body = inner.line(depth - 1, inner.chance.randint(1, 2))
    assert body is not None
    called = ChildWorkflow(_built(recipe, first, first >> body.chain, inner.edges), name=recipe.name("calling"))

    def tell(x: int) -> Told:
        return Told(body.tell(inner.plain(x, 2)).value, 0)

    return Piece(called, tell)


def calling_in_vain(recipe: Maker) -> Piece:
    """Return a node that starts a run which fails for some numbers, with a fallback or a second child for them."""
    after, tries = recipe.step(), recipe.chance.choice([1, 2])

    @node
    async def refusing(ctx: WorkflowCtx[Tally], x: int) -> int | Abort:
        ctx.state.steps += 1
        return x + 3 if x % 2 else Abort(BrokenError("even"))

    workflow = _built(recipe, refusing, refusing, [])
    policy = RetryPolicy(max_attempts=tries, initial_backoff=0.1)
    called = with_retry(ChildWorkflow(workflow, name=recipe.name("calling")), policy)
    handler = recipe.add(11, "handler")
    recipe.edges.append(called.on_failure(ChildRunFailedError) >> handler >> after.chain)

    def tell(x: int) -> Told:
        if x % 2:
            return after.tell(x + 3)
        told = after.tell(recipe.plain(x, 11))
        return Told(told.value, told.steps + 1)

    return Piece(called >> after.chain, tell)


def _built(recipe: Maker, start: Chain, chain: Chain, edges: list[Chain]) -> Any:
    name = f"Child{recipe.chance.randrange(1 << 60):x}"  # unlike those of children's children
    builder = GraphBuilder(start, output=int, name=name, context=Tally)
    builder.add(chain, *edges)
    return builder.build()
