"""Random pieces of workflows with joins over edges, whose result is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from floxide_amqp import (
    Hold,
    JoinIncompleteError,
    NextAll,
    WorkflowCtx,
    all_of,
    all_of_each,
    any_of,
    first,
    gather,
    n_of,
    node,
)
from floxide_amqp.core.connections import Connections
from floxide_amqp.core.path import DrawnPath
from floxide_amqp.testing.simulation.random_gathers import collecting, folding
from floxide_amqp.testing.simulation.random_pieces import Chain, Maker, Piece, Tally, Told, folded


def spanning(head: Chain, tail: Chain) -> Chain:
    """A path that is entered at one node and left at another; what lies between is drawn elsewhere."""
    return DrawnPath(Connections(head.connections().entries, tail.connections().exits))


def some_join(recipe: Maker, depth: int) -> Piece:
    """Return a piece with a join over edges."""
    kinds: list[Callable[[Maker, int], Piece]] = [
        pair, optional, failing_join, first_of, layers, layers, racing, racing, collecting, folding,
    ]  # fmt: skip
    return recipe.chance.choice(kinds)(recipe, depth)


def pair(recipe: Maker, depth: int) -> Piece:
    """Two branches, and a join that takes the pair of what they give."""
    head, first, second = recipe.step(), recipe.some(depth - 1), recipe.some(depth - 1)

    @node
    async def joined(ctx: WorkflowCtx[Tally], xs: tuple[int, int]) -> int:
        recipe.look(ctx)
        ctx.state.steps += 1
        return folded(list(xs))

    join = joined.named(recipe.name("joined"))
    recipe.edges.append(head.chain >> (first.chain, second.chain))
    recipe.edges.append(all_of(first.chain, second.chain) >> join)

    def tell(x: int) -> Told:
        start = head.tell(x)
        assert start.value is not None
        told = [first.tell(start.value), second.tell(start.value)]
        arrived = [each.value for each in told if each.value is not None]
        return Told(folded(arrived), start.steps + 1 + sum(each.steps for each in told))

    return Piece(spanning(head.chain, join), tell)


def optional(recipe: Maker, depth: int) -> Piece:
    """A join of a branch that always runs and one of two others; what does not come is None."""
    del depth
    head, always, odd, even = recipe.step(), recipe.step(), recipe.step(), recipe.step()

    @node
    async def joined(ctx: WorkflowCtx[Tally], xs: tuple[int | None, int | None, int | None]) -> int:
        recipe.look(ctx)
        ctx.state.steps += 1
        return folded([-1 if x is None else x for x in xs])

    join = joined.named(recipe.name("joined"))
    recipe.edges += [
        head.chain >> always.chain,
        head.chain.when(lambda x: x % 2 == 1) >> odd.chain,
        head.chain.otherwise >> even.chain,
        all_of(always.chain, odd.chain, even.chain, missing="skip") >> join,
    ]

    def tell(x: int) -> Told:
        start = head.tell(x).value
        assert start is not None
        taken = odd.tell(start).value if start % 2 else even.tell(start).value
        values = [always.tell(start).value, taken if start % 2 else -1, -1 if start % 2 else taken]
        return Told(folded([value for value in values if value is not None]), 4)

    return Piece(spanning(head.chain, join), tell)


def failing_join(recipe: Maker, depth: int) -> Piece:
    """A join that fails for some numbers, because a branch is not taken, and its fallback."""
    del depth
    head, always, odd, even, after = (recipe.step() for _ in range(5))

    @node
    async def joined(ctx: WorkflowCtx[Tally], xs: tuple[int, int]) -> int:
        ctx.state.steps += 1
        return folded(list(xs))

    @node
    async def fallback(ctx: WorkflowCtx[Tally], xs: tuple[int | None, int | None]) -> int:
        ctx.state.steps += 1
        return folded([-1 if x is None else x for x in xs])

    @node
    async def merged(ctx: WorkflowCtx[Tally], x: int) -> int:
        ctx.state.steps += 1
        return x

    @node
    async def last(ctx: WorkflowCtx[Tally], xs: tuple[int | None, int | None]) -> int:
        recipe.look(ctx)
        ctx.state.steps += 1
        return folded([-1 if x is None else x for x in xs])

    join, handler = joined.named(recipe.name("joined")), fallback.named(recipe.name("handler"))
    met, end = merged.named(recipe.name("merged")), last.named(recipe.name("joined"))
    recipe.edges += [
        head.chain >> always.chain,
        head.chain.when(lambda x: x % 2 == 1) >> odd.chain,
        head.chain.otherwise >> even.chain,
        all_of(always.chain, odd.chain) >> join,
        join >> met,
        join.on_failure(JoinIncompleteError) >> handler >> met,
        all_of(met, even.chain, missing="skip") >> end >> after.chain,
    ]

    def tell(x: int) -> Told:
        start = head.tell(x).value
        assert start is not None
        first, taken = always.tell(start).value, (odd if start % 2 else even).tell(start).value
        assert first is not None
        assert taken is not None
        value = folded([first, taken if start % 2 else -1])
        told = after.tell(folded([value, -1 if start % 2 else taken]))
        return Told(told.value, told.steps + 6)

    return Piece(spanning(head.chain, after.chain), tell)


def first_of(recipe: Maker, depth: int) -> Piece:
    """The first of several branches that all give the same, or some of them."""
    del depth
    head, amount = recipe.step(), recipe.chance.randint(1, 50)
    size = recipe.chance.randint(2, 4)
    need = recipe.chance.randint(1, size)
    branches = [recipe.add(amount, "add") for _ in range(size)]
    is_any = recipe.chance.random() < 0.5

    @node
    async def any_one(ctx: WorkflowCtx[Tally], x: int) -> int:
        ctx.state.steps += 1
        return x + 1

    @node
    async def some(ctx: WorkflowCtx[Tally], xs: list[int]) -> int:
        ctx.state.steps += 1
        return folded(xs)

    join: Any = (any_one if is_any else some).named(recipe.name("joined"))
    recipe.edges += [head.chain >> branch for branch in branches]
    recipe.edges.append((any_of(*branches) if is_any else n_of(need, *branches)) >> join)

    def tell(x: int) -> Told:
        start = head.tell(x)
        assert start.value is not None
        value = recipe.plain(start.value, amount)
        return Told(value + 1 if is_any else folded([value] * need), start.steps + size + 1)

    return Piece(spanning(head.chain, join), tell)


def layers(recipe: Maker, depth: int) -> Piece:
    """A graph in layers, each node joining some of those above it."""
    del depth
    head = recipe.step()
    above: list[tuple[Chain, Callable[[int], int]]] = []
    layer: list[tuple[Chain, Callable[[int], int]]] = []
    count = 1
    for _ in range(recipe.chance.randint(1, 3)):
        branch = recipe.step()
        recipe.edges.append(head.chain >> branch.chain)
        layer.append((branch.chain, _value_of(branch)))
        count += 1
    above += layer
    for _ in range(recipe.chance.randint(1, 3)):
        made: list[tuple[Chain, Callable[[int], int]]] = []
        for _ in range(recipe.chance.randint(1, 3)):
            made.append(_joining(recipe, recipe.chance.sample(above, recipe.chance.randint(1, len(above)))))
            count += 1
        above += made
    last, tell_last = _joining(recipe, above)

    def tell(x: int) -> Told:
        start = head.tell(x).value
        assert start is not None
        return Told(tell_last(start), count + 1)

    return Piece(spanning(head.chain, last), tell)


def racing(recipe: Maker, depth: int) -> Piece:
    """A fan-out that is closed by the first of its elements, or the first few; what they do counts no steps."""
    del depth
    size, count = recipe.chance.randint(1, 6), recipe.chance.randint(1, 3)
    kind, pause = recipe.chance.choice(["first", "some"]), recipe.chance.choice([0, 0.02, 1.0])

    @node
    async def starting(ctx: WorkflowCtx[Tally], x: int) -> NextAll[int]:
        ctx.state.steps += 1
        return NextAll([x] * size)

    @node(queue=recipe.chance.choice(["", "other"]))
    async def running(ctx: WorkflowCtx[Tally], x: int) -> int:
        await ctx.sleep(pause)
        return x + 1

    @node
    async def doubling(x: int) -> NextAll[int]:
        return NextAll([x, x])

    @node
    async def resting(ctx: WorkflowCtx[Tally], x: int) -> int | Hold:
        if ctx.item_id in ctx.state.seen:
            return x
        ctx.state.seen.add(ctx.item_id)
        return Hold(for_=0.1)

    @node
    async def meeting(xs: list[int]) -> int:
        return xs[0]

    @node
    async def one(ctx: WorkflowCtx[Tally], x: int) -> int:
        ctx.state.steps += 1
        return x

    @node
    async def several(ctx: WorkflowCtx[Tally], xs: list[int]) -> int:
        ctx.state.steps += 1
        return folded(xs)

    path: Chain = running.named(recipe.name("running"))
    added = 1
    if recipe.chance.random() < 0.5:
        inner = resting if recipe.chance.random() < 0.5 else running
        added += inner is running
        path = path >> doubling.named(recipe.name("doubling")) >> inner.named(recipe.name("running"))
        path = path >> gather(meeting.named(recipe.name("meeting")))
    if kind == "first":
        end: Chain = first(one.named(recipe.name("joined")))
    else:
        end = gather(several.named(recipe.name("joined")), at_most=count)
    chain = starting.named(recipe.name("starting")) >> path >> end

    def tell(x: int) -> Told:
        return Told(x + added if kind == "first" else folded([x + added] * min(size, count)), 2)

    return Piece(chain, tell)


def _value_of(piece: Piece) -> Callable[[int], int]:
    def value(x: int) -> int:
        told = piece.tell(x).value
        assert told is not None
        return told

    return value


def _joining(recipe: Maker, above: list[tuple[Chain, Callable[[int], int]]]) -> tuple[Chain, Callable[[int], int]]:
    @node(queue=recipe.chance.choice(["", "", "other"]))
    async def joined(ctx: WorkflowCtx[Tally], xs: list[int]) -> int:
        recipe.look(ctx)
        ctx.state.steps += 1
        return folded(xs)

    join = joined.named(recipe.name("joined"))
    recipe.edges.append(all_of_each([chain for chain, _ in above]) >> join)
    return join, lambda x: folded([tell(x) for _, tell in above])
