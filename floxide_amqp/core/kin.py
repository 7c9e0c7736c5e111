"""Runs that a run has started, and the run that started it: what each knows of the other.

A child is a run of its own. Its header names its parent; the parent keeps a record of each of its children, from the
commit of the step that started it on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.statuses import RunStatus

WAITS: Final = "child:"
"""What `WorkItem.waits_for` of an item begins with that has called a child; the child's id follows."""


class OnClose(StrEnum):
    """What becomes of a child that goes on when its parent ends, in whatever way."""

    CANCEL = "cancel"
    """It is cancelled."""
    ABANDON = "abandon"
    """It goes on by itself."""


@dataclass(frozen=True, slots=True)
class ParentLink:
    """The run that started a run, and the item of it that did."""

    run_id: RunId
    item_id: WorkItemId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRecord:
    """What a run knows of one of its children.

    Attributes:
        item_id, node: What started it.
        attempt: The item's attempts before; a later one starts another child.
        turn: The turn with which the item waits for it; 0 where nobody does.
        epoch: The parent's when it was started.
        on_close: What becomes of it when the parent ends.
        is_closing: Whether it is being cancelled because the parent has ended.
        status: How it ended; None while it goes on.
        output: Of one that completed, its output, encoded.
        error, failed_node: Of one that failed, why and where.
        reason: Of one that was cancelled, why.
    """

    run_id: RunId
    workflow: str
    version: str
    item_id: WorkItemId
    node: str
    attempt: int
    turn: int
    epoch: int
    started_at_ms: int
    on_close: OnClose = OnClose.CANCEL
    is_closing: bool = False
    status: RunStatus | None = None
    ended_at_ms: int = 0
    output: bytes = b""
    error: ErrorInfo | None = None
    failed_node: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Kin:
    """Who must be told when a run ends.

    Attributes:
        parent: The run that started it, if one did.
        may_have_children: Whether it may have started others; False where its workflow says that it cannot.
        may_hold_keys: Whether its items may hold concurrency keys; False where its workflow says that they cannot.
    """

    parent: ParentLink | None = None
    may_have_children: bool = False
    may_hold_keys: bool = False


ALONE: Final = Kin()
"""Nobody must be told."""


def derive_child_id(run_id: RunId, item_id: WorkItemId, turn: int) -> RunId:
    """Return the id of the run that an item starts when it runs with a turn."""
    text = "\x1f".join((run_id, item_id, str(turn)))
    return RunId(f"child-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}")


def waits_for_child(waits_for: str) -> RunId | None:
    """Return the child that an item has called, by what it waits for; None where it has called none."""
    return RunId(waits_for.removeprefix(WAITS)) if waits_for.startswith(WAITS) else None
