"""Which gather closes which fan-out, and whether a run may have more than one output.

A fan-out is a node after which several items may be alive. The nodes between it and the gather that closes it are its
*region*: they run in a scope of their own, and nothing may enter or leave it but through the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any, get_args, get_origin

from floxide_amqp.core.analysis import (
    UNREACHED,
    dominators,
    postdominators,
    predecessors,
    region,
    reverse_postorder,
)
from floxide_amqp.core.blueprint import Ending
from floxide_amqp.core.choices import most_taken, taken_type
from floxide_amqp.core.conditions import OnFailure, spell_condition
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.type_args import is_never, list_of, make_union, plain_type, union_members
from floxide_amqp.core.type_names import describe_both, describe_type
from floxide_amqp.core.typing_rules import assignable, covers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a run returns.

    Attributes:
        annotation: Type of its output; of one output where there may be many.
        are_many: Whether there may be more than one.
        outlets: Where they come from.
    """

    annotation: Any
    are_many: bool
    outlets: tuple[Ending, ...]


class Scopes:
    """The fan-outs of a graph and the gathers that close them.

    Attributes:
        fan_outs: Nodes after which several items may be alive.
        opener_of: The fan-out that a gather closes.
        join_of: The gather that closes a fan-out.
        region_of: The innermost fan-out, of those that are closed, whose region a node is in.

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
        self._joins = {layout.numbers[name] for name in layout.joins}
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

    # --- gathers

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
            if current in self._joins:
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
            if current in self._joins:
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

    # --- outputs

    def outputs(self) -> Outputs:
        """Return what a run returns.

        Raises:
            DefinitionError: It is not what the workflow declares.
        """
        layout = self._layout
        outlets = self._outlets()
        causes = self._reached_often()
        several = [outlet for outlet in outlets if layout.numbers[outlet.node] in causes]
        declared = plain_type(layout.declared.output)
        if several:
            declared = self._element_of_output(several[0], causes[layout.numbers[several[0].node]])
        elif self._are_listed(outlets, declared):
            several, (declared,) = list(outlets), get_args(declared)
        for outlet in outlets:
            self._check_outlet(outlet, declared, are_many=bool(several))
        return Outputs(annotation=declared, are_many=bool(several), outlets=outlets)

    def _are_listed(self, outlets: Sequence[Ending], declared: Any) -> bool:
        """Whether values of branches that may hold end the run one by one: each, it says, is one of a list.

        Of branches that merge by ``Hold()`` only one goes on, of those that wait for signals or times each does. Which
        it is no annotation tells, so the declared output decides.
        """
        if get_origin(declared) is not list:
            return False
        (element,) = get_args(declared)
        layout, often = self._layout, self._reached_often(holds_merge=False)
        given = [self._given_by(outlet) for outlet in outlets]
        return (
            any(layout.numbers[outlet.node] in often for outlet in outlets)
            and all(assignable(each, element) for each in given)
            and not any(assignable(each, declared) for each in given)
        )

    def _outlets(self) -> tuple[Ending, ...]:
        """Return where values leave the graph: ends outside every region, and of no fan-out that is closed."""
        layout = self._layout
        found: list[Ending] = []
        for number, name in enumerate(layout.names):
            if number in self.region_of or number in self.join_of:
                continue
            if layout.endings[name]:
                found += (Ending(node=name, condition=condition) for condition in layout.endings[name])
            elif not layout.success[name] and not is_never(layout.signatures[name].output):
                found.append(Ending(node=name))
        return tuple(found)

    def _reached_often(self, *, holds_merge: bool = True) -> dict[int, str]:
        """Return the nodes outside every region that may return for several items, each with the cause.

        Args:
            holds_merge: Whether of several items only one goes on behind a node that may hold.
        """
        layout = self._layout
        often: dict[int, str] = {}
        todo: list[tuple[int, str]] = []
        meeting = self._meeting_places() if self._joins else []
        for number, name in enumerate(layout.names):
            if number in self.region_of:
                continue
            if number in self.fan_outs and number not in self.join_of:
                cause = f"after {name!r},"
                if meeting and not layout.signatures[name].may_fan_out:
                    todo += ((target, cause) for target in self._met_again(number, meeting, often, cause, holds_merge))
                    continue
                todo += ((target, cause) for target in layout.success_numbers[number])
                if layout.signatures[name].may_fan_out:
                    often[number] = cause
            twins = self._failures_taken_together(name)
            if twins:
                cause = f"after a failure of {name!r}, which may take {twins},"
                todo += ((target, cause) for target in layout.failure_numbers[number])
        self._spread(todo, often, holds_merge)
        return often

    def _meeting_places(self) -> list[int]:
        """Return for each node the nearest one on every way from it to an end, with a number behind all for none."""
        layout = self._layout
        forward: list[list[int]] = [[] for _ in layout.names]
        for edge in layout.draft.edges:
            if edge.max_iterations is None:
                forward[layout.numbers[edge.source]].append(layout.numbers[edge.target])
        ends = {layout.numbers[outlet.node] for outlet in self._outlets()}
        ends |= {number for number, targets in enumerate(forward) if not targets}
        return postdominators(forward, sorted(ends))

    def _met_again(
        self, number: int, meeting: Sequence[int], often: dict[int, str], cause: str, holds_merge: bool
    ) -> list[int]:
        """Return where the branches of a fan-out that nothing gathers meet and run twice; none where a join is there.

        Where they meet nowhere, every end behind it may be one of several.
        """
        layout = self._layout
        place = meeting[number]
        while place != UNREACHED and place < len(layout.names):
            if place in self._joins:
                return []
            if not (holds_merge and layout.signatures[layout.names[place]].may_hold):
                return [place]
            place = meeting[place]
        behind = region(layout.all_numbers, layout.success_numbers[number], number)
        for end in behind:
            if end not in self.region_of and end not in self.join_of:
                often.setdefault(end, cause)
        return []

    def _spread(self, todo: list[tuple[int, str]], often: dict[int, str], holds_merge: bool) -> None:
        """Follow several items to where they end or merge: a node that may hold passes on one of them."""
        layout = self._layout
        seen: set[int] = set()
        while todo:
            number, cause = todo.pop()
            if number in seen or number in self._joins:  # a join runs once, or its sources are refused
                continue
            seen.add(number)
            todo += ((target, cause) for target in layout.failure_numbers[number])
            if number in self.join_of:
                todo.append((self.join_of[number], cause))
            elif not (holds_merge and layout.signatures[layout.names[number]].may_hold):
                often.setdefault(number, cause)
                todo += ((target, cause) for target in layout.success_numbers[number])

    def _failures_taken_together(self, name: str) -> str:
        """Return the failure edges that one error may take at once; empty where there are no two such."""
        conditions = [e.condition for e in self._layout.failure[name] if isinstance(e.condition, OnFailure)]
        bare = [condition for condition in conditions if not condition.errors]
        candidates = [bare] + [
            [other for other in conditions if error in other.errors]
            for condition in conditions
            for error in condition.errors
        ]
        for together in candidates:
            if len(together) > 1:
                return " and ".join(f"{name}{spell_condition(condition)}" for condition in together)
        return ""

    def _element_of_output(self, outlet: Ending, cause: str) -> Any:
        layout = self._layout
        declared = plain_type(layout.declared.output)
        args = [arg for arg in get_args(declared) if arg is not Ellipsis]
        if len(args) == 1 and get_origin(declared) is not None and covers(declared, list_of(args[0])):
            return args[0]
        given = describe_type(layout.signatures[outlet.node].output)
        raise layout.error(
            f"several items may be alive {cause} and nothing gathers them before it ends at {outlet.node!r}, "
            f"so its result is a list; it is declared to return {describe_type(declared)}. Declare list[{given}], or "
            "close the fan-out with gather(...). Conditions that exclude each other need .otherwise for the last one."
        )

    def _given_by(self, outlet: Ending) -> Any:
        """Return the type of what leaves the graph at an outlet."""
        output = self._layout.signatures[outlet.node].output
        if outlet.condition is None:
            return output
        return taken_type(outlet.condition, output, self._layout.conditions(outlet.node))

    def _check_outlet(self, outlet: Ending, declared: Any, *, are_many: bool) -> None:
        output = self._given_by(outlet)
        if assignable(output, declared):
            return
        gives, wants = describe_both(output, declared)
        should = make_union([declared, output])
        declare = describe_type(list_of(should) if are_many else should)
        whole = f"list[{wants}]" if are_many else wants
        raise self._layout.error(
            f"it is declared to return {whole}, but it may end at {outlet.node!r} with {gives}. "
            f"Declare {declare}, or lead {outlet.node!r} to a node that returns {wants}."
        )
