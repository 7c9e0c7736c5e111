"""Concurrency keys of whole runs: how a run gets a ticket, and how its items wait with it. Pure, like `limit_moves`.

The ticket is the run's own: it stands first in the list of the run's tickets, and is given back when the run is over.
Items that meet a run without its key are held, each noted in the same list without a ticket, until the key is told to
be the run's. Whoever draws the ticket in one epoch draws the same, so that two who do so at once draw one.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.changes import Count, PostLetter, PutItem
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decisions import Anchor, Decision, Effects, OwnerAnchor
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.kin_letters import TICKETS
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.limit_changes import EnterTicket, LeaveTicket
from floxide_amqp.core.limit_moves import WAIT, place_of, release_letter
from floxide_amqp.core.limits import LIMIT_WAIT, Ticket, noted, number_and_limit, ticket_number
from floxide_amqp.core.moves import forget_message, repend
from floxide_amqp.core.place_changes import LeaveOwner
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, RunHeader, RunState, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus

RUN_TICKET: Final = WorkItemId("!run")
"""What stands in place of an item in the ticket of a whole run; it comes before all items."""

_WAITS: Final = ""
"""What is noted of an item that waits until its run has its key."""

_UNGATED: Final = (*OF_THE_ENGINE, InputKind.UNDO)


def needs_run_key(item: WorkItem) -> bool:
    """Whether an item waits until its run has its key: not one that undoes what was done, nor one of the engine's."""
    return item.input.kind not in _UNGATED


def run_ticket(run_id: RunId, ticket: str) -> Ticket:
    """Return the ticket of a run, as it is noted."""
    return Ticket(number_and_limit(ticket)[0], RUN_TICKET, run_id)


def draw_run_ticket(header: RunHeader, epoch: int, *, limit_id: str, priority: int) -> tuple[str, Decision]:
    """Return a new ticket of a run, as it is noted, and the commit that notes it.

    Args:
        header: The run's. Who was to begin earlier comes first.
        epoch: The run's.
        limit_id: The key.
        priority: 0 to 9.
    """
    ticket = noted(ticket_number(priority, header.begins_at_ms, epoch, 0), limit_id)
    decision = Decision(
        conditions=(EpochIs(epoch),), changes=(EnterTicket(RUN_TICKET, ticket), Count(TICKETS, 1)), epoch_after=epoch
    )
    return ticket, decision


def wait_for_run_key(
    header: RunHeader,
    item: WorkItem,
    turn: int,
    epoch: int,
    *,
    ticket: str,
    anchor: Anchor,
    worker: WorkerId,
    now_ms: int,
    declared: int,
) -> Decision:
    """A pending item waits until its run has its key: it is held, and a letter puts the run on the key's list.

    Meanwhile it has no key of its own, which a run that has the one this waits for may need.
    """
    number, limit_id = number_and_limit(ticket)
    held = replace(
        item, status=WorkItemStatus.HELD, due_ms=0, waits_for=f"{LIMIT_WAIT}{limit_id}", parked_ms=now_ms, ticket="",
        note=f"waits for concurrency key {limit_id!r} of workflow {header.workflow!r}",
    )  # fmt: skip
    letter = Letter(
        letter_id=derive_letter_id(WAIT, header.run_id, item.item_id, number, turn), kind=WAIT,
        to_run=place_of(limit_id), from_run=header.run_id, posted_at_ms=now_ms,
        body=f"{declared}:{number}:{RUN_TICKET}".encode(),
    )  # fmt: skip
    letters = (letter, *((release_letter(header.run_id, item, now_ms),) if item.ticket else ()))
    leave = (LeaveOwner(worker, item.item_id),) if isinstance(anchor, OwnerAnchor) else forget_message(anchor)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=(
            PutItem(held, is_listed=True), Count("waiting", 1), EnterTicket(item.item_id, _WAITS),
            *map(PostLetter, letters), *leave,
        ),
        effects=Effects(letters=letters),
        epoch_after=epoch,
    )  # fmt: skip


def waits_for_run_key(item: WorkItem, noted_as: str, limit_id: str) -> bool:
    """Whether an item waits until its run has a key, by what the run's list says of it."""
    is_held = item.status is WorkItemStatus.HELD and item.waits_for == f"{LIMIT_WAIT}{limit_id}"
    return is_held and noted_as == _WAITS


def run_key_granted(item: WorkItem, turn: int, run: RunState, epoch: int, now_ms: int, publisher: WorkerId) -> Decision:
    """An item that waited until its run has its key becomes pending, also in a run that is paused meanwhile."""
    pending = replace(item, status=WorkItemStatus.PENDING, waits_for="", parked_ms=0, note="")
    cleanup = (Count("waiting", -1), LeaveTicket(item.item_id))
    return repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=cleanup)
