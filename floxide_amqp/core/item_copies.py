"""Copies of work items with some of their fields set, as nearly every step makes two of them."""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.fast_dataclasses import copier, replace
from floxide_amqp.core.ids import WorkerId, WorkItemId
from floxide_amqp.core.records import ItemInput, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus

NOBODY: Final = WorkerId("")


@copier(WorkItem)
def ended(
    item: WorkItem,
    *,
    status: WorkItemStatus,
    input: ItemInput,
    successors: tuple[WorkItemId, ...],
    kept: WorkItemId | None,
    attempt: int,
    owner: WorkerId = NOBODY,
    anchored: bool = False,
    note: str = "",
    mail: None = None,
    timed_out: bool = False,
) -> WorkItem:
    """An item that has ended, in whatever way, with what followed it."""
    raise NotImplementedError


@copier(WorkItem)
def owned(
    item: WorkItem, *, owner: WorkerId, anchored: bool, deaths: int, status: WorkItemStatus = WorkItemStatus.IN_PROGRESS
) -> WorkItem:
    """An item that a worker goes on with, and owns."""
    raise NotImplementedError


def fresh(opener: WorkItem) -> WorkItem:
    """A pending item that inherits only place and history from another."""
    return replace(
        opener,
        status=WorkItemStatus.PENDING,
        attempt=0,
        owner=NOBODY,
        anchored=False,
        deaths=0,
        spared=False,
        lost=0,
        due_ms=0,
        successors=(),
        kept=None,
        token=b"",
        note="",
        waits_for="",
        begun=False,
        given=None,
        mail=None,
        timed_out=False,
        ticket="",
    )
