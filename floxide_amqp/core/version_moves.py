"""The one commit that raises a run to another version of its workflow: pure, like `moves`.

Header and state get the version, items what `migrate` made of them, the context its new form. The state's cell is
written, so the run's epoch rises: whatever was admitted before, with the older version's graph, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from floxide_amqp.core.changes import Change, Count, MoveContext, PutDeadLetter, PutHeader, PutItem, PutRun, RelistRun
from floxide_amqp.core.commit_conditions import Condition, ContextLengthIs, EpochIs, TurnIs
from floxide_amqp.core.decisions import Decision, Effects, Outgoing, message_entry
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.message_records import DeadLetter
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, LeaveParked, SetTimer
from floxide_amqp.core.records import RunHeader, RunState, WorkItem
from floxide_amqp.core.set_aside import leave_set_aside
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind


@dataclass(frozen=True, slots=True)
class Moved:
    """A live item of a run that is raised to another version.

    Attributes:
        before: The item as it is.
        turn: Its turn.
        after: The item as it goes on; the same where nothing of it changes.
        letter: Its dead letter, which waits for somebody, and it with that; None where there is none.
    """

    before: WorkItem
    turn: int
    after: WorkItem
    letter: DeadLetter | None = None


def raise_version(
    header: RunHeader,
    run: RunState,
    epoch: int,
    raised: RunHeader,
    items: Sequence[Moved],
    *,
    now_ms: int,
    publisher: WorkerId,
    context_length: int | None,
    context: MoveContext | None,
) -> Decision:
    """Return the commit that raises a run.

    Args:
        header: The run's header until now.
        run: Its state until now.
        epoch: The version of that.
        raised: The header from now on.
        items: All its live items.
        now_ms: Store time.
        publisher: Who publishes what becomes pending.
        context_length: How far the context was read; None where the run has none.
        context: The context's new form; None where it stays as it is.
    """
    conditions: list[Condition] = [TurnIs(each.before.item_id, each.turn) for each in items]
    conditions.append(EpochIs(epoch))
    if context_length is not None:
        conditions.append(ContextLengthIs(context_length))
    state = replace(run, updated_at_ms=now_ms, version=raised.version)
    changes: list[Change] = [PutHeader(raised), PutRun(state, run.status), RelistRun(run.status, raised.version)]
    if context is not None:
        changes.append(context)
    outgoing: list[Outgoing] = []
    for each in items:
        changes += _moved(each, header, state, now_ms, publisher, outgoing)
    return Decision(
        conditions=tuple(conditions),
        changes=tuple(changes),
        effects=Effects(publish=tuple(outgoing)),
        epoch_after=epoch + 1,
    )


def _moved(
    moved: Moved, header: RunHeader, state: RunState, now_ms: int, publisher: WorkerId, outgoing: list[Outgoing]
) -> list[Change]:
    """Return what is written of one item; what waits goes on waiting, with its timer for its new turn.

    A child knows who waits for it by the turn: the step of one that changes runs, and waits again.
    """
    before, after = moved.before, moved.after
    calls = before.status is WorkItemStatus.HELD and waits_for_child(before.waits_for) is not None
    if before.status is WorkItemStatus.PENDING and before.note:
        after = replace(after, note="")  # it was put off until now: it gets a message at once
    unparks = before.status is WorkItemStatus.PARKED and moved.letter is None
    if unparks or (calls and after is not before):
        after = replace(after, status=WorkItemStatus.PENDING, note="", parked_ms=0)
    if after is before:
        return []
    changes: list[Change] = [PutItem(after, is_listed=True, dropped=before.input.payload)]
    if calls:
        changes.append(Count("waiting", -1))
    if moved.letter is not None:
        changes.append(PutDeadLetter(replace(moved.letter, node=after.node, queue=after.queue, turn=moved.turn + 1)))
    elif unparks:
        changes += (
            LeaveParked(before.queue, header.workflow, header.version, before.node, before.item_id),
            leave_set_aside(before, header.workflow, header.version),
            Count("waiting", -1),
        )
    elif before.due_ms:
        kind = TimerKind.HOLD if before.status is WorkItemStatus.HELD else TimerKind.RETRY
        timer = Timer(due_ms=before.due_ms, run_id=header.run_id, item_id=before.item_id, kind=kind, turn=moved.turn)
        changes += (DropTimer(timer), SetTimer(replace(timer, turn=moved.turn + 1)))
    if after.status is WorkItemStatus.PENDING and state.is_at_work_on(after):
        out = Outgoing(after, moved.turn + 1, message_entry(now_ms, after.item_id, moved.turn + 1))
        changes.append(EnterMessage(after.queue, out.entry, after.item_id, out.turn, publisher))
        outgoing.append(out)
    return changes
