"""What a commit changes of what a run knows of its tickets for concurrency keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from floxide_amqp.core.ids import WorkItemId


@dataclass(frozen=True, slots=True)
class EnterTicket:
    """Note that an item has a ticket, in place of an earlier one: the run gives it back when it ends."""

    item_id: WorkItemId
    ticket: str


@dataclass(frozen=True, slots=True)
class LeaveTicket:
    """Forget the ticket of an item."""

    item_id: WorkItemId


LimitChanged: TypeAlias = EnterTicket | LeaveTicket
