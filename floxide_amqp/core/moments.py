"""What happened to a run that no other log of it tells: an item began to wait, a signal came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MomentKind(StrEnum):
    """What happened."""

    HELD = "held"
    """An item waits."""
    SIGNALLED = "signalled"
    """The run accepted a signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened to a run.

    Attributes:
        at_ms: When, store time.
        item_id, node: Which item; empty where it is about the run.
        name: Of the signal that came, or of those that are waited for, parted by spaces; empty where there is none.
        until_ms: When the item goes on by itself, store time; 0 where it does not.
    """

    kind: MomentKind
    at_ms: int
    item_id: str = ""
    node: str = ""
    name: str = ""
    until_ms: int = 0
