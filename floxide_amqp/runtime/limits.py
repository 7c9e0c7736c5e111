"""Concurrency keys, on the worker's side: a claimed step takes the key of its node, or waits for it in the store.

The claim notes a ticket (see `floxide_amqp.core.limit_moves`) before anything is asked of the key. Where the key has
room the step goes on at once; else the item is held, its message is acknowledged, and it costs nobody anything until
the key is granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from floxide_amqp.core import moves
from floxide_amqp.core.limit_moves import release_tickets, ticket_of, wait_for_key
from floxide_amqp.core.limits import Concurrency, LimitChange, LimitState, Ticket, key_text, number_and_limit, take
from floxide_amqp.core.rates import RateLimit
from floxide_amqp.core.run_key_moves import RUN_TICKET
from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.anchorage import Anchorage
from floxide_amqp.runtime.execution import USER_ERRORS, as_failure
from floxide_amqp.runtime.key_asking import ask_for_key
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.steps import input_value


async def limit_of(services: Services, admitted: Admitted) -> str | Exception | None:
    """Return the id of the key that a step needs, None where it needs none, or what its node's function raised."""
    concurrency = admitted.run.graph.nodes[admitted.item.node].options.concurrency
    return None if concurrency is None else await key_of(services, admitted, concurrency)


async def key_of(services: Services, admitted: Admitted, limit: Concurrency | RateLimit) -> str | Exception | None:
    """Return the id of the key of a limit that a step belongs to, None for none, or what its function raised."""
    node = admitted.run.graph.nodes[admitted.item.node]
    if limit.key is None:
        return f"{limit.name}/"
    try:
        value = await input_value(services, admitted, node)
    except StoreError:
        raise
    except USER_ERRORS:  # the step will find the same, and not run
        return None
    try:
        text = key_text(limit.name, limit.key(value))
    except USER_ERRORS as error:
        return as_failure(error, node.name)
    return None if text is None else services.key_names.id_of(services.sealing, limit.name, text)


class Keys:
    """Takes the keys of steps.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def take(self, admitted: Admitted, anchorage: Anchorage) -> Admitted | None:
        """Take the key that a claimed step has a ticket for; None where it waits for that now, or was moved on."""
        run_id, item = admitted.run.header.run_id, admitted.item
        options = admitted.run.graph.nodes[item.node].options
        concurrency = options.concurrency
        if concurrency is None:  # the code has changed; what the item holds is given back when it ends
            return admitted
        ticket, limit = ticket_of(run_id, item), concurrency.limit
        _, limit_id = number_and_limit(item.ticket)

        def taking(state: LimitState, waiting: Sequence[Ticket]) -> LimitChange | None:
            return take(state, waiting, ticket, limit)

        changed = await ask_for_key(self._services, run_id, limit_id, taking)
        if changed.change is None:
            await self._wait(admitted, anchorage, limit)
            return None
        if changed.letters:
            self._services.on_letters(changed.letters)
        if options.rate is not None or not options.notes_begin:
            return admitted
        return await begin_body(self._services, admitted, anchorage)

    async def _wait(self, admitted: Admitted, anchorage: Anchorage, limit: int) -> None:
        services, run_id = self._services, admitted.run.header.run_id
        await self._give_back_as_run(admitted, number_and_limit(admitted.item.ticket)[1])
        decision = wait_for_key(
            admitted.item, admitted.turn, admitted.epoch, run_id, anchor=anchorage.anchor, worker=services.name,
            now_ms=services.now_ms(run_id), declared=limit,
        )  # fmt: skip
        if isinstance(await services.commit(admitted.run.writer, decision), Conflict):
            anchorage.must_release = True

    async def _give_back_as_run(self, admitted: Admitted, limit_id: str) -> None:
        """Give back the key that a step is about to wait for, where an earlier release had it limit whole runs."""
        services, run_id = self._services, admitted.run.header.run_id
        ticket = await services.limit_keys.run_ticket(run_id)
        if number_and_limit(ticket)[1] == limit_id:
            decision = release_tickets([(RUN_TICKET, ticket)], run_id, admitted.epoch, services.now_ms(run_id))
            await services.commit(admitted.run.writer, decision)  # a conflict, and the step does not wait either


async def begin_body(services: Services, admitted: Admitted, anchorage: Anchorage) -> Admitted | None:
    """Note that the body may run from now on, of a node where that matters: the claim has not said so."""
    item, graph = admitted.item, admitted.run.graph
    decision = moves.claim(
        item, admitted.turn, admitted.epoch, services.name, at_most_once=graph.nodes[item.node].options.at_most_once,
        spared=item.spared and admitted.is_suspect, nodes=graph.nodes,
        scopes=item.scope if graph.closes_early else (),
    )  # fmt: skip
    if isinstance(await services.commit(admitted.run.writer, decision), Conflict):
        anchorage.must_release = True
        return None
    return replace(admitted, item=decision.effects.keep or item, turn=admitted.turn + 1)
