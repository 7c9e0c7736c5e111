"""What is checked when a workflow class is created, apart from scopes: types, conditions, reachability, cycles.

Each check raises one error that names the nodes, both types and the cure.
"""

from __future__ import annotations

from floxide_amqp.core.analysis import (
    between,
    find_cycle,
    predecessors,
    reverse_postorder,
    topological_ranks,
)
from floxide_amqp.core.blueprint import DraftEdge
from floxide_amqp.core.choices import is_outside, left_over, taken_type
from floxide_amqp.core.conditions import Always, OnFailure, Otherwise, ValueCondition, WhenMember, spell_condition
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.type_names import describe_both, describe_type
from floxide_amqp.core.typing_rules import assignable


def check_contexts(layout: Layout) -> None:
    """Every node reads the workflow's context, or a base of it."""
    context = layout.declared.context
    for name, signature in layout.signatures.items():
        if not issubclass(context, signature.context):
            has, reads = describe_both(context, signature.context)
            raise layout.error(
                f"its context is {has}, but node {name!r} reads {reads}. Annotate the node with WorkflowCtx[{has}], "
                f"or declare a context that derives from {reads}: Workflow[..., ..., {reads}]."
            )


def check_start(layout: Layout) -> None:
    """The declared input is what the start takes."""
    start = layout.draft.entry
    declared, takes = layout.declared.input, layout.signatures[start].input
    if start in layout.gathers:
        raise layout.error(f"its start {start!r} is also entered with gather(...). Start with another node.")
    if start in layout.joins:
        word = layout.joins[start].word
        raise layout.error(f"its start {start!r} is also entered with {word}(...). Start with another node.")
    if not assignable(declared, takes):
        has, wants = describe_both(declared, takes)
        raise layout.error(
            f"it is declared to take {has}, but its start {start!r} takes {wants}. Declare Workflow[{wants}, ...], or "
            f"start with a node that takes {has}."
        )


def check_conditions(layout: Layout) -> None:
    """Conditions are about what their node returns, and leave nothing out."""
    for name in layout.names:
        conditions = layout.conditions(name)
        output = layout.signatures[name].output
        for condition in conditions:
            if is_outside(condition, output):
                raise layout.error(
                    f"{name}{spell_condition(condition)} is never taken: {name!r} returns {describe_type(output)}. "
                    "Name a type or an enum member it returns."
                )
        has_otherwise = any(isinstance(condition, Otherwise) for condition in conditions)
        if has_otherwise and all(isinstance(condition, Always | Otherwise) for condition in conditions):
            raise layout.error(f"{name}.otherwise has no {name}.when(...) beside it. Write a plain {name} >> ....")
        if conditions and not has_otherwise:
            _check_exhaustive(layout, name)


def _check_exhaustive(layout: Layout, name: str) -> None:
    conditions = layout.conditions(name)
    left = left_over(layout.signatures[name].output, conditions)
    if not left:
        return
    if any(isinstance(condition, WhenMember) for condition in conditions):
        missing = " | ".join(describe_type(atom).removeprefix("Literal[").removesuffix("]") for atom in left)
    else:
        missing = " | ".join(describe_type(atom) for atom in left)
    raise layout.error(
        f"node {name!r} may return {missing}, which its edges may not take "
        f"({', '.join(name + spell_condition(condition) for condition in conditions)}). "
        f"Add a path for it, or {name}.otherwise >> ... for the rest; "
        f"listed alone, {name}.otherwise says that the branch ends there."
    )


def check_edges(layout: Layout) -> None:
    """What an edge carries is what its target takes."""
    for edge in layout.draft.edges:
        if isinstance(edge.condition, OnFailure):
            _check_fallback(layout, edge)
        else:
            _check_value_edge(layout, edge, edge.condition)


def _check_value_edge(layout: Layout, edge: DraftEdge, condition: ValueCondition) -> None:
    output = layout.signatures[edge.source].output
    carried = taken_type(condition, output, layout.conditions(edge.source))
    wanted = layout.accepted(edge)
    if assignable(carried, wanted):
        return
    gives, takes = describe_both(carried, wanted)
    verb = "gathers" if edge.is_gather else "joins" if edge.group is not None else "takes"
    label = spell_condition(condition)
    source = f"{edge.source}{label} gives" if label else f"{edge.source!r} returns"
    raise layout.error(
        f"{source} {gives}, but {edge.target!r} {verb} {takes}. Connect it to a node "
        f"that {verb} {gives}, or put a node between them that turns {gives} into {takes}."
    )


def _check_fallback(layout: Layout, edge: DraftEdge) -> None:
    given = layout.signatures[edge.source].input
    wanted = layout.accepted(edge)
    if assignable(given, wanted):
        return
    gives, takes = describe_both(given, wanted)
    raise layout.error(
        f"{layout.spell(edge)}: a fallback receives the input of the failed node, {gives}, but {edge.target!r} takes "
        f"{takes}. Use a fallback that takes {gives}; what went wrong is in ctx.failure."
    )


def check_reachable(layout: Layout) -> None:
    """Every node can run."""
    reached = set(reverse_postorder(layout.all_numbers, layout.numbers[layout.draft.entry]))
    lost = [name for number, name in enumerate(layout.names) if number not in reached]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise layout.error(
            f"node {lost[0]!r}{more} is never reached from the start {layout.draft.entry!r}. "
            "Add an edge that leads to it, or remove its paths."
        )


def check_cycles(layout: Layout) -> None:
    """Every cycle has a bounded edge, and every bounded edge closes a cycle."""
    forward = forward_edges(layout)
    cycle = [layout.names[number] for number in find_cycle(forward)]
    if cycle:
        raise layout.error(
            f"{' -> '.join([*cycle, cycle[0]])} is a cycle without a bound. Write the edge that leads back as "
            f"{cycle[-1]} >> repeat({cycle[0]}, max_iterations=10)."
        )


def forward_edges(layout: Layout) -> list[list[int]]:
    """Return the targets of each node's edges without those that lead back, as numbers."""
    forward: list[list[int]] = [[] for _ in layout.names]
    for edge in layout.draft.edges:
        if edge.max_iterations is None:
            forward[layout.numbers[edge.source]].append(layout.numbers[edge.target])
    return forward


def nested_loops(layout: Layout) -> dict[int, tuple[int, ...]]:
    """Return for each bounded edge the bounded edges of loops inside its own, by their positions in the draft.

    Raises:
        DefinitionError: A bounded edge does not lead back.
    """
    bounded = {position: edge for position, edge in enumerate(layout.draft.edges) if edge.max_iterations is not None}
    if not bounded:
        return {}
    forward = forward_edges(layout)
    before, ranks = predecessors(forward), topological_ranks(forward)
    by_target: dict[int, list[int]] = {}
    for position, edge in bounded.items():
        by_target.setdefault(layout.numbers[edge.target], []).append(position)
    nested: dict[int, tuple[int, ...]] = {}
    for position, edge in bounded.items():
        head, tail = layout.numbers[edge.target], layout.numbers[edge.source]
        body = between(forward, before, ranks, head, tail)
        if not body:
            raise layout.error(
                f"{layout.spell(edge)} does not lead back: no path goes from {edge.target!r} to {edge.source!r}. "
                f"Write {edge.source}{spell_condition(edge.condition)} >> {edge.target}."
            )
        inside = sorted(number for number in body if number != head and number in by_target)
        nested[position] = tuple(inner for number in inside for inner in by_target[number])
    return nested
