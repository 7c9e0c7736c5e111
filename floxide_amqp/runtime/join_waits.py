"""What joins of edges wait for: which of their sources have arrived, and which have not.

A join that waits is no item yet: it is looked for in the scopes of the items that are live. All of it is bounded, so
that showing a run costs the same however many joins it has, and however many sources they have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence

from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.joins import EdgeJoin, JoinInstance
from floxide_amqp.core.records import ScopePath, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.views import JoinWaitInfo, WaitInfo
from floxide_amqp.stores.runs import StoredRun

MOST_JOINS = 10
"""Joins of a run that are shown one by one; of the others their number."""

MOST_SCOPES = 20
"""Scopes of live items in which joins are looked for."""

MOST_NAMES = 10
"""Sources of a join that are named, of those that arrived and of those that did not; of the others their number."""

MOST_ARRIVALS = 2_000
"""Arrivals at a join that are looked at; where there are more, it is not said which are missing."""


async def join_waits(services: Services, run: StoredRun, items: Iterable[WorkItem]) -> tuple[WaitInfo, ...]:
    """Return the joins of edges that wait for more arrivals, in the order in which they began to.

    Args:
        services: The process's parts.
        run: The run.
        items: Its live items, or the first of them.

    Raises:
        UnreadableRecordError: A record of a join cannot be read.
    """
    run_id = run.header.run_id
    graph = services.registry.find(run.header.workflow, run.header.version)
    if graph is not None and not graph.joins_wait:
        return ()
    scopes = _scopes_around(items)
    counts = await services.joins.counts(run_id, scopes)
    number = sum(waiting for _, waiting in counts)
    if not number:
        return ()
    found: list[JoinInstance] = []
    for scope, (_, waiting) in zip(scopes, counts, strict=True):
        if waiting > 0 and len(found) < MOST_JOINS:
            found += await _waiting(services, run_id, scope)
    shown = [await _wait_of(services, run_id, graph, each) for each in found[:MOST_JOINS]]
    rest = number - len(shown)
    if rest > 0:
        shown.append(WaitInfo(status=WorkItemStatus.HELD, node="", what=f"what {rest} more joins lack", items=0))
    return tuple(shown)


def _scopes_around(items: Iterable[WorkItem]) -> Sequence[ScopePath]:
    """Return the scopes that some items are in, from the outermost to the innermost."""
    paths = {item.scope[:depth] for item in items for depth in range(len(item.scope) + 1)}
    return sorted({(), *paths}, key=lambda path: (len(path), path))[:MOST_SCOPES]


async def all_waiting(
    services: Services, run_id: RunId, items: Iterable[WorkItem]
) -> AsyncGenerator[tuple[ScopePath, JoinInstance]]:
    """Yield every join of edges at which something waits, with the scopes around it: however many there are.

    Args:
        services: The process's parts.
        run_id: The run.
        items: Its live items.

    Raises:
        UnreadableRecordError: A record of a join cannot be read.
    """
    scopes = sorted({(), *(item.scope[:depth] for item in items for depth in range(len(item.scope) + 1))})
    counts = await services.joins.counts(run_id, scopes)
    for scope, (_, waiting) in zip(scopes, counts, strict=True):
        if waiting > 0:
            async for page in services.joins.awaited(run_id, scope, least=waiting):
                found = await services.items.find(run_id, [each.join_id for each in page])
                for each, item in zip(page, found, strict=True):
                    if item is None:
                        yield scope, each


async def _waiting(services: Services, run_id: RunId, scope: ScopePath) -> list[JoinInstance]:
    """Return the joins of a scope that wait: they began to, and have not become items."""
    begun = await services.joins.awaited_last(run_id, scope)
    found = await services.items.find(run_id, [each.join_id for each in begun])
    return [each for each, item in zip(begun, found, strict=True) if item is None]


async def _wait_of(services: Services, run_id: RunId, graph: Graph | None, instance: JoinInstance) -> WaitInfo:
    positions, number = await services.joins.positions(run_id, instance.join_id, limit=MOST_ARRIVALS)
    node = None if graph is None else graph.nodes.get(instance.node)
    if node is None or node.join is None:
        what = f"more values to arrive at node {instance.node!r}, where {number} did"
        return WaitInfo(status=WorkItemStatus.HELD, node=instance.node, what=what, items=0)
    join = _arrivals(node.join, positions, number)
    what = f"{_lacking(join)} to arrive at node {instance.node!r}, where {_names(join.arrived, join.arrivals)} did"
    return WaitInfo(status=WorkItemStatus.HELD, node=instance.node, what=what, items=0, join=join)


def _arrivals(join: EdgeJoin, positions: Sequence[int], number: int) -> JoinWaitInfo:
    here = set(positions)
    arrived = [source for position, source in enumerate(join.sources) if position in here]
    missing = [source for position, source in enumerate(join.sources) if position not in here]
    if number > len(positions):
        missing = []
    return JoinWaitInfo(
        arrived=tuple(arrived[:MOST_NAMES]), arrivals=number, missing=tuple(missing[:MOST_NAMES]),
        sources=len(join.sources), needed=join.need,
    )  # fmt: skip


def _lacking(join: JoinWaitInfo) -> str:
    names = _names(join.missing, join.sources - join.arrivals)
    lacking = join.needed - join.arrivals
    return names if lacking == join.sources - join.arrivals else f"{lacking} of {names}"


def _names(names: Sequence[str], number: int) -> str:
    """Return names as a list of words, with how many there are besides."""
    rest = [f"{number - len(names)} more"] if number > len(names) else []
    return " and ".join([", ".join(map(repr, names)), *rest] if names else rest)
