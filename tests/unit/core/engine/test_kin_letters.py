"""Whatever ends a run, pauses it or lets it go on, tells those whom it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from floxide_amqp.core import run_moves
from floxide_amqp.core.changes import Change, PostLetter, WhenCount, WhenJoins, WhenScope
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.kin import ALONE, Kin, ParentLink
from floxide_amqp.core.kin_letters import CHILDREN, CLOSE, ENDED, FOLLOW_ALL, with_kin
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.records import RunFailure, RunHeader, RunState
from floxide_amqp.core.statuses import RunStatus

RUN, ITEM = RunId("run"), WorkItemId("item")
HEADER = RunHeader(
    run_id=RUN, workflow="W", version="1", input=b"", input_digest="", context=b"", created_at_ms=0, deadline_ms=None,
    reply_to="", start_item=ITEM,
)  # fmt: skip
GOES_ON = RunState(status=RunStatus.RUNNING, updated_at_ms=1)
PAUSED = RunState(status=RunStatus.PAUSED, updated_at_ms=1)
FAILURE = RunFailure(node="n", item_id=ITEM, error=describe_error(ValueError("no")), attempts=1)
FAMILY = Kin(ParentLink(RunId("parent"), ITEM), may_have_children=True)

ENDS = {
    "cancelled": run_moves.cancel_run(HEADER, GOES_ON, 7, 50, "enough"),
    "terminated": run_moves.terminate_run(HEADER, GOES_ON, 7, 50, "enough"),
    "failed": run_moves.fail_run(HEADER, GOES_ON, 7, 50, FAILURE),
    "failed as it is": run_moves.fail_run(HEADER, GOES_ON, 7, 50, FAILURE, undoes=False),
    "completed by hand": run_moves.complete_run(HEADER, GOES_ON, 7, 50, [b"1"], "so be it"),
}
TURNS = {
    "paused": run_moves.pause_run(GOES_ON, 7, 50, "lunch"),
    "resumed": run_moves.resume_run(HEADER, PAUSED, 7, 50, again_at_ms=60),
}


def posted(changes: Iterable[Change], *, if_children: bool = False) -> Iterator[tuple[Letter, bool]]:
    """Letters among changes, each with whether it depends on there being children."""
    for change in changes:
        if isinstance(change, PostLetter):
            yield change.letter, if_children
        elif isinstance(change, WhenCount | WhenScope | WhenJoins):
            is_asked = isinstance(change, WhenCount) and change.name == CHILDREN
            assert not (is_asked and change.then)
            yield from posted(change.then, if_children=if_children)
            yield from posted(change.otherwise, if_children=if_children or is_asked)


@pytest.mark.parametrize("how", ENDS)
def test_an_end_is_told_to_the_parent_and_to_the_children_if_there_are_some(how: str) -> None:
    told = with_kin(ENDS[how], RUN, FAMILY)
    found = list(posted(told.changes))
    assert {(letter.kind, letter.to_run, if_children) for letter, if_children in found} == {
        (ENDED, "parent", False),
        (CLOSE, "run", True),
    }
    assert {letter.from_run for letter, _ in found} == {"run"}
    assert {letter.body for letter, _ in found if letter.kind == CLOSE} == {b"7"}
    assert [letter.kind for letter in told.effects.letters] == [ENDED, CLOSE]
    if told.undoing is not None:
        assert [letter.kind for letter in told.undoing.letters] == [CLOSE]


@pytest.mark.parametrize("how", TURNS)
def test_children_are_told_when_their_parent_is_paused_or_goes_on(how: str) -> None:
    told = with_kin(TURNS[how], RUN, FAMILY)
    assert [(letter.kind, if_children) for letter, if_children in posted(told.changes)] == [(FOLLOW_ALL, True)]
    assert [letter.kind for letter in told.effects.letters] == [FOLLOW_ALL]
    assert told.effects.timer == TURNS[how].effects.timer


@pytest.mark.parametrize("decision", [*ENDS.values(), *TURNS.values()], ids=[*ENDS, *TURNS])
def test_who_has_no_kin_tells_nobody_and_who_has_no_children_only_the_parent(decision: Decision) -> None:
    assert list(posted(with_kin(decision, RUN, ALONE).changes)) == []
    child = with_kin(decision, RUN, Kin(FAMILY.parent))
    assert {letter.kind for letter, _ in posted(child.changes)} <= {ENDED}


def test_the_same_end_is_told_by_the_same_letter_and_another_by_another() -> None:
    def letters(now_ms: int) -> set[str]:
        told = with_kin(run_moves.cancel_run(HEADER, GOES_ON, 7, now_ms, ""), RUN, FAMILY)
        return {letter.letter_id for letter, _ in posted(told.changes)}

    assert letters(50) == letters(50)
    assert not letters(50) & letters(51)


def test_what_does_not_concern_kin_stays_as_it_is() -> None:
    decision = run_moves.resume_run(HEADER, RunState(status=RunStatus.FAILED, updated_at_ms=1), 7, 50, again_at_ms=60)
    assert with_kin(decision, RUN, FAMILY) is decision
