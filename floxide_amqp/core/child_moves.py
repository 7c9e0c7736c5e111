"""Starting a child, waiting for it, and what its end means to the item that waits. Pure, like `moves`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from floxide_amqp.core.changes import Change, Count, PostLetter
from floxide_amqp.core.commit_conditions import EpochIs
from floxide_amqp.core.decisions import Decision, Effects, Step
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.kin import WAITS, ChildRecord
from floxide_amqp.core.kin_changes import ChildIs, PutChild
from floxide_amqp.core.kin_letters import CANCEL, CHILDREN, FOLLOW
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.moves import repend
from floxide_amqp.core.outcomes import CallsChild, Succeeded
from floxide_amqp.core.plan import Plan, conditions_of
from floxide_amqp.core.records import RunState, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus


def call_child(step: Step, outcome: CallsChild, go_on: Callable[[Step, Succeeded], Decision]) -> Decision:
    """A step starts a child, and waits for it or goes on with its id; `go_on` decides what a success means."""
    letters = () if outcome.letter is None else (outcome.letter,)
    changes: list[Change] = [*map(PostLetter, letters), *((Count(CHILDREN, 1),) if letters else ())]
    if outcome.routes is not None:
        decision = go_on(step, Succeeded(outcome.routes))
        changes.append(PutChild(outcome.child, is_new=bool(letters)))
    else:
        decision = _wait(step, outcome.child)
        changes.append(PutChild(replace(outcome.child, turn=step.turn + 1), is_new=bool(letters)))
    started = replace(
        decision,
        conditions=(*decision.conditions, ChildIs(outcome.child.run_id, outcome.version)),
        changes=(*changes, *decision.changes),
    )
    return started.with_effects(lambda effects: replace(effects, letters=(*letters, *effects.letters)))


def _wait(step: Step, child: ChildRecord) -> Decision:
    step = replace(step, keep=frozenset())  # as of any held item: no pointer leads on from it
    plan = Plan(step)
    plan.start_run()
    plan.tally(busy_us=step.duration_us, waiting=1)
    plan.suspend(
        replace(
            step.item, status=WorkItemStatus.HELD, due_ms=0, waits_for=f"{WAITS}{child.run_id}", note="",
            parked_ms=step.now_ms,
        )
    )  # fmt: skip
    plan.changes += plan.move_anchor(None)
    return Decision(conditions=conditions_of(step), changes=tuple(plan.changes), epoch_after=plan.epoch_after)


def child_ended(
    ended: ChildRecord,
    before: ChildRecord,
    version: int,
    waiting: tuple[WorkItem, int] | None,
    run: RunState,
    epoch: int,
    *,
    now_ms: int,
    publisher: WorkerId,
) -> Decision:
    """A run learns how a child has ended; the item that waits for it becomes pending, and finds that beside it.

    Args:
        ended: What is known of the child now.
        before: What was known of it.
        version: The version of that.
        waiting: The item that started it and its turn, where it is there.
        run: The run's state.
        epoch: The version of that.
        now_ms: Store time.
        publisher: Who publishes the item.
    """
    changes: list[Change] = [PutChild(ended), *((Count(CHILDREN, -1),) if before.status is None else ())]
    awaited = waiting is not None and is_awaited(waiting[0], waiting[1], before)
    if waiting is None or not awaited or run.is_over_for(waiting[0]):
        return Decision(conditions=(ChildIs(ended.run_id, version),), changes=tuple(changes), epoch_after=epoch)
    item, turn = waiting
    pending = replace(item, status=WorkItemStatus.PENDING, note="", parked_ms=0)
    decision = repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=(Count("waiting", -1),))
    return replace(
        decision,
        conditions=(*decision.conditions, ChildIs(ended.run_id, version)),
        changes=(*decision.changes, *changes),
    )


def is_awaited(item: WorkItem, turn: int, child: ChildRecord) -> bool:
    """Whether an item, as it is with a turn, waits for a child."""
    return item.status is WorkItemStatus.HELD and turn == child.turn and item.waits_for == f"{WAITS}{child.run_id}"


def close_children(run_id: RunId, epoch: int, children: Sequence[tuple[ChildRecord, int]], now_ms: int) -> Decision:
    """Have children cancelled that go on although their parent, `run_id`, has ended; each with its version.

    The parent's epoch is checked: somebody may let it go on again, and it takes up its children then.
    """
    letters = tuple(
        Letter(
            letter_id=derive_letter_id(CANCEL, run_id, child.run_id), kind=CANCEL, to_run=child.run_id,
            from_run=run_id, posted_at_ms=now_ms,
        )
        for child, _ in children
    )  # fmt: skip
    return Decision(
        conditions=(EpochIs(epoch), *(ChildIs(child.run_id, version) for child, version in children)),
        changes=(
            *(PutChild(replace(child, is_closing=True)) for child, _ in children),
            *map(PostLetter, letters),
        ),
        effects=Effects(letters=letters),
    )


def tell_to_follow(run_id: RunId, children: Sequence[ChildRecord], cause: Letter) -> Decision:
    """Have children do as their parent, `run_id`, does: it was paused, or goes on, which was the cause of a letter."""
    letters = tuple(
        Letter(
            letter_id=derive_letter_id(FOLLOW, run_id, child.run_id, cause.letter_id), kind=FOLLOW,
            to_run=child.run_id, from_run=run_id, posted_at_ms=cause.posted_at_ms,
        )
        for child in children
    )  # fmt: skip
    return Decision(conditions=(), changes=tuple(map(PostLetter, letters)), effects=Effects(letters=letters))
