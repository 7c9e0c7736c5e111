"""Concurrency keys of whole runs, on the worker's side: a run whose workflow has a limit goes on only with its key.

The first item of a run that comes to a worker draws the run's ticket and asks for the key; so does the first one after
the run was resumed or raised. Where the key has no room, the item is held until the run is told that it has it (see
`floxide_amqp.core.run_key_moves`). A worker remembers in which epochs of which runs it has seen that they have it: it
is given back only when a run is over, which begins another epoch. A run that got the id of a deleted one is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.limits import Concurrency, LimitChange, LimitState, Ticket, key_text, number_and_limit, take
from floxide_amqp.core.priorities import TICKET_PRIORITIES, Priority
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.run_key_moves import draw_run_ticket, needs_run_key, run_ticket, wait_for_run_key
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.execution import USER_ERRORS, as_failure
from floxide_amqp.runtime.key_asking import ask_for_key
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.encoding import decode_payload
from floxide_amqp.stores.sealed_records import start_of
from floxide_amqp.stores.writes import BatchWriter

REMEMBERED: Final = 10_000
"""Runs that a worker remembers to have their keys; of one that it forgets it asks again."""


class RunKeys:
    """Lets items of a run whose workflow limits its runs pass, once the run has its key.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._under_way: dict[tuple[RunId, int, int], None] = {}

    async def enter(
        self, header: RunHeader, epoch: int, item: WorkItem, turn: int, graph: Graph, message: MessageAnchor
    ) -> bool | Exception | None:
        """Say whether an item may go on: not where it waits now until its run has the key.

        Returns:
            Whether it may; what the workflow's function raised in place of the key; None after a conflict.
        """
        limit, place = graph.options.concurrency, (header.run_id, header.created_at_ms, epoch)
        if limit is None or place in self._under_way or not needs_run_key(item):
            return True
        ticket = await self._services.limit_keys.run_ticket(header.run_id)
        if not ticket:
            limit_id = await self._key_of(header, graph, limit)
            if isinstance(limit_id, Exception):
                return limit_id
            drawn = await self._draw(header, epoch, limit_id)
            if drawn is None:
                return None
            ticket = drawn
        if ticket and not await self._take(header, ticket, limit.limit):
            return await self._wait(header, epoch, item, turn, message, ticket, limit.limit)
        while len(self._under_way) >= REMEMBERED:
            del self._under_way[next(iter(self._under_way))]
        self._under_way[place] = None
        return True

    async def _key_of(self, header: RunHeader, graph: Graph, limit: Concurrency) -> str | Exception | None:
        """Return the id of the run's key, None for none, or what the function of the limit raised."""
        services = self._services
        if limit.key is None:
            return f"{limit.name}/"
        input_, _ = start_of(services.sealing, header)
        try:
            value = decode_payload(graph.input, input_)
        except USER_ERRORS:  # its first step will find the same, and not run
            return None
        try:
            text = key_text(limit.name, limit.key(value))
        except USER_ERRORS as error:
            return as_failure(error, graph.start)
        return None if text is None else services.key_names.id_of(services.sealing, limit.name, text)

    async def _draw(self, header: RunHeader, epoch: int, limit_id: str | None) -> str | None:
        """Note a ticket and return it, empty for none; None after a conflict."""
        if limit_id is None:
            return ""
        priority = TICKET_PRIORITIES[Priority.numbered(header.priority)]
        ticket, decision = draw_run_ticket(header, epoch, limit_id=limit_id, priority=priority)
        return None if isinstance(await self._services.commit(_writer(header), decision), Conflict) else ticket

    async def _take(self, header: RunHeader, noted: str, declared: int) -> bool:
        """Take the key, where it has room; return whether the run has it."""
        ticket, limit_id = run_ticket(header.run_id, noted), number_and_limit(noted)[1]

        def taking(state: LimitState, waiting: Sequence[Ticket]) -> LimitChange | None:
            return take(state, waiting, ticket, declared)

        changed = await ask_for_key(self._services, header.run_id, limit_id, taking)
        if changed.letters:
            self._services.on_letters(changed.letters)
        return changed.change is not None

    async def _wait(
        self, header: RunHeader, epoch: int, item: WorkItem, turn: int, message: MessageAnchor, ticket: str,
        declared: int,
    ) -> bool | None:  # fmt: skip
        services = self._services
        decision = wait_for_run_key(
            header, item, turn, epoch, ticket=ticket, anchor=message, worker=services.name,
            now_ms=services.now_ms(header.run_id), declared=declared,
        )  # fmt: skip
        return None if isinstance(await services.commit(_writer(header), decision), Conflict) else False


def _writer(header: RunHeader) -> BatchWriter:
    return BatchWriter(header.run_id, header.created_at_ms, header.workflow, version=header.version)
