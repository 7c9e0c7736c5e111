"""Edges: the ways from node to node in a compiled graph."""

from __future__ import annotations

from dataclasses import dataclass

from floxide_amqp.core.conditions import ALWAYS, EdgeCondition, describe_condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The bound of an edge that leads back.

    Attributes:
        max_iterations: How often the edge may be taken, 1 or more, counted since an edge around its loop was taken.
        resets: Ids of the bounded edges nested inside this edge's loop: their counts start again.
    """

    max_iterations: int
    resets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One way from a node to a node.

    Attributes:
        id: Stable: ``source>target``, with ``#2``, ``#3`` … for further edges between the same nodes.
        source: Name of the node it leaves.
        target: Name of the node it enters.
        condition: When it is taken.
        repeat: The bound, where it leads back; else None.
        position: Its place among the sources of the join it enters; 0 where it enters none.
        number: Its place among the edges that values, or errors, take out of its source.
    """

    id: str
    source: str
    target: str
    condition: EdgeCondition = ALWAYS
    repeat: Repeat | None = None
    position: int = 0
    number: int = 0

    @property
    def label(self) -> str:
        """The condition as short text; empty for a plain edge."""
        return describe_condition(self.condition)
