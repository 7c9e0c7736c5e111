"""Tickets for concurrency keys: how items get them, wait with them and give them back. Pure, like `moves`.

An item has its ticket noted, in itself and in a list of its run, before it is entered at the key; so whatever ends the
item or the run knows what to give back. Giving back is a letter to the key, in the batch that ends the item's turn at
it. That is added to any decision by `with_releases`, so that nothing that ends an item needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from floxide_amqp.core.changes import Change, Count, PostLetter, PutItem
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decisions import Anchor, Decision, Effects, OwnerAnchor
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.kin_letters import TICKETS
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.limit_changes import EnterTicket, LeaveTicket
from floxide_amqp.core.limits import LIMIT_WAIT, Ticket, epoch_of, noted, number_and_limit, ticket_number
from floxide_amqp.core.moves import forget_message, repend
from floxide_amqp.core.place_changes import LeaveOwner
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, RunState, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus

WAIT: Final = "wait for key"
GRANT: Final = "key granted"
RELEASE: Final = "release key"

LIMIT_PREFIX: Final = " limit:"
"""What the partitions of concurrency keys begin with; no run's id begins with a blank."""

_UNLIMITED: Final = (*OF_THE_ENGINE, InputKind.UNDO)


def place_of(limit_id: str) -> RunId:
    """Return the partition of a key, which has its place among the slots as a run has."""
    return RunId(f"{LIMIT_PREFIX}{limit_id}")


def runs_limited(item: WorkItem) -> bool:
    """Whether an item is one that runs the body of its node, so that the node's limits are for it."""
    return item.input.kind not in _UNLIMITED and item.given is None


def waits_for_limit(waits_for: str) -> str | None:
    """Return the key that an item waits for, by what it says; None where it waits for none."""
    return waits_for.removeprefix(LIMIT_WAIT) if waits_for.startswith(LIMIT_WAIT) else None


def ticket_of(run_id: RunId, item: WorkItem) -> Ticket:
    """Return the ticket that an item says it has."""
    return Ticket(number_and_limit(item.ticket)[0], item.item_id, run_id)


def with_ticket(
    decision: Decision,
    run_id: RunId,
    item: WorkItem,
    epoch: int,
    turn: int,
    *,
    now_ms: int,
    limit_id: str,
    priority: int,
) -> Decision:
    """Return a claim by which the item has a ticket: its own, if that is worth something still, or a new one.

    Args:
        decision: The claim.
        run_id: The run.
        item: The item as it was before.
        epoch: The run's.
        turn: The item's before.
        now_ms: Store time.
        limit_id: The key.
        priority: 0 to 9.
    """
    number, known = number_and_limit(item.ticket)
    if item.ticket and known == limit_id and epoch_of(number) == epoch:
        return decision
    ticket = noted(ticket_number(priority, now_ms, epoch, turn + 1), limit_id)
    given_back = [PostLetter(release_letter(run_id, item, now_ms))] if item.ticket else []
    changes: list[Change] = [
        replace(change, item=replace(change.item, ticket=ticket))
        if isinstance(change, PutItem) and change.item.item_id == item.item_id
        else change
        for change in decision.changes
    ]
    changes += [EnterTicket(item.item_id, ticket), Count(TICKETS, 1), *given_back]
    kept = decision.effects.keep
    letters = tuple(post.letter for post in given_back)
    effects = replace(
        decision.effects, keep=None if kept is None else replace(kept, ticket=ticket),
        letters=(*decision.effects.letters, *letters),
    )  # fmt: skip
    return replace(decision, changes=tuple(changes), effects=effects)


def wait_for_key(
    item: WorkItem,
    turn: int,
    epoch: int,
    run_id: RunId,
    *,
    anchor: Anchor,
    worker: WorkerId,
    now_ms: int,
    declared: int,
) -> Decision:
    """A claimed item waits for its key: it is held, and a letter puts its ticket on the key's list."""
    number, limit_id = number_and_limit(item.ticket)
    held = replace(
        item, status=WorkItemStatus.HELD, owner=WorkerId(""), anchored=False, spared=False, due_ms=0,
        waits_for=f"{LIMIT_WAIT}{limit_id}", parked_ms=now_ms,
        note=f"waits for concurrency key {limit_id!r} of node {item.node!r}",
    )  # fmt: skip
    letter = Letter(
        letter_id=derive_letter_id(WAIT, run_id, item.item_id, number), kind=WAIT, to_run=place_of(limit_id),
        from_run=run_id, posted_at_ms=now_ms, body=f"{declared}:{number}:{item.item_id}".encode(),
    )  # fmt: skip
    leave = (LeaveOwner(worker, item.item_id),) if isinstance(anchor, OwnerAnchor) else forget_message(anchor)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=(PutItem(held, is_listed=True), Count("waiting", 1), PostLetter(letter), *leave),
        effects=Effects(letters=(letter,)),
        epoch_after=epoch,
    )


