"""Random small workflows whose result is known: each piece says what it does to a number."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from floxide_amqp import GraphBuilder
from floxide_amqp.core.graph import Graph
from floxide_amqp.testing.simulation.random_pieces import MODULUS, Tally, Told
from floxide_amqp.testing.simulation.random_signals import asking_outside
from floxide_amqp.testing.simulation.recipe import Recipe


def random_workflow(seed: int, *, hears_outside: bool = False) -> tuple[Any, Callable[[int], Told]]:
    """Return a workflow and what it does.

    With `hears_outside` some end with a wait for so many signals as the workflow's ``outside_votes`` says.
    """
    recipe = Recipe(random.Random(seed))
    first = recipe.add(1, "first")
    body = recipe.line(2, recipe.chance.randint(1, 3))
    assert body is not None
    votes = recipe.chance.choice([0, 0, 0, 1, 3]) if hears_outside else 0
    outside = asking_outside(recipe, votes) if votes else None
    builder = GraphBuilder(first, output=int, name=f"Random{seed}", context=Tally)
    builder.add(first >> body.chain if outside is None else first >> body.chain >> outside.chain, *recipe.edges)

    def tell(x: int) -> Told:
        told = body.tell((x * 3 + 1) % MODULUS)
        if outside is not None:
            assert told.value is not None
            last = outside.tell(told.value)
            told = Told(last.value, told.steps + last.steps)
        return Told(told.value, told.steps + 1)

    workflow: Any = builder.build()
    workflow.outside_votes = votes
    recipe.least.update(least_steps(workflow.graph))
    return workflow, tell


COUNTING = (
    "add", "first", "flaky", "folding", "handler", "isolated", "join", "listed", "looking", "looping", "marking",
)  # fmt: skip
"""What the names of nodes begin with that count a step whenever they go on."""


def least_steps(graph: Graph) -> dict[str, int]:
    """Return how many steps are counted at least before each node runs."""
    arrows = [(edge.source, edge.target) for edge in graph.edges.values()]
    # a fan-out may be empty: its join then follows at once
    arrows += [(name, node.fan_out.join) for name, node in graph.nodes.items() if node.fan_out and node.fan_out.join]
    least = {graph.start: 0}
    for _ in graph.nodes:
        for source, target in arrows:
            if source in least:
                through = least[source] + source.startswith(COUNTING)
                least[target] = min(through, least.get(target, through))
    return least
