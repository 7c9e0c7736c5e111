"""Random pieces that gather what a fan-out comes to: some of it, its failures too, or folded as it comes."""

from __future__ import annotations

from floxide_amqp import FailureInfo, NextAll, ReduceNode, RetryPolicy, WorkflowCtx, gather, node
from floxide_amqp.testing.simulation.random_pieces import MODULUS, BrokenError, Maker, Piece, Tally, Told, folded


def collecting(recipe: Maker, depth: int) -> Piece:
    """A fan-out some of whose elements fail for good, and a join that collects what became of them."""
    del depth
    size, tries = recipe.chance.randint(0, 5), recipe.chance.randint(1, 2)

    @node
    async def starting(ctx: WorkflowCtx[Tally], x: int) -> NextAll[int]:
        ctx.state.steps += 1
        return NextAll([x + n for n in range(size)])

    @node(retry=RetryPolicy(max_attempts=tries, initial_backoff=0.05))
    async def trying(ctx: WorkflowCtx[Tally], x: int) -> int:
        if x % 3 == 0:
            raise BrokenError("three")
        ctx.state.steps += 1
        return x

    @node
    async def joined(ctx: WorkflowCtx[Tally], xs: list[int | FailureInfo]) -> int:
        ctx.state.steps += 1
        return folded([-x.attempts if isinstance(x, FailureInfo) else x for x in xs])

    chain = starting.named(recipe.name("starting")) >> trying.named(recipe.name("trying"))

    def tell(x: int) -> Told:
        values = [x + n for n in range(size)]
        well = [value for value in values if value % 3]
        return Told(folded([value if value % 3 else -tries for value in values]), 2 + len(well))

    return Piece(chain >> gather(joined.named(recipe.name("joined")), errors="collect"), tell)


def add_up(sums: tuple[int, int], x: int) -> tuple[int, int]:
    """How many numbers there are, and what makes a number of them that tells their order."""
    return sums[0] + 1, (sums[1] * 31 + x) % MODULUS


def folding(recipe: Maker, depth: int) -> Piece:
    """A fan-out whose join folds what arrives."""
    size, inner = recipe.chance.randint(0, 5), recipe.some(depth - 1)

    @node
    async def starting(ctx: WorkflowCtx[Tally], x: int) -> NextAll[int]:
        ctx.state.steps += 1
        return NextAll([x + n for n in range(size)])

    @node
    async def joined(ctx: WorkflowCtx[Tally], sums: tuple[int, int]) -> int:
        ctx.state.steps += 1
        return sum(sums) % MODULUS

    reduce = gather(ReduceNode(add_up, (0, 0), name=recipe.name("reduce")))
    chain = starting.named(recipe.name("starting")) >> inner.chain >> reduce >> joined.named(recipe.name("joined"))

    def tell(x: int) -> Told:
        sums, steps = (0, 0), 2
        for n in range(size):
            told = inner.tell(x + n)
            steps += told.steps
            if told.value is not None:
                sums = add_up(sums, told.value)
        return Told(sum(sums) % MODULUS, steps)

    return Piece(chain, tell)
