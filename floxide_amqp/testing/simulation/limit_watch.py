"""I14, checked after every commit: no concurrency key has more holders than its limit, and who waits for one gets it.

And when all is over nobody holds a key any more, or waits for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.limit_moves import GRANT, LIMIT_PREFIX, WAIT, place_of, ticket_of, waits_for_limit
from floxide_amqp.core.limits import Ticket, number_and_limit
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.run_key_moves import RUN_TICKET, run_ticket
from floxide_amqp.ports.key_value import Key
from floxide_amqp.stores import keys
from floxide_amqp.stores.letters import decode_letter
from floxide_amqp.stores.limit_keys import decode_limit, limit_cell, ticket_in
from floxide_amqp.testing.simulation.mirror import MirroredRun, Place

_QUEUE = keys.queue_of(RunId("")).rpartition(":")[2]
_POSTED = keys.letters_of(RunId("")).rpartition(":")[2]


class LimitWatch:
    """Follows the concurrency keys.

    Args:
        runs: What the store holds of each run.
        violated: Told what does not hold.
    """

    def __init__(self, runs: Mapping[str, MirroredRun], violated: Callable[[str], None]) -> None:
        self._runs = runs
        self._violated = violated
        self.start_over()

    def start_over(self) -> None:
        """Forget everything: what the store holds is told anew."""
        self._holders: dict[str, set[Ticket]] = {}
        self._waiting: dict[str, set[Ticket]] = {}
        self._letters: dict[Place, tuple[str, str, Ticket]] = {}
        self._of_runs: dict[str, str] = {}

    def put(self, key: Key, value: bytes) -> None:
        """A cell was written."""
        if not key.partition.startswith(LIMIT_PREFIX) or key.name != limit_cell(RunId("")).name:
            return
        state = decode_limit(value)
        if len(state.holders) > state.limit:
            self._violated(f"I14: {len(state.holders)} hold{key.partition}, and {state.limit} may")
        self._holders[key.partition] = set(state.holders)

    def entered(self, index: str, entry: str, value: bytes) -> None:
        """An index got an entry."""
        place, kind = _place_and_kind(index)
        if kind == _QUEUE and place.startswith(LIMIT_PREFIX):
            self._waiting.setdefault(place, set()).add(ticket_in(entry))
        elif kind == _QUEUE and entry == RUN_TICKET:
            self._of_runs[place] = value.decode()
        elif kind == _POSTED:
            letter = decode_letter(entry, value)
            if letter.kind in (WAIT, GRANT):
                number, _, item_id = letter.body.decode().rpartition(":")
                is_wait = letter.kind == WAIT
                of = (letter.from_run, letter.to_run) if is_wait else (letter.to_run, letter.from_run)
                ticket = Ticket(number.rpartition(":")[2], WorkItemId(item_id), of[0])
                self._letters[index, entry] = (letter.kind, of[1], ticket)

    def left(self, index: str, entry: str) -> str | None:
        """An index lost an entry: return the run that is to be looked at, if it may have waited for that."""
        place, kind = _place_and_kind(index)
        ticket: Ticket | None = None
        if kind == _QUEUE and place.startswith(LIMIT_PREFIX):
            ticket = ticket_in(entry)
            self._waiting.get(place, set()).discard(ticket)
        elif kind == _POSTED:
            told = self._letters.pop((index, entry), None)
            ticket = None if told is None else told[2]
        run = None if ticket is None else self._runs.get(ticket.run_id)
        if run is None:
            return None
        run.is_touched = True
        return run.run_id

    def is_listed(self, run_id: str, item: WorkItem) -> bool:
        """Whether an item that waits for a key will get it, or learn that it has it."""
        limit_id = waits_for_limit(item.waits_for)
        if limit_id is None:
            return False
        place, ticket = place_of(limit_id), ticket_of(RunId(run_id), item)
        if number_and_limit(item.ticket)[1] != limit_id:  # it waits until its run has the key
            ticket = run_ticket(RunId(run_id), self._of_runs.get(run_id, ""))
        told = {kind for kind, where, whose in self._letters.values() if (where, whose) == (place, ticket)}
        if WAIT in told or ticket in self._waiting.get(place, ()):
            return True
        return GRANT in told and ticket in self._holders.get(place, ())

    def waits_on(self, item: WorkItem, is_away: Callable[[str], bool]) -> bool:
        """Whether an item waits for a key that is away, or that somebody holds who is."""
        limit_id = waits_for_limit(item.waits_for)
        if limit_id is None:
            return False
        place = place_of(limit_id)
        return is_away(place) or any(is_away(ticket.run_id) for ticket in self._holders.get(place, ()))

    def left_over(self) -> list[str]:
        """Return who holds a key or waits for one."""
        return sorted(
            f"{what}{place}: item {ticket.item_id} of run {ticket.run_id}"
            for what, of in (("holds", self._holders), ("waits for", self._waiting))
            for place, tickets in of.items()
            for ticket in tickets
        )


def _place_and_kind(index: str) -> tuple[str, str]:
    """Return the partition and the opener of an index of arrivals."""
    head, _, rest = index.partition(":")
    place, _, kind = rest.rpartition(":")
    return (place, kind) if head == "in" else ("", "")
