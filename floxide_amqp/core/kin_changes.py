"""What a commit checks and changes of what a run knows of its children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import ChildRecord


@dataclass(frozen=True, slots=True)
class ChildIs:
    """The record of a child still has this version; 0 for a child that must not be there."""

    run_id: RunId
    version: int


@dataclass(frozen=True, slots=True)
class PutChild:
    """Write what a run knows of a child; a new one is listed among its children."""

    child: ChildRecord
    is_new: bool = False


KinCondition: TypeAlias = ChildIs
KinChange: TypeAlias = PutChild
