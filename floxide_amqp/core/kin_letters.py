"""What happens to a run means something to its kin.

Its end is told to its parent; its children end with it, are paused with it and go on with it, unless it abandons them.
Whatever ends, pauses or resumes a run writes its state. So the letters are added to any decision that does, by
`with_kin`, and nothing that does so needs to know of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from floxide_amqp.core.changes import Change, PostLetter, PutRun, WhenCount, WhenJoins, WhenScope
from floxide_amqp.core.commit_conditions import EpochIs
from floxide_amqp.core.decisions import Decision, Effects
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import Kin
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.records import RunState
from floxide_amqp.core.statuses import RunStatus

START: Final = "start child"
ENDED: Final = "child ended"
CLOSE: Final = "close children"
CANCEL: Final = "cancel child"
FOLLOW_ALL: Final = "children follow"
FOLLOW: Final = "child follows"

OF_BRANCH: Final = b"branch"
"""What a letter that cancels a child says where only the fan-out was closed that the child was called in."""

CHILDREN: Final = "children"
"""The counter of a run's children that go on."""

TICKETS: Final = "tickets"
"""The counter of the tickets for concurrency keys that a run's items ever drew."""

RELEASE_ALL: Final = "release keys"

COUNTED: Final = {CLOSE: CHILDREN, FOLLOW_ALL: CHILDREN, RELEASE_ALL: TICKETS}
"""What a run counts of that which a letter to itself is about: it writes one only if there are some."""


def with_kin(decision: Decision, run_id: RunId, kin: Kin) -> Decision:
    """Return a decision that also tells a run's kin, if it may end the run, pause it or let it go on.

    Args:
        decision: Any decision about the run.
        run_id: The run.
        kin: Who must be told.
    """
    put = next(_news(decision.changes), None)
    if put is None:
        return decision
    ends = put.state
    epoch = next((each.epoch for each in decision.conditions if isinstance(each, EpochIs)), 0)
    told = _Told(run_id, kin, epoch)
    told_of = replace(decision, changes=tuple(told.changes(decision.changes)))
    if not ends_children(put.state):
        return told_of.with_effects(lambda effects: _posting(effects, (*told.followers(ends), *told.holders(ends))))
    told_of = told_of.with_effects(lambda effects: told.effects(effects, ends))
    undoing = told_of.undoing
    to_itself = (*told.children(ends), *told.holders(ends))
    return replace(told_of, undoing=None if undoing is None else _posting(undoing, to_itself))


def _posting(effects: Effects, letters: tuple[Letter, ...]) -> Effects:
    return replace(effects, letters=(*effects.letters, *letters))


class _Told:
    """Adds what a run's kin is told."""

    def __init__(self, run_id: RunId, kin: Kin, epoch: int) -> None:
        self._run_id = run_id
        self._kin = kin
        self._epoch = epoch

    def changes(self, changes: Iterable[Change]) -> Iterator[Change]:
        """Return changes, each end of the run with its letters."""
        for change in changes:
            if isinstance(change, PutRun) and ends_children(change.state):
                yield change
                if change.state.status.is_terminal:
                    yield from map(PostLetter, self.parent(change.state))
                yield from _if_there_are_some(CHILDREN, self.children(change.state))
                yield from _if_there_are_some(TICKETS, self.holders(change.state))
            elif isinstance(change, PutRun) and _is_turn(change):
                yield change
                yield from _if_there_are_some(CHILDREN, self.followers(change.state))
                yield from _if_there_are_some(TICKETS, self.holders(change.state))
            elif isinstance(change, WhenScope | WhenCount | WhenJoins):
                then, otherwise = tuple(self.changes(change.then)), tuple(self.changes(change.otherwise))
                yield replace(change, then=then, otherwise=otherwise)
            else:
                yield change

    def effects(self, effects: Effects, state: RunState) -> Effects:
        """Return effects, with the letters of the end if they have one."""
        if effects.finished is None:
            return effects
        return _posting(effects, (*self.parent(state), *self.children(state), *self.holders(state)))

    def parent(self, state: RunState) -> tuple[Letter, ...]:
        """Return the letter that tells the parent, if there is one."""
        parent = self._kin.parent
        if parent is None:
            return ()
        at_ms = state.updated_at_ms
        return (
            Letter(
                letter_id=derive_letter_id(ENDED, self._run_id, at_ms), kind=ENDED, to_run=parent.run_id,
                from_run=self._run_id, posted_at_ms=at_ms,
            ),
        )  # fmt: skip

    def children(self, state: RunState) -> tuple[Letter, ...]:
        """Return the letter to the run itself that has its children cancelled."""
        return self._to_itself(CLOSE, state) if self._kin.may_have_children else ()

    def followers(self, state: RunState) -> tuple[Letter, ...]:
        """Return the letter to the run itself that has its children paused with it, or go on with it."""
        return self._to_itself(FOLLOW_ALL, state) if self._kin.may_have_children else ()

    def holders(self, state: RunState) -> tuple[Letter, ...]:
        """Return the letter to the run itself that gives back the concurrency keys that its items hold or wait for."""
        return self._to_itself(RELEASE_ALL, state) if self._kin.may_hold_keys else ()

    def _to_itself(self, kind: str, state: RunState) -> tuple[Letter, ...]:
        at_ms = state.updated_at_ms
        return (
            Letter(
                letter_id=derive_letter_id(kind, self._run_id, self._epoch, at_ms), kind=kind, to_run=self._run_id,
                from_run=self._run_id, posted_at_ms=at_ms, body=str(self._epoch).encode(),
            ),
        )  # fmt: skip


def _if_there_are_some(what: str, letters: tuple[Letter, ...]) -> Iterator[Change]:
    """Return what posts letters about children, or about concurrency keys, if the run counts some."""
    if letters:
        yield WhenCount(what, 0, (), tuple(map(PostLetter, letters)))


def _news(changes: Iterable[Change]) -> Iterator[PutRun]:
    """Go through what matters to a run's kin among changes; all of one decision has the same time."""
    for change in changes:
        if isinstance(change, PutRun) and (ends_children(change.state) or _is_turn(change)):
            yield change
        elif isinstance(change, WhenScope | WhenCount | WhenJoins):
            yield from _news(change.then)
            yield from _news(change.otherwise)


def ends_children(state: RunState) -> bool:
    """Whether the children of a run in this state are to be cancelled: it is over, or undoes what it did."""
    return state.status.is_terminal or state.status is RunStatus.COMPENSATING


def _is_turn(put: PutRun) -> bool:
    """Whether a run is paused, or goes on after that."""
    is_paused, was_paused = put.state.status is RunStatus.PAUSED, put.was is RunStatus.PAUSED
    return is_paused != was_paused and (is_paused or put.state.status is RunStatus.RUNNING)
