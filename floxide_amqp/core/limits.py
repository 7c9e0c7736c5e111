"""Concurrency keys: how many steps that share a key are at work at once, over all workers. Pure.

A key has a *set* of holders and a list of those who wait, in order; never a counter, which would leak. Who holds it is
a *ticket*: one try of one item. A ticket that is entered, given or taken back twice is entered, given or taken back
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.exceptions import DefinitionError

LIMIT_WAIT: Final = "limit:"
"""What `WorkItem.waits_for` begins with of an item that waits for a concurrency key; the key's id follows."""

MAX_LIMIT: Final = 1_000
"""Most holders that a key may have: they are one record."""

MAX_LIMIT_NAME: Final = 100
"""Characters of the name of a limit."""

MAX_KEY: Final = 200
"""Characters of a key, as it is stored."""

LOOK_MS: Final = 30_000
"""Time after which the holders of a key are asked whether they still have a use for it, and an idle key is removed."""

MOST_ASKED: Final = 100
"""Holders of one key that are asked at a time, in turn."""

KeyValue: TypeAlias = str | int | None
"""What tells which key an input belongs to; None where it needs none."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most so many steps of one key are at work at once, over all workers and all nodes that name the same limit.

    As an option of a workflow: at most so many of its runs are under way at once.

    Example:
        >>> Concurrency("account", limit=5, key=lambda order: order.account).limit
        5

    Attributes:
        name: The limit's; nodes that give the same share it. 1 to 100 printable characters without blanks and slashes.
        limit: Steps, or runs, of one key at once, 1 to 1,000; changed for good with ``floxide limits set``.
        key: Returns, of the input of a node or of a run, the key it belongs to: a text, a whole number, or None for a
            step or run that needs none. Without it all share one key.
    """

    name: str
    limit: int = field(kw_only=True)
    key: Callable[[Any], KeyValue] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check what was given."""
        where = f"Concurrency({self.name!r})"
        if not is_limit_name(self.name):
            raise DefinitionError(
                f"{where}: the name must be 1 to {MAX_LIMIT_NAME} printable characters without blanks and slashes."
            )
        check_limit(self.limit, where=where)
        if self.key is not None and not callable(self.key):
            raise DefinitionError(f"{where}: key={self.key!r} must be a function of the node's input, or left out.")


def check_limit(limit: object, *, where: str) -> int:
    """Return how many may hold a key; the error names `where`.

    Raises:
        DefinitionError: It is no whole number from 1 to `MAX_LIMIT`.
    """
    if isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit <= MAX_LIMIT:
        return limit
    raise DefinitionError(f"{where}: limit={limit!r} must be a whole number from 1 to {MAX_LIMIT}.")


def key_text(name: str, value: object) -> str | None:
    """Return the key of a limit as text; None for a step that needs none.

    Raises:
        TypeError: It is neither a text nor a whole number.
        ValueError: It is too long, or not printable.
    """
    if value is None:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        given = type(value).__name__
        raise TypeError(f"The key of limit {name!r} must be a text, a whole number or None, not {given}.")
    text = str(value)
    if len(text) > MAX_KEY or not text.isprintable():
        raise ValueError(
            f"The key of limit {name!r} must have at most {MAX_KEY} characters, all printable: {text[:40]!r}."
        )
    return text


def is_limit_name(name: object) -> bool:
    """Whether a limit may be called so."""
    is_text = isinstance(name, str) and 0 < len(name) <= MAX_LIMIT_NAME and name.isprintable()
    return is_text and not set(str(name)) & set(" /")


class Ticket(NamedTuple):
    """One try of one item, as a holder of a key or in its list of those who wait.

    Attributes:
        number: Tells it from every other ticket of the item, and says by its order who comes first.
    """

    number: str
    item_id: WorkItemId
    run_id: RunId


def ticket_number(priority: int, now_ms: int, epoch: int, turn: int) -> str:
    """Return the number of a new ticket: the higher priority comes first, and then the earlier.

    Args:
        priority: 0 to 9.
        now_ms: Store time.
        epoch: The run's; in another one the ticket is worth nothing any more.
        turn: The item's with which it got the ticket.
    """
    return f"{9 - priority}{now_ms:014d}.{epoch}.{turn}"


def drawn_at(number: str) -> int:
    """Return when a ticket was drawn, store time of its run in milliseconds; 0 of one that cannot be read."""
    text = number.partition(".")[0][1:]
    return int(text) if text.isdecimal() else 0


def epoch_of(number: str) -> int:
    """Return the run's epoch in which a ticket was drawn; 0 of one that cannot be read."""
    _, _, rest = number.partition(".")
    epoch = rest.partition(".")[0]
    return int(epoch) if epoch.isdecimal() else 0