def grant_letter(ticket: Ticket, limit_id: str, now_ms: int) -> Letter:
    """Return the letter by which a key tells a run that one of its items holds it."""
    place = place_of(limit_id)
    return Letter(
        letter_id=derive_letter_id(GRANT, place, *ticket), kind=GRANT, to_run=ticket.run_id, from_run=place,
        posted_at_ms=now_ms, body=f"{ticket.number}:{ticket.item_id}".encode(),
    )  # fmt: skip


def release_letter(run_id: RunId, item: WorkItem, now_ms: int) -> Letter:
    """Return the letter by which an item gives its ticket back."""
    return release_of(run_id, item.item_id, item.ticket, now_ms)


def release_of(run_id: RunId, item_id: WorkItemId, ticket: str, now_ms: int) -> Letter:
    """Return the letter that gives a ticket back, as it is noted."""
    number, limit_id = number_and_limit(ticket)
    return Letter(
        letter_id=derive_letter_id(RELEASE, run_id, item_id, number), kind=RELEASE, to_run=place_of(limit_id),
        from_run=run_id, posted_at_ms=now_ms, body=f"{number}:{item_id}".encode(),
    )  # fmt: skip


def granted(
    item: WorkItem, turn: int, run: RunState, epoch: int, run_id: RunId, now_ms: int, publisher: WorkerId
) -> Decision:
    """An item that waited for its key has it, and becomes pending; in a paused run without it."""
    pending = replace(item, status=WorkItemStatus.PENDING, waits_for="", parked_ms=0, note="")
    cleanup: list[Change] = [Count("waiting", -1)]
    letters: tuple[Letter, ...] = ()
    if run.status is RunStatus.PAUSED:
        letters = (release_letter(run_id, item, now_ms),)
        cleanup += (LeaveTicket(item.item_id), *map(PostLetter, letters))
        pending = replace(pending, ticket="")
    decision = repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=cleanup)
    return replace(decision, effects=replace(decision.effects, letters=letters))


def put_back(
    items: list[tuple[WorkItem, int]], run: RunState, epoch: int, run_id: RunId, now_ms: int, publisher: WorkerId
) -> Decision:
    """Items of a paused run that hold a key, or wait for one, and are not at work give it back.

    Args:
        items: The items, each with its turn.
        run: The run's state.
        epoch: The version of that.
        run_id: The run.
        now_ms: Store time.
        publisher: Who does so.
    """
    conditions: list[TurnIs | EpochIs] = [EpochIs(epoch)]
    changes: list[Change] = []
    letters: list[Letter] = []
    for item, turn in items:
        conditions.append(TurnIs(item.item_id, turn))
        if item.status is WorkItemStatus.HELD:
            one = granted(item, turn, run, epoch, run_id, now_ms, publisher)
            changes += one.changes
            letters += one.effects.letters
        else:
            letter = release_letter(run_id, item, now_ms)
            changes += (
                PutItem(replace(item, ticket=""), is_listed=True), LeaveTicket(item.item_id), PostLetter(letter)
            )  # fmt: skip
            letters.append(letter)
    return Decision(
        conditions=tuple(conditions), changes=tuple(changes), effects=Effects(letters=tuple(letters)), epoch_after=epoch
    )


def release_tickets(tickets: list[tuple[WorkItemId, str]], run_id: RunId, epoch: int, now_ms: int) -> Decision:
    """A run that is over, or undoes what it did, gives tickets back; of one that waits for its run's there is none."""
    letters = tuple(release_of(run_id, item_id, ticket, now_ms) for item_id, ticket in tickets if ticket)
    return Decision(
        conditions=(EpochIs(epoch),),
        changes=(*(LeaveTicket(item_id) for item_id, _ in tickets), *map(PostLetter, letters)),
        effects=Effects(letters=letters),
        epoch_after=epoch,
    )


def has_turn(item: WorkItem) -> bool:
    """Whether an item with a ticket is at work with it, about to be, or waits for its turn."""
    if not runs_limited(item):
        return False
    if item.status is WorkItemStatus.HELD:
        return waits_for_limit(item.waits_for) is not None
    return item.status in (WorkItemStatus.PENDING, WorkItemStatus.IN_PROGRESS)


def with_releases(
    decision: Decision, run_id: RunId, now_ms: Callable[[RunId], int]
) -> tuple[Decision, tuple[Letter, ...]]:
    """Return a decision by which each item that is done with its ticket gives it back, and the letters that do so.

    An item's own record is written at the top level of a decision; those within conditions are new, without tickets.
    """
    done = [
        change.item
        for change in decision.changes
        if isinstance(change, PutItem) and change.item.ticket and not has_turn(change.item)
    ]
    if not done:
        return decision, ()
    at_ms = now_ms(run_id)
    letters = tuple(release_letter(run_id, item, at_ms) for item in done)
    return replace(decision, changes=tuple(_without_tickets(decision, letters))), letters


def _without_tickets(decision: Decision, letters: tuple[Letter, ...]) -> Iterator[Change]:
    for change in decision.changes:
        if isinstance(change, PutItem) and change.item.ticket and not has_turn(change.item):
            yield replace(change, item=replace(change.item, ticket=""))
            yield LeaveTicket(change.item.item_id)
        else:
            yield change
    yield from map(PostLetter, letters)
