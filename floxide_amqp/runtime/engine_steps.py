"""Steps that run no node: what the engine reads in place of a body's result."""

from __future__ import annotations

from contextlib import aclosing

from floxide_amqp.core.decisions import PAGE_SIZE
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.joins import JoinInstance
from floxide_amqp.core.outcomes import JoinsRead, Outcome, PageRead
from floxide_amqp.core.records import InputKind, Routed
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.left_items import read_left
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.items import PAGE


async def perform_own(services: Services, admitted: Admitted) -> Outcome:
    """Read what an item of the engine's own stands for."""
    if admitted.item.input.kind is InputKind.JOINS:
        return await _joins(services, admitted)
    if admitted.item.input.kind is InputKind.SWEEP:
        return await read_left(services, admitted)
    return PageRead(await _page(services, admitted))


async def _page(services: Services, admitted: Admitted) -> tuple[Routed, ...]:
    """Read a page of a large fan-out; empty where another copy of the message has expanded it.

    That copy's commit has taken the page away and raised the item's turn, which the commit to come checks.
    """
    run_id, item = admitted.run.header.run_id, admitted.item
    try:
        return await services.items.page(run_id, item.input.opener, item.input.number)
    except UnreadableRecordError:
        found = (await services.items.find(run_id, (item.item_id,)))[0]
        if found is None or found.turn == admitted.turn:
            raise
        return ()


async def _joins(services: Services, admitted: Admitted) -> JoinsRead:
    """Read which joins of the item's scope wait, if nothing but the item is live there: then no value comes any more.

    Those on the lowest level are resolved first, since others may depend on them, and none of them on another.
    """
    run_id, scope, graph = admitted.run.header.run_id, admitted.item.scope, admitted.run.graph
    live, number = (await services.joins.counts(run_id, (scope,)))[0]
    if live != 1 or not number:
        return JoinsRead()
    waiting = await _unresolved(services, admitted, number)
    if not waiting:
        return JoinsRead(lost=number)
    lowest = min(_level(graph, instance) for instance in waiting)
    due = [instance for instance in waiting if _level(graph, instance) == lowest]
    now = due[:PAGE_SIZE]
    numbers: list[int] = []
    for first in range(0, len(now), PAGE):
        numbers += await services.joins.numbers(run_id, [each.join_id for each in now[first : first + PAGE]])
    return JoinsRead(joins=tuple(zip(now, numbers, strict=True)), has_more=len(due) > len(now))


async def _unresolved(services: Services, admitted: Admitted, number: int) -> list[JoinInstance]:
    """Return so many joins of the item's scope whose items are not there, looked for from the latest back.

    In a loop, those of the iterations before were resolved long since, and are not read again in each.
    """
    run_id, nodes = admitted.run.header.run_id, admitted.run.graph.nodes
    left: list[JoinInstance] = []
    async with aclosing(services.joins.awaited(run_id, admitted.item.scope, least=number)) as pages:
        async for page in pages:
            known = [each for each in page if each.node in nodes]
            found = await services.items.find(run_id, [each.join_id for each in known])
            left += (each for each, item in zip(known, found, strict=True) if item is None)
            if len(left) >= number:
                break
    left.reverse()
    return left


def _level(graph: Graph, instance: JoinInstance) -> int:
    join = graph.nodes[instance.node].join
    return 0 if join is None else join.level
