"""What signals do to a run: a value reaches an item that waits for it, or is kept; an item waits, or takes one.

Each value goes to one item, the oldest first. It is given to an item that waits in the very commit that accepts it,
and is that item's own from then on, over all its attempts; what is kept is taken in the commit of the step that
received it. So no value is taken twice, and none is passed over while somebody waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from floxide_amqp.core.changes import Change, Count, PostLetter
from floxide_amqp.core.commit_conditions import EpochIs, ScopeIsOpen
from floxide_amqp.core.decisions import Decision, Effects, Outgoing, Step, message_entry
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.moves import repend
from floxide_amqp.core.outcomes import Held
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, SetTimer
from floxide_amqp.core.plan import Plan, conditions_of
from floxide_amqp.core.records import Mail, RunState, WorkItem
from floxide_amqp.core.signal_changes import (
    EnterWait,
    KeepMail,
    MailboxIs,
    MailIsThere,
    NoteSignal,
    SignalIsNew,
    TakeMail,
    WaitersAre,
)
from floxide_amqp.core.signal_waits import leave_waits, waiting_for
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind

OFFER: Final = "offer signal"
"""The kind of a run's letters to itself by which a value that comes back is offered to who waits for one."""


def give(
    mail: Mail,
    digest: str,
    item: WorkItem,
    turn: int,
    run: RunState,
    epoch: int,
    *,
    now_ms: int,
    publisher: WorkerId,
    run_id: RunId,
) -> Decision:
    """An item that waits for a signal gets a value of it, and becomes pending; unless its fan-out was closed."""
    noted = (NoteSignal(mail.signal_id, digest),)
    decision = _woken(mail, item, turn, run, epoch, noted, now_ms=now_ms, publisher=publisher, run_id=run_id)
    return replace(decision, conditions=(*decision.conditions, SignalIsNew(mail.signal_id)))


def give_kept(
    mail: Mail, item: WorkItem, turn: int, run: RunState, epoch: int, *, now_ms: int, publisher: WorkerId, run_id: RunId
) -> Decision:
    """An item that waits for a signal gets a value that was kept, and becomes pending."""
    taken = (TakeMail(mail),)
    decision = _woken(mail, item, turn, run, epoch, taken, now_ms=now_ms, publisher=publisher, run_id=run_id)
    return replace(decision, conditions=(*decision.conditions, MailIsThere(mail.signal_id)))


def _woken(
    mail: Mail, item: WorkItem, turn: int, run: RunState, epoch: int, first: tuple[Change, ...],
    *, now_ms: int, publisher: WorkerId, run_id: RunId,
) -> Decision:  # fmt: skip
    pending = replace(
        item, status=WorkItemStatus.PENDING, due_ms=0, waits_for="", parked_ms=0, note="", mail=mail, timed_out=False
    )
    cleanup: list[Change] = [*first, Count("waiting", -1), *leave_waits(item)]
    if item.due_ms:
        timer = Timer(due_ms=item.due_ms, run_id=run_id, item_id=item.item_id, kind=TimerKind.HOLD, turn=turn)
        cleanup.append(DropTimer(timer))
    decision = repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=cleanup)
    return replace(decision, conditions=(*decision.conditions, *map(ScopeIsOpen, item.scope)))


def come_back(
    mail: Iterable[Mail], run_id: RunId, cause: WorkItem, turn: int, now_ms: int
) -> tuple[list[KeepMail], list[Letter]]:
    """Values that items give back are kept again; a letter for each signal offers them to those that wait by now.

    Args:
        mail: The values.
        run_id: The run.
        cause: The item whose step gives them back.
        turn: Its turn.
        now_ms: The time.
    """
    kept = [KeepMail(each) for each in mail]
    letters = [
        Letter(
            letter_id=derive_letter_id(OFFER, run_id, cause.item_id, turn, name), kind=OFFER, to_run=run_id,
            from_run=run_id, posted_at_ms=now_ms, body=name.encode(),
        )
        for name in dict.fromkeys(each.mail.name for each in kept)
    ]  # fmt: skip
    return kept, letters


