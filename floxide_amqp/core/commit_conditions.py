"""What a commit checks: it is applied if all of it still holds, and else not at all."""

from __future__ import annotations

from typing import TypeAlias

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import ScopeId, WorkItemId
from floxide_amqp.core.kin_changes import KinCondition
from floxide_amqp.core.signal_changes import SignalCondition


@dataclass(frozen=True, slots=True)
class TurnIs:
    """The item still has this turn; 0 for an item that must not exist."""

    item_id: WorkItemId
    turn: int


@dataclass(frozen=True, slots=True)
class EpochIs:
    """No control action has touched the run since this epoch; 0 for a run that must not exist."""

    epoch: int


@dataclass(frozen=True, slots=True)
class NotDeleted:
    """No run of this id was deleted so short a time ago that its id is not free."""


@dataclass(frozen=True, slots=True)
class ScopeIsOpen:
    """The scope was not closed."""

    scope_id: ScopeId


@dataclass(frozen=True, slots=True)
class AttributesAre:
    """Nobody changed the run's attributes since this version; 0 where none was ever set."""

    version: int


@dataclass(frozen=True, slots=True)
class ContextLengthIs:
    """Nobody appended to the run's context since this length."""

    length: int


@dataclass(frozen=True, slots=True)
class LetterIsNew:
    """This run has not marked a letter of this id as received; goes with `MarkReceived`."""

    letter_id: str


Condition: TypeAlias = (
    TurnIs
    | EpochIs
    | NotDeleted
    | ScopeIsOpen
    | ContextLengthIs
    | AttributesAre
    | LetterIsNew
    | SignalCondition
    | KinCondition
)
