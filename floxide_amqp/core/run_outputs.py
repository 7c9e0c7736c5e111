"""What a run returns, and whether it may have more than one output.

Several items may reach an end where nothing has closed the fan-out they come from; the run's result is a list then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from floxide_amqp.core.analysis import UNREACHED, postdominators, region
from floxide_amqp.core.blueprint import Ending
from floxide_amqp.core.choices import taken_type
from floxide_amqp.core.conditions import OnFailure, spell_condition
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.scopes import Scopes
from floxide_amqp.core.type_args import is_never, list_of, make_union, plain_type
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


def outputs_of(layout: Layout, scopes: Scopes) -> Outputs:
    """Return what a run returns.

    Raises:
        DefinitionError: It is not what the workflow declares.
    """
    return _Ends(layout, scopes).check()


class _Ends:
    """The places where values leave a graph, and what may be alive there."""

    def __init__(self, layout: Layout, scopes: Scopes) -> None:
        self._layout = layout
        self._scopes = scopes

    def check(self) -> Outputs:
        """Return what leaves the graph, once it fits what is declared."""
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
            if number in self._scopes.region_of or number in self._scopes.join_of:
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
        meeting = self._meeting_places() if self._scopes.joins else []
        for number, name in enumerate(layout.names):
            if number in self._scopes.region_of:
                continue
            if number in self._scopes.fan_outs and number not in self._scopes.join_of:
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
            if place in self._scopes.joins:
                return []
            if not (holds_merge and layout.signatures[layout.names[place]].may_hold):
                return [place]
            place = meeting[place]
        behind = region(layout.all_numbers, layout.success_numbers[number], number)
        for end in behind:
            if end not in self._scopes.region_of and end not in self._scopes.join_of:
                often.setdefault(end, cause)
        return []

    def _spread(self, todo: list[tuple[int, str]], often: dict[int, str], holds_merge: bool) -> None:
        """Follow several items to where they end or merge: a node that may hold passes on one of them."""
        layout = self._layout
        seen: set[int] = set()
        while todo:
            number, cause = todo.pop()
            if number in seen or number in self._scopes.joins:  # a join runs once, or its sources are refused
                continue
            seen.add(number)
            todo += ((target, cause) for target in layout.failure_numbers[number])
            if number in self._scopes.join_of:
                todo.append((self._scopes.join_of[number], cause))
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