def keep(mail: Mail, digest: str, epoch: int, waiters: int) -> Decision:
    """A value that nobody waits for stays in the mailbox; `waiters` is the version of the list of those who do."""
    return Decision(
        conditions=(EpochIs(epoch), WaitersAre(mail.name, waiters), SignalIsNew(mail.signal_id)),
        changes=(NoteSignal(mail.signal_id, digest), KeepMail(mail)),
        epoch_after=epoch,
    )


def exchanging(step: Step, decision: Decision) -> Decision:
    """A step that goes on, or holds, takes what it received, and posts what it sends."""
    if not step.taken and not step.letters:
        return decision
    first: list[Change] = [TakeMail(mail) for mail in step.taken]
    first += (PostLetter(letter) for letter in step.letters)
    effects, closing = decision.effects, decision.closing_effects
    return replace(
        decision,
        conditions=(*decision.conditions, *(MailIsThere(mail.signal_id) for mail in step.taken)),
        changes=(*first, *decision.changes),
        effects=replace(effects, letters=(*effects.letters, *step.letters)),
        closing_effects=replace(closing, letters=(*closing.letters, *step.letters)),
    )


def leaving(step: Step, mail: Mail, decision: Decision) -> Decision:
    """An item that waits for something else gives back the value that woke it, since its body did not receive it."""
    kept, offers = come_back((mail,), step.header.run_id, step.item, step.turn, step.now_ms)
    changes = (*kept, *map(PostLetter, offers), *decision.changes)
    return replace(decision, changes=changes).with_effects(
        lambda effects: replace(effects, letters=(*effects.letters, *offers))
    )


def hold_for_signal(step: Step, outcome: Held, due_ms: int) -> Decision:
    """An item waits until a signal comes, or its time is over; where a value is there already, it is given to it."""
    step = replace(step, keep=frozenset())
    plan = Plan(step)
    plan.start_run()
    plan.append_delta(outcome.delta)
    plan.tally(busy_us=step.duration_us)
    conditions = conditions_of(step, check_context=step.is_isolated)
    item = replace(step.item, note="", mail=outcome.mail, timed_out=False)
    if outcome.mail is not None:
        return _go_on_at_once(plan, item, outcome.mail)
    since = step.now_ms
    held = replace(
        item, status=WorkItemStatus.HELD, due_ms=due_ms, waits_for=waiting_for(outcome.until), parked_ms=since
    )
    plan.suspend(held)
    plan.tally(waiting=1)
    plan.changes += (EnterWait(name, since, item.item_id) for name in outcome.until)
    timer: Timer | None = None
    if due_ms:
        timer = Timer(
            due_ms=due_ms, run_id=step.header.run_id, item_id=item.item_id, kind=TimerKind.HOLD, turn=step.turn + 1
        )
        plan.changes.append(SetTimer(timer))
    plan.changes += plan.move_anchor(None)
    return Decision(
        conditions=(*conditions, MailboxIs(step.mailbox)),
        changes=tuple(plan.changes),
        effects=Effects(timer=timer),
        epoch_after=plan.epoch_after,
    )


def _go_on_at_once(plan: Plan, item: WorkItem, mail: Mail) -> Decision:
    step = plan.step
    plan.suspend(replace(item, status=WorkItemStatus.PENDING))
    plan.changes += (TakeMail(mail), *plan.move_anchor(None))
    publish: tuple[Outgoing, ...] = ()
    if plan.may_publish:
        turn = step.turn + 1
        pending = replace(item, status=WorkItemStatus.PENDING, owner=WorkerId(""), anchored=False)
        out = Outgoing(pending, turn, message_entry(step.now_ms, item.item_id, turn))
        plan.changes.append(EnterMessage(item.queue, out.entry, item.item_id, turn, step.worker))
        publish = (out,)
    return Decision(
        conditions=(*conditions_of(step, check_context=step.is_isolated), MailIsThere(mail.signal_id)),
        changes=tuple(plan.changes),
        effects=Effects(publish=publish),
        epoch_after=plan.epoch_after,
    )
