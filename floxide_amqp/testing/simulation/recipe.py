"""Draws the nodes and edges of one random workflow, and knows what its nodes ought to come to."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from floxide_amqp import (
    Abort,
    BatchNode,
    Concurrency,
    Hold,
    NextAll,
    Priority,
    RetryPolicy,
    WorkflowCtx,
    gather,
    node,
    repeat,
)
from floxide_amqp.testing.simulation.label_watch import BIG, LABELLED
from floxide_amqp.testing.simulation.random_children import calling, calling_in_vain
from floxide_amqp.testing.simulation.random_joins import some_join
from floxide_amqp.testing.simulation.random_pieces import (
    MODULUS,
    BrokenError,
    Chain,
    Marked,
    Part,
    Piece,
    Tally,
    Told,
    UnseenError,
    folded,
)
from floxide_amqp.testing.simulation.random_signals import asking, competing
from floxide_amqp.testing.simulation.rate_watch import PACED, note_start

RATED = 7
"""Of so many nodes that were made one after the other, one that does arithmetic has a rate limit."""


@dataclass
class Recipe:
    """Makes pieces, by chance."""

    chance: random.Random
    edges: list[Chain] = field(default_factory=list[Chain])
    made: int = 0
    least: dict[str, int] = field(default_factory=dict[str, int])

    def inner(self) -> Recipe:
        """Return a recipe for a workflow of its own, drawn from this one's."""
        return Recipe(random.Random(self.chance.random()))

    def look(self, ctx: WorkflowCtx[Tally]) -> None:
        """Make sure that a node sees the steps that lead to it, on whatever worker they ran.

        Raises:
            UnseenError: It does not.
        """
        least = self.least.get(ctx.node, 0)
        if ctx.state.steps < least:
            raise UnseenError(f"P3: {ctx.node} sees {ctx.state.steps} steps, and at least {least} lead to it")

    def name(self, word: str) -> str:
        """Return a name that no other node has."""
        self.made += 1
        return f"{word}{self.made}"

    def limit(self) -> Concurrency | None:
        """Return, for each third node, a limit that others of its workflow share; it draws nothing."""
        kind = self.made % 2
        return None if self.made % 3 else Concurrency(f"some{kind}", limit=1 + kind)

    def add(self, amount: int, word: str = "add") -> Chain:
        """Return a node that does arithmetic, on one of two task queues."""
        limit = self.limit()
        rate = PACED if self.made % RATED == 1 else None
        pause = self.chance.choice([0, 0, 0, 0.02, 1.0]) or (0.05 if limit else 0)

        labels = BIG if self.made % LABELLED == 2 else None

        level = {1: Priority.HIGH, 3: Priority.LOW}.get(self.made % 5)
        queue = self.chance.choice(["", "", "", "other"])

        @node(queue=queue, concurrency=limit, rate=rate, labels=labels, priority=level)
        async def plain(ctx: WorkflowCtx[Tally], x: int) -> int:
            if rate is not None:
                note_start()
            self.look(ctx)
            await ctx.sleep(pause)
            ctx.state.steps += 1
            return (x * 3 + amount) % MODULUS

        return plain.named(self.name(word))

    @staticmethod
    def plain(x: int, amount: int) -> int:
        """What a node of `add` makes of a number."""
        return (x * 3 + amount) % MODULUS

    def step(self) -> Piece:
        """Return one plain node."""
        amount = self.chance.randint(1, 50)
        return Piece(self.add(amount), lambda x: Told((x * 3 + amount) % MODULUS, 1))

    def flaky(self) -> Piece:
        """Return a node that fails a few times and is retried."""
        failures = self.chance.randint(1, 3)
        backoff = self.chance.choice([0.0, 0.05, 1.0])
        policy = RetryPolicy(max_attempts=failures + 1, initial_backoff=backoff)

        @node(retry=policy, concurrency=self.limit())
        async def flaky(ctx: WorkflowCtx[Tally], x: int) -> int:
            self.look(ctx)
            ctx.state.steps += 1
            if ctx.attempt <= failures:
                raise BrokenError("not yet")
            return x + 1

        return Piece(flaky.named(self.name("flaky")), lambda x: Told(x + 1, 1))

    def isolated(self) -> Piece:
        """Return a node that runs again where the context changed meanwhile."""

        @node(isolated=True, concurrency=self.limit())
        async def isolated(ctx: WorkflowCtx[Tally], x: int) -> int:
            await ctx.sleep(0.01)
            ctx.state.steps += 1
            return x + 2

        return Piece(isolated.named(self.name("isolated")), lambda x: Told(x + 2, 1))

    def holding(self) -> Piece:
        """Return a node that waits once before it goes on."""
        seconds = self.chance.choice([0.0, 0.1, 3.0])

        @node(concurrency=self.limit())
        async def holding(ctx: WorkflowCtx[Tally], x: int) -> int | Hold:
            if ctx.item_id in ctx.state.seen:
                ctx.state.steps += 1
                return x + 7
            ctx.state.seen.add(ctx.item_id)
            return Hold(for_=seconds)

        return Piece(holding.named(self.name("holding")), lambda x: Told(x + 7, 1))

    def marking(self) -> Piece:
        """What a step wrote is seen by the next, on whatever worker it runs."""
        after = self.step()

        @node(queue=self.chance.choice(["", "other"]))
        async def marking(ctx: WorkflowCtx[Tally], x: int) -> Marked:
            ctx.state.steps += 1
            ctx.state.seen.add(f"mark of {ctx.item_id}")
            ctx.set_attribute("mark", ctx.item_id)
            return Marked(ctx.item_id, x + 1)

        @node(queue=self.chance.choice(["", "other"]))
        async def looking(ctx: WorkflowCtx[Tally], marked: Marked) -> int:
            ctx.state.steps += 1
            ctx.set_attribute("looks", ctx.attempt)
            if f"mark of {marked.by}" not in ctx.state.seen:
                raise UnseenError(f"P3: the mark of {marked.by} is not to be seen")
            return marked.x

        def tell(x: int) -> Told:
            told = after.tell(x + 1)
            return Told(told.value, told.steps + 2)

        chain = marking.named(self.name("marking")) >> looking.named(self.name("looking"))
        return Piece(chain >> after.chain, tell)

    def merging(self) -> Piece:
        """Parts hold until the last of them sees them all in the context, and goes on alone."""
        size = self.chance.choice([1, 2, 3, 5])
        pause = self.chance.choice([0, 0, 0.01])

        @node
        async def dividing(ctx: WorkflowCtx[Tally], x: int) -> NextAll[Part]:
            ctx.state.steps += 1
            return NextAll([Part(ctx.item_id, number, size, x) for number in range(size)])

        @node
        async def merging(ctx: WorkflowCtx[Tally], part: Part) -> int | Hold:
            await ctx.sleep(pause)
            ctx.state.seen.add(f"{part.number} of {part.group}")
            if any(f"{number} of {part.group}" not in ctx.state.seen for number in range(part.size)):
                return Hold()
            ctx.state.steps += 1
            return part.x + part.size

        chain = dividing.named(self.name("dividing")) >> merging.named(self.name("merging")) >> self.join()
        return Piece(chain, lambda x: Told(folded([x + size]), 3))

    def failing(self) -> Piece:
        """Return a node that fails for good for some numbers, and a fallback for it."""
        aborts = self.chance.random() < 0.5
        after = self.step()

        @node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.1))
        async def failing(ctx: WorkflowCtx[Tally], x: int) -> int | Abort:
            if x % 2:
                ctx.state.steps += 1
                return x + 3
            if aborts:
                return Abort(BrokenError("even"))
            raise BrokenError("even")

        handler = self.add(11, "handler")
        tried = failing.named(self.name("failing"))
        self.edges.append(tried.on_failure(BrokenError) >> handler >> after.chain)

        def tell(x: int) -> Told:
            told = after.tell(x + 3) if x % 2 else after.tell((x * 3 + 11) % MODULUS)
            return Told(told.value, told.steps + 1)

        return Piece(tried >> after.chain, tell)

    def looping(self) -> Piece:
        """Return a node that is repeated until its number fits."""
        after = self.step()

        @node
        async def looping(ctx: WorkflowCtx[Tally], x: int) -> int:
            ctx.state.steps += 1
            return x + 1

        again = looping.named(self.name("looping"))
        self.edges.append(again.when(lambda x: x % 4 != 0) >> repeat(again, max_iterations=5))

        def tell(x: int) -> Told:
            steps, value = 1, x + 1
            while value % 4:
                steps, value = steps + 1, value + 1
            told = after.tell(value)
            return Told(told.value, told.steps + steps)

        return Piece(again.otherwise >> after.chain, tell)

    def join(self) -> Chain:
        """Return a join of numbers, whose order counts."""

        @node
        async def join(ctx: WorkflowCtx[Tally], xs: list[int]) -> int:
            self.look(ctx)
            ctx.state.steps += 1
            return folded(xs)

        return gather(join.named(self.name("join")))

    def fanning(self, depth: int) -> Piece:
        """Return a fan-out with pieces in it, and its join."""
        size = self.chance.choice([0, 1, 2, 3, 5])
        inner = self.line(depth - 1, self.chance.randint(0, 2))
        skips = self.chance.random() < 0.3
        joined = self.join()

        @node
        async def split(ctx: WorkflowCtx[Tally], x: int) -> NextAll[int]:
            ctx.state.steps += 1
            return NextAll([x + 10 * n for n in range(size)])

        opener = split.named(self.name("split"))
        if inner is None:
            chain = opener >> joined
        elif skips:
            self.edges.append(opener.otherwise)
            chain = opener.when(lambda x: x % 3 != 0) >> inner.chain >> joined
        else:
            chain = opener >> inner.chain >> joined

        def tell(x: int) -> Told:
            arrived: list[int] = []
            steps = 2
            for n in range(size):
                value = x + 10 * n
                if inner is None:
                    arrived.append(value)
                elif not skips or value % 3:
                    told = inner.tell(value)
                    steps += told.steps
                    arrived += [] if told.value is None else [told.value]
            return Told(folded(arrived), steps)

        return Piece(chain, tell)

    def branching(self, depth: int) -> Piece:
        """Return two parallel branches, and their join."""
        head, branches, joined = self.step(), [self.some(depth - 1), self.some(depth - 1)], self.join()
        chain = head.chain >> (branches[0].chain, branches[1].chain) >> joined

        def tell(x: int) -> Told:
            first = head.tell(x)
            assert first.value is not None
            told = [branch.tell(first.value) for branch in branches]
            arrived = [each.value for each in told if each.value is not None]
            return Told(folded(arrived), first.steps + 1 + sum(each.steps for each in told))

        return Piece(chain, tell)

    def batching(self) -> Piece:
        """Return a batch of so many at a time."""
        size, width = self.chance.choice([0, 1, 4, 7]), self.chance.choice([1, 2, 3])

        @node
        async def listed(ctx: WorkflowCtx[Tally], x: int) -> list[int]:
            ctx.state.steps += 1
            return [x + n for n in range(size)]

        @node
        async def each(ctx: WorkflowCtx[Tally], x: int) -> int:
            ctx.state.steps += 1
            return x * 2

        @node
        async def folding(ctx: WorkflowCtx[Tally], xs: list[int]) -> int:
            ctx.state.steps += 1
            return folded(xs)

        batch = BatchNode(each.named(self.name("each")), max_in_flight=width, name=self.name("batch"))
        chain = listed.named(self.name("listed")) >> batch >> folding.named(self.name("folding"))
        return Piece(chain, lambda x: Told(folded([(x + n) * 2 for n in range(size)]), 2 + size))

    def some(self, depth: int) -> Piece:
        """Return some piece, with others in it up to a depth."""
        simple: list[Callable[[], Piece]] = [
            self.step, self.step, self.flaky, self.isolated, self.holding, self.failing, self.looping, self.marking,
            self.merging, lambda: calling_in_vain(self), lambda: asking(self), lambda: competing(self),
        ]  # fmt: skip
        if depth > 0 and self.chance.random() < 0.6:
            deep: list[Callable[[], Piece]] = [
                lambda: self.fanning(depth),
                lambda: self.branching(depth),
                self.batching,
                lambda: some_join(self, depth),
                lambda: calling(self, depth),
            ]
            return self.chance.choice(deep)()
        return self.chance.choice(simple)()

    def line(self, depth: int, length: int) -> Piece | None:
        """Return pieces one after the other; None for none."""
        pieces = [self.some(depth) for _ in range(length)]
        if not pieces:
            return None
        chain = pieces[0].chain
        for piece in pieces[1:]:
            chain = chain >> piece.chain

        def tell(x: int) -> Told:
            value: int | None = x
            steps = 0
            for piece in pieces:
                assert value is not None
                told = piece.tell(value)
                value, steps = told.value, steps + told.steps
            return Told(value, steps)

        return Piece(chain, tell)