def noted(number: str, limit_id: str) -> str:
    """Return what an item says of its ticket: the number and the key."""
    return f"{number} {limit_id}"


def number_and_limit(ticket: str) -> tuple[str, str]:
    """Return the number and the key of what an item says."""
    number, _, limit_id = ticket.partition(" ")
    return number, limit_id


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """A key as one record.

    Attributes:
        declared: How many may hold it by the code of the node that asked last.
        override: How many by what somebody set; 0 where nobody did.
        holders: Who holds it.
        changed_ms: When that changed last, store time.
        look_ms: When it is looked after next; 0 where it is not, since nobody holds it.
    """

    declared: int = 1
    override: int = 0
    holders: tuple[Ticket, ...] = ()
    changed_ms: int = 0
    look_ms: int = 0

    @property
    def limit(self) -> int:
        """How many may hold it."""
        return self.override or self.declared

    @property
    def room(self) -> int:
        """How many more may."""
        return max(0, self.limit - len(self.holders))


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """What becomes of a key.

    Attributes:
        state: The key from now on.
        granted: Who holds it from now on, and did not.
        entered: Who waits from now on.
        left: Who is to be taken off the list of those who wait, be it there or not.
    """

    state: LimitState
    granted: tuple[Ticket, ...] = ()
    entered: tuple[Ticket, ...] = ()
    left: tuple[Ticket, ...] = ()


def take(state: LimitState, waiting: Sequence[Ticket], ticket: Ticket, declared: int) -> LimitChange | None:
    """Make a ticket a holder, if there is room and nobody waits.

    Returns:
        What becomes of the key, which is nothing where the ticket holds it already; None where it is full.
    """
    if ticket in state.holders:
        return LimitChange(state=state)
    asked = replace(state, declared=declared)
    if not asked.room or waiting:
        return None
    return LimitChange(state=replace(asked, holders=(*asked.holders, ticket)), granted=(ticket,))


def wait(state: LimitState, waiting: Sequence[Ticket], ticket: Ticket, declared: int) -> LimitChange:
    """Put a ticket on the list, or make it a holder where its turn has come.

    One that holds the key already is told so again: it may have asked without hearing the answer, and wait since.
    """
    if ticket in state.holders:
        return LimitChange(state=state, granted=(ticket,))
    change = promote(replace(state, declared=declared), sorted({*waiting, ticket}))
    entered = () if ticket in change.granted else (ticket,)
    return replace(change, entered=entered)


def release(state: LimitState, waiting: Sequence[Ticket], ticket: Ticket) -> LimitChange:
    """Take a ticket back, held or waiting, and let the next ones have the key."""
    holders = tuple(each for each in state.holders if each != ticket)
    change = promote(replace(state, holders=holders), [each for each in waiting if each != ticket])
    return replace(change, left=(*change.left, ticket))


def set_limit(state: LimitState, waiting: Sequence[Ticket], override: int) -> LimitChange:
    """Let another number of tickets hold the key; 0 for what the code says. None of the holders is sent away."""
    return promote(replace(state, override=override), waiting)


def ask_again(state: LimitState, waiting: Sequence[Ticket], now_ms: int) -> LimitChange | None:
    """Tell those who have held the key for long once more that they do: one that has no use for it lets go.

    Who was asked is last among the holders from then on, so that all have their turn.

    Returns:
        What becomes of the key; None where nobody holds it or waits, so that its record may go.
    """
    if not state.holders and not waiting:
        return None
    change = promote(state, waiting)
    asked = tuple(each for each in state.holders if drawn_at(each.number) < now_ms - LOOK_MS)[:MOST_ASKED]
    done = frozenset(asked)
    others = tuple(each for each in change.state.holders if each not in done)
    turned = replace(change.state, holders=(*others, *asked))
    return replace(change, state=turned, granted=(*change.granted, *asked))


def promote(state: LimitState, waiting: Sequence[Ticket]) -> LimitChange:
    """Make those who wait holders, the first ones first, as long as there is room."""
    granted = tuple(each for each in waiting if each not in state.holders)[: state.room]
    return LimitChange(
        state=replace(state, holders=(*state.holders, *granted)) if granted else state, granted=granted, left=granted
    )
