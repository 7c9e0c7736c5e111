"""A draft with everything the checks ask for looked up once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args, get_origin

from floxide_amqp.core.blueprint import AnyNode, Draft, DraftEdge
from floxide_amqp.core.conditions import OnFailure, ValueCondition, spell_condition
from floxide_amqp.core.context import Context
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.joins import ALL_THERE_ARE, JoinGroup, JoinShape
from floxide_amqp.core.options import WorkflowOptions
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.signature import NodeSignature
from floxide_amqp.core.type_args import list_of, plain_type
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.typing_rules import covers
from floxide_amqp.exceptions import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a workflow says about itself.

    Attributes:
        name, version: How it is called.
        input, output: Annotations.
        context: The class of its runs' state.
        options: For whole runs, and for nodes that leave theirs open.
        signals: The signals that its runs take, by name; empty where that is not said.
        on_cancel: The node that runs first when a run is cancelled; None where there is none.
    """

    name: str
    version: str
    input: Any
    output: Any
    context: type[Context]
    options: WorkflowOptions
    on_cancel: AnyNode | None = None
    signals: Mapping[str, Signal[Any]] = field(default_factory=dict[str, Signal[Any]])


class Layout:
    """A draft, numbered, with signatures and edges at hand.

    Attributes:
        declared: What the workflow says about itself.
        draft: The graph.
        names: Of all nodes; a node's number is its position.
        numbers: The number of each name.
        signatures: By name.
        gathers: When each gather closes its fan-out, by the name of its node.
        joins: The joins of edges, by the name of their node.
        success: Edges that values take, by the name they leave.
        failure: Edges that errors take, by the name they leave.
        endings: Conditions of branches that end, by the node's name.
    """

    def __init__(self, declared: Declared, draft: Draft) -> None:
        self.declared = declared
        self.draft = draft
        self.names = list(draft.nodes)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.signatures: dict[str, NodeSignature] = {name: held.node.signature() for name, held in draft.nodes.items()}
        self.success: dict[str, list[DraftEdge]] = {name: [] for name in self.names}
        self.failure: dict[str, list[DraftEdge]] = {name: [] for name in self.names}
        for edge in draft.edges:
            (self.failure if isinstance(edge.condition, OnFailure) else self.success)[edge.source].append(edge)
        self.endings: dict[str, list[ValueCondition]] = {name: [] for name in self.names}
        for ending in draft.endings:
            if ending.condition is not None and ending.condition not in self.endings[ending.node]:
                self.endings[ending.node].append(ending.condition)
        self.gathers = {edge.target: edge.gathering for edge in draft.edges if edge.is_gather}
        for edge in draft.edges:
            if edge.target in self.gathers and not edge.is_gather:
                raise self.error(
                    f"{self.spell(edge)} enters a node that other paths enter as gather({edge.target}). Write gather "
                    f"in all of them, or use a second copy here: {edge.target}.named('second_{edge.target}')."
                )
            if edge.is_gather and edge.gathering != self.gathers[edge.target]:
                raise self.error(
                    f"{edge.target!r} is entered with gather(...) or first(...) in different ways. Write the same in "
                    f"all paths, or use a second copy: {edge.target}.named('second_{edge.target}')."
                )
        self.joins = self._find_joins()

    def _find_joins(self) -> dict[str, JoinGroup]:
        """Return the joins of edges: all edges to one are of one call."""
        joins = {edge.target: edge.group for edge in self.draft.edges if edge.group is not None}
        if not joins:
            return {}
        for edge in self.draft.edges:
            group = joins.get(edge.target)
            if edge.group is not group and group is not None:
                raise self.error(
                    f"{self.spell(edge)} enters a node that {group.word}(...) enters too. Name all its sources in one "
                    f"{group.word}(...), or use a second copy here: {edge.target}.named('second_{edge.target}')."
                )
        return joins

    def error(self, sentence: str) -> DefinitionError:
        """Return the error that says what is wrong in this workflow."""
        return DefinitionError(f"Workflow {self.declared.name!r}: {sentence}")

    def conditions(self, name: str) -> list[ValueCondition]:
        """Return the conditions of a node's success edges, and of its branches that end."""
        return self.edge_conditions(name) + self.endings[name]

    def edge_conditions(self, name: str) -> list[ValueCondition]:
        """Return the conditions of a node's success edges."""
        return [edge.condition for edge in self.success[name] if not isinstance(edge.condition, OnFailure)]

    def element(self, name: str) -> Any:
        """Return the type of what arrives at a gather.

        Raises:
            DefinitionError: The node takes no list.
        """
        gathering = self.gathers.get(name, ALL_THERE_ARE)
        if gathering.is_one:
            return self.signatures[name].input
        annotation = plain_type(self.signatures[name].input)
        args = get_args(annotation)
        if len(args) == 1 and get_origin(annotation) is not None and covers(annotation, list_of(args[0])):
            if gathering.collects and not covers(args[0], FailureInfo):
                raise self.error(
                    f'gather({name}, errors="collect") gives {name!r} a FailureInfo for each element that failed, but '
                    f"it takes {describe_type(annotation)}. Annotate its input with "
                    f"list[{describe_type(args[0])} | FailureInfo]."
                )
            return args[0]
        raise self.error(
            f"gather({name}) needs a node that takes a list, but {name!r} takes {describe_type(annotation)}. "
            f"Annotate its input with list[{describe_type(annotation)}], or connect it with a plain >>."
        )

    def accepted(self, edge: DraftEdge) -> Any:
        """Return the type of what may come along an edge.

        Raises:
            DefinitionError: The target is a join, and its node takes no list, or no tuple of that many.
        """
        if edge.is_gather:
            return self.element(edge.target)
        if edge.group is None or edge.group.shape is JoinShape.ONE:
            return self.signatures[edge.target].input
        parts = self.parts(edge.target, edge.group)
        return parts[edge.position] if edge.group.shape is JoinShape.TUPLE else parts[0]

    def parts(self, name: str, group: JoinGroup) -> tuple[Any, ...]:
        """Return the types of what arrives at a join of edges: by position, or one for all.

        Raises:
            DefinitionError: Its node takes no list, or no tuple of that many.
        """
        annotation = plain_type(self.signatures[name].input)
        args = get_args(annotation)
        if group.shape is JoinShape.ONE:
            return (self.signatures[name].input,)
        if group.shape is JoinShape.LIST:
            if len(args) == 1 and get_origin(annotation) is not None and covers(annotation, list_of(args[0])):
                return (args[0],)
            raise self.error(
                f"{group.word}(...) >> {name} needs a node that takes a list, but {name!r} takes "
                f"{describe_type(annotation)}. Annotate its input with list[{describe_type(annotation)}]."
            )
        if get_origin(annotation) is tuple and Ellipsis not in args and len(args) == group.size:
            return args
        wanted = ", ".join(["..."] * group.size)
        raise self.error(
            f"all_of(...) >> {name} needs a node that takes a tuple of {group.size}, but {name!r} takes "
            f"{describe_type(annotation)}. Annotate its input with tuple[{wanted}]."
        )

    def spell(self, edge: DraftEdge) -> str:
        """Return an edge as the user wrote it."""
        target = f"gather({edge.target})" if edge.is_gather else edge.target
        if edge.group is not None:
            return f"{edge.group.word}(..., {edge.source}{spell_condition(edge.condition)}, ...) >> {edge.target}"
        if edge.max_iterations is not None:
            target = f"repeat({edge.target}, max_iterations={edge.max_iterations})"
        return f"{edge.source}{spell_condition(edge.condition)} >> {target}"

    @cached_property
    def success_numbers(self) -> list[list[int]]:
        """The targets of each node's success edges, as numbers."""
        return [[self.numbers[edge.target] for edge in self.success[name]] for name in self.names]

    @cached_property
    def failure_numbers(self) -> list[list[int]]:
        """The targets of each node's failure edges, as numbers."""
        return [[self.numbers[edge.target] for edge in self.failure[name]] for name in self.names]

    @cached_property
    def all_numbers(self) -> list[list[int]]:
        """The targets of all edges of each node, as numbers."""
        return [a + b for a, b in zip(self.success_numbers, self.failure_numbers, strict=True)]
