"""Random pieces of workflows that wait for signals: sent by nodes of the same run, or by clients outside.

Every value that a node receives counts a step, so that one which is taken twice is seen; one that is lost keeps the
run from its end.
"""

from __future__ import annotations

from floxide_amqp import Hold, NextAll, Signal, WorkflowCtx, first, node
from floxide_amqp.testing.simulation.random_pieces import Maker, Part, Piece, Tally, Told, folded

OUTSIDE = Signal("outside", int)
"""What clients send to runs of workflows that end with `asking_outside`."""


def asking(recipe: Maker) -> Piece:
    """Return a fan-out: one item waits for what the others send, early or late, some of it twice."""
    votes = recipe.chance.choice([1, 2, 3])
    timeout = recipe.chance.choice([None, None, 0.05, 1.0])
    pauses = [recipe.chance.choice([0, 0, 0.02, 1.0]) for _ in range(votes + 1)]
    copies = recipe.chance.choice([1, 1, 2])

    @node
    async def dividing(ctx: WorkflowCtx[Tally], x: int) -> NextAll[Part]:
        ctx.state.steps += 1
        return NextAll([Part(ctx.item_id, number, votes + 1, x) for number in range(votes + 1)])

    @node
    async def voting(ctx: WorkflowCtx[Tally], part: Part) -> int | Hold:
        vote = Signal(f"vote.{part.group}", int)
        await ctx.sleep(pauses[part.number])
        if part.number:
            for _ in range(copies):
                ctx.signal(ctx.run_id, vote, part.number, signal_id=f"{part.group}.{part.number}")
            return 0
        while (received := ctx.received(vote)) is not None:
            ctx.state.steps += 1
            ctx.state.seen.add(f"vote {received} in {part.group}")
        if any(f"vote {number} in {part.group}" not in ctx.state.seen for number in range(1, part.size)):
            return Hold(until=vote, timeout=timeout) if timeout is not None else Hold(until=vote)
        return part.x + part.size

    chain = dividing.named(recipe.name("dividing")) >> voting.named(recipe.name("voting")) >> recipe.join()
    return Piece(chain, lambda x: Told(folded([x + votes + 1, *[0] * votes]), 2 + votes))


def competing(recipe: Maker) -> Piece:
    """Return a fan-out in which half of the items wait for one value each, and the others send as many."""
    pairs = recipe.chance.choice([2, 3])
    pauses = [recipe.chance.choice([0, 0.02, 1.0])] * pairs + [recipe.chance.choice([0, 0, 0.02, 1.0])] * pairs
    late = recipe.chance.choice([0, 0.05])

    @node
    async def dividing(ctx: WorkflowCtx[Tally], x: int) -> NextAll[Part]:
        ctx.state.steps += 1
        return NextAll([Part(ctx.item_id, number, pairs, x) for number in range(2 * pairs)])

    @node
    async def competing(ctx: WorkflowCtx[Tally], part: Part) -> int | Hold:
        prize = Signal(f"prize.{part.group}", int)
        await ctx.sleep(pauses[part.number])
        if part.number >= part.size:
            ctx.signal(ctx.run_id, prize, part.number)
            return 0
        if ctx.received(prize) is None:
            return Hold(until=prize)
        await ctx.sleep(late)  # somebody else may have received the same value
        ctx.state.steps += 1
        return part.x + part.number

    chain = dividing.named(recipe.name("dividing")) >> competing.named(recipe.name("competing")) >> recipe.join()
    return Piece(chain, lambda x: Told(folded([x + n for n in range(pairs)] + [0] * pairs), 2 + pairs))


def racing_for_value(recipe: Maker) -> Piece:
    """Return a fan-out that its first element closes while others wait for a value, and a step behind that needs it.

    Another element sends it at about that time, so it may reach an item that is cancelled, or is about to be.
    """
    size = recipe.chance.randint(3, 5)
    closing, sending = recipe.chance.choice([0.1, 0.5]), recipe.chance.choice([0.02, 0.09, 0.1, 0.11, 0.5])
    pauses = [recipe.chance.choice([0, 0.02, 0.5]) for _ in range(size)]

    @node
    async def dividing(ctx: WorkflowCtx[Tally], x: int) -> NextAll[Part]:
        ctx.state.steps += 1
        return NextAll([Part(ctx.item_id, number, size, x) for number in range(size)])

    @node
    async def racing(ctx: WorkflowCtx[Tally], part: Part) -> Part | Hold:
        prize = Signal(f"prize.{part.group}", int)
        if part.number == 0:
            await ctx.sleep(closing)
            return part
        if part.number == 1:
            await ctx.sleep(sending)
            ctx.signal(ctx.run_id, prize, 1, signal_id=part.group)
            return Hold(for_=1.0)
        if ctx.received(prize) is None:
            return Hold(until=prize)
        await ctx.sleep(pauses[part.number])
        ctx.state.seen.add(f"prize in {part.group}")
        return part

    @node
    async def needing(ctx: WorkflowCtx[Tally], part: Part) -> int | Hold:
        prize = Signal(f"prize.{part.group}", int)
        if f"prize in {part.group}" not in ctx.state.seen and ctx.received(prize) is None:
            ctx.signal(ctx.run_id, prize, 1, signal_id=part.group)  # whoever was to send it may have been cancelled
            return Hold(until=prize)
        ctx.state.steps += 1
        return part.x + 1

    end = first(needing.named(recipe.name("joined")))
    chain = dividing.named(recipe.name("dividing")) >> racing.named(recipe.name("racing")) >> end
    return Piece(chain, lambda x: Told(x + 1, 2))


def asking_outside(recipe: Maker, votes: int) -> Piece:
    """Return a node that waits for so many values from outside, of which each is worth its number."""
    timeout = recipe.chance.choice([None, 0.05, 1.0])
    is_escalated = timeout is not None and recipe.chance.random() < 0.5
    after = recipe.step()

    @node
    async def hearing(ctx: WorkflowCtx[Tally], x: int) -> int | Hold:
        while (received := ctx.received(OUTSIDE)) is not None:
            ctx.state.steps += 1
            ctx.state.seen.add(f"outside {received}")
        if all(f"outside {number}" in ctx.state.seen for number in range(votes)):
            return x + votes
        return Hold(until=OUTSIDE, timeout=timeout) if timeout is not None else Hold(until=OUTSIDE)

    @node
    async def patient(ctx: WorkflowCtx[Tally], x: int) -> int | Hold:
        while (received := ctx.received(OUTSIDE)) is not None:
            ctx.state.steps += 1
            ctx.state.seen.add(f"outside {received}")
        return x + votes if all(f"outside {n}" in ctx.state.seen for n in range(votes)) else Hold(until=OUTSIDE)

    heard = hearing.named(recipe.name("hearing"))
    if is_escalated:
        recipe.edges.append(heard.on_timeout >> patient.named(recipe.name("patient")) >> after.chain)

    def tell(x: int) -> Told:
        told = after.tell(x + votes)
        return Told(told.value, told.steps + votes)

    return Piece(heard >> after.chain, tell)
