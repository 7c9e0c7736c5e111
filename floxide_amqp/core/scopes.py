"""Which gather closes which fan-out.

A fan-out is a node after which several items may be alive. The nodes between it and the gather that closes it are its
*region*: they run in a scope of their own, and nothing may enter or leave it but through the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import NoneType

from floxide_amqp.core.analysis import UNREACHED, dominators, predecessors, region, reverse_postorder
from floxide_amqp.core.choices import most_taken
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.type_args import union_members
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.typing_rules import assignable


class Scopes:
    """The fan-outs of a graph and the gathers that close them.

    Attributes:
        fan_outs: Nodes after which several items may be alive.
        opener_of: The fan-out that a gather closes.
        join_of: The gather that closes a fan-out.
        region_of: The innermost fan-out, of those that are closed, whose region a node is in.
        joins: Nodes that wait at a join of edges.

    Raises:
        DefinitionError: A gather closes nothing, or a region is entered, left or ended otherwise.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._start = layout.numbers[layout.draft.entry]
        self._gathers = {layout.numbers[name] for name in layout.gathers}
        self.fan_outs = {number for number, name in enumerate(layout.names) if self._may_go_on_more_than_once(name)}
        self.opener_of: dict[int, int] = {}
        self.join_of: dict[int, int] = {}
        self.region_of: dict[int, int] = {}
        self.joins = {layout.numbers[name] for name in layout.joins}
        if self._gathers:
            self._close_all()

    def join_name(self, name: str) -> str | None:
        """Return the name of the gather that closes a fan-out; None where nothing does."""
        join = self.join_of.get(self._layout.numbers[name])
        return None if join is None else self._layout.names[join]

    def collected_by(self, name: str) -> str | None:
        """Return the gather that a node's failure arrives at; None where it fails the run."""
        opener = self.region_of.get(self._layout.numbers[name])
        join = None if opener is None else self._layout.names[self.join_of[opener]]
        return join if join is not None and self._layout.gathers[join].collects else None

    def _may_go_on_more_than_once(self, name: str) -> bool:
        layout = self._layout
        if layout.signatures[name].may_fan_out:
            return True
        return self.takes_several_edges(name)

    def takes_several_edges(self, name: str) -> bool:
        """Whether one value of a node may take several of its edges."""
        layout = self._layout
        edges = layout.edge_conditions(name)
        return len(edges) > 1 and most_taken(edges, layout.conditions(name), layout.signatures[name].output) > 1

    def _close_all(self) -> None:
        edges = self._layout.all_numbers
        nearest = dominators(edges, self._start)
        for join in reverse_postorder(edges, self._start):
            if join in self._gathers:
                opener = self._nearest_open(join, nearest)
                if opener in self.join_of:
                    self._refuse_two_joins(opener, join)
                self.opener_of[join], self.join_of[opener] = opener, join
        regions = [(opener, self._check_region(opener, join)) for opener, join in self.join_of.items()]
        for opener, members in sorted(regions, key=lambda region: -len(region[1])):
            self.region_of |= dict.fromkeys(members, opener)

    def _nearest_open(self, join: int, nearest: Sequence[int]) -> int:
        """Walk up from a gather; a join met on the way has closed its fan-out, and what is around that comes next."""
        current = nearest[join]
        while current != UNREACHED:
            if current in self.fan_outs:
                return current
            if current in self.joins:
                current = self._above_join(current, nearest)
                continue
            while current in self.opener_of:
                current = self.opener_of[current]
            current = nearest[current]
        name = self._layout.names[join]
        raise self._layout.error(
            f"gather({name}) closes no fan-out: no node on every way to {name!r} goes on more than once. Return "
            f"NextAll from a node before it, branch with a tuple, or connect {name!r} with a plain >>."
        )

    def _above_join(self, join: int, nearest: Sequence[int]) -> int:
        """Return what is around the branches that meet in a join of edges; of `NextAll` each element has its own."""
        current = nearest[join]
        while current != UNREACHED:
            if current in self.fan_outs:
                is_of_elements = self._layout.signatures[self._layout.names[current]].may_fan_out
                return current if is_of_elements else nearest[current]
            if current in self.joins:
                current = self._above_join(current, nearest)
            elif current in self.opener_of:
                current = nearest[self.opener_of[current]]
            else:
                current = nearest[current]
        return UNREACHED

    def _refuse_two_joins(self, opener: int, join: int) -> None:
        first, second = (self._layout.names[number] for number in sorted((self.join_of[opener], join)))
        name = self._layout.names[opener]
        raise self._layout.error(
            f"gather({first}) and gather({second}) both close the fan-out of {name!r}. Lead all its branches to one "
            "of them, or put a fan-out of its own before the other."
        )

    def _check_region(self, opener: int, join: int) -> set[int]:
        layout = self._layout
        inside = region(layout.all_numbers, layout.success_numbers[opener], join)
        members = set(inside)
        fan_out, gather = layout.names[opener], f"gather({layout.names[join]})"
        if opener in members:
            raise layout.error(
                f"a path leads from {fan_out!r} back to it without passing {gather}, which closes its fan-out. "
                f"Lead back from behind {gather}, or loop over a node inside; or let a fan-out before it have another "
                f"way to {gather}, which then closes that one."
            )
        self._check_entries([*inside, join], members, opener, join)
        for number in inside:
            self._check_ends_well(layout.names[number], fan_out, gather)
        return members

    def _check_entries(self, inside: list[int], members: set[int], opener: int, join: int) -> None:
        layout = self._layout
        fan_out, gather = layout.names[opener], f"gather({layout.names[join]})"
        after_success = set(layout.success_numbers[opener])
        for number in inside:
            for source in self._before[number]:
                if source in members or (source == opener and number in after_success):
                    continue
                name, outside = layout.names[number], layout.names[source]
                raise layout.error(
                    f"{name!r} is reached from {outside!r}, which is outside the fan-out of {fan_out!r} that "
                    f"{gather} closes. Lead only its branches there, or use a second copy outside: "
                    f"{name}.named('second_{name}')."
                )
        if any(edge.target == layout.names[join] for edge in layout.failure[fan_out]):
            raise layout.error(
                f"{fan_out}.on_failure leads to {gather}, but the fan-out it closes was never opened then. "
                "Lead the failure to a node behind it."
            )

    @cached_property
    def _before(self) -> list[list[int]]:
        return predecessors(self._layout.all_numbers)

    def _check_ends_well(self, name: str, fan_out: str, gather: str) -> None:
        layout = self._layout
        output = layout.signatures[name].output
        if layout.success[name] or layout.endings[name] or assignable(output, NoneType):
            return
        first = describe_type(union_members(output)[0])
        raise layout.error(
            f"node {name!r} ends a branch between {fan_out!r} and {gather}, so the {describe_type(output)} it returns "
            f"would be lost. Lead it to {gather}, let it return None, or list {name}.when({first}) alone."
        )
