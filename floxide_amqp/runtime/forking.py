"""Forking: a new run that begins with an item of another run's past, with that run's context as it was then.

What ran beside the item is not repeated. Where the item was in a fan-out, the new run has that fan-out with this one
element at work, and what had arrived from the others; so their join runs again as well, with a new value for this one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any, Final

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.changes import Arrive, Change, CountScope, OpenScope
from floxide_amqp.core.compensation import hook_of
from floxide_amqp.core.context import Context, NoContext, context_to_plain
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.graph import Graph, GraphNode
from floxide_amqp.core.ids import RunId, WorkItemId, derive_item_id
from floxide_amqp.core.joins_beside import join_beside
from floxide_amqp.core.kin import ParentLink
from floxide_amqp.core.log_records import HistoryEntry
from floxide_amqp.core.records import InputKind, ItemInput, Order, RunHeader, WorkItem
from floxide_amqp.core.run_ids import check_run_id
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import ForkError, RunConflictError
from floxide_amqp.runtime import starting
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.by_hand import NOT_GIVEN, encoded
from floxide_amqp.runtime.cache import CachedRun
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.steps import input_value
from floxide_amqp.stores.encoding import pack
from floxide_amqp.stores.items import PAGE
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed_records import start_of

FORKABLE: Final = (InputKind.PAYLOAD, InputKind.ARRIVALS, InputKind.JOIN)
"""Inputs that an item can begin with once more."""

MAX_ARRIVALS: Final = 10_000
"""Values of other elements that a fork takes over, with its first commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """A run to be forked.

    Attributes:
        input: Another input for the item; `NOT_GIVEN` for the one it had.
        context: Another context; None for the one as of then.
        reply_to: Routing key of the client that waits for the new run's end.
    """

    run_id: RunId
    item_id: WorkItemId
    new_run_id: RunId
    input: Any = NOT_GIVEN
    context: Context | None = None
    reply_to: str = ""
    request: Request


async def fork_run(services: Services, graph: Graph, asked: ForkRequest) -> None:
    """Start a run that begins with an item of another one; see `Steering.fork`.

    Raises:
        RunNotFoundError: There is no such run.
        ForkError: No run can begin with this item; the message says why, and with which one can.
        RunConflictError: A run with the new id was started with something else.
    """
    source = await services.runs.find_with_attributes(asked.run_id)
    run = await services.runs.load(asked.run_id) if source is None else source[0]
    attributes: Attributes = {} if source is None else source[1].values
    check_run_id(asked.new_run_id)
    entry, item = await _past(services, run, asked)
    node = graph.nodes.get(item.node)
    if node is None or item.input.kind not in FORKABLE:
        raise _refused(asked, "it is the engine's own", "Fork from the item before it.")
    _check_joins(graph, item, asked)
    payload = await _input(services, run, graph, node, item, asked)
    context = await _context(services, run, graph, entry, asked)
    header, first = _begun_anew(services, run, graph, item, payload, context, asked)
    scopes = [change async for change in _scopes(services, item, asked)]
    request = starting.StartRequest(
        header=header, item=first, attributes=attributes, hook=hook_of(graph),
        more=(*scopes, asked.request.noted(services, "fork", f"of run {asked.run_id}, item {asked.item_id}")),
    )  # fmt: skip
    if services.registry.has(graph.workflow, graph.version):
        await services.told_versions.tell(graph, [asked.new_run_id])
    await starting.store_all(services, graph, [request])
    stored = await services.runs.load(asked.new_run_id)
    if stored.header.forked_from != header.forked_from:
        raise RunConflictError(run_id=asked.new_run_id, differs="item of another run")


def _begun_anew(
    services: Services, run: StoredRun, graph: Graph, item: WorkItem, payload: bytes, context: bytes, asked: ForkRequest
) -> tuple[RunHeader, WorkItem]:
    run_input, _ = start_of(services.sealing, run.header)
    now, timeout = services.now_ms(asked.new_run_id), graph.options.timeout
    origin = ParentLink(asked.run_id, asked.item_id)
    item_id = derive_item_id(asked.new_run_id, f"{asked.run_id}:{asked.item_id}", "fork")
    header = replace(
        run.header, run_id=asked.new_run_id, input=run_input, context=context, created_at_ms=now,
        input_digest=starting.digest_of(services, graph, run_input, context),
        deadline_ms=None if timeout is None else now + round(timeout.total_seconds() * 1000),
        reply_to=asked.reply_to, start_item=item_id, parent=None, starts_at_ms=0, forked_from=origin,
    )  # fmt: skip
    first = WorkItem(
        item_id=item_id, node=item.node, queue=graph.queue_of(item.node, header),
        status=WorkItemStatus.PENDING,
        input=ItemInput(payload=payload), scope=item.scope, order=item.order, loops=item.loops,
        failure=_plain(item.failure),
    )  # fmt: skip
    return header, first


async def _past(services: Services, run: StoredRun, asked: ForkRequest) -> tuple[HistoryEntry | None, WorkItem]:
    """Return an item that has ended with its line of the history, or the one with which the run failed."""
    found = (await services.items.find(asked.run_id, (asked.item_id,)))[0]
    failed = run.state.failure is not None and run.state.failure.item_id == asked.item_id
    if found is None or not (found.item.status in (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED) or failed):
        problem = "there is no such item" if found is None else f"it is {found.item.status.value}"
        raise _refused(asked, problem, "Fork from one that has ended: `floxide items` lists them.")
    start = 0
    while page := await services.items.history(asked.run_id, start=start, limit=PAGE):
        for entry in page:
            if entry.item_id == asked.item_id:
                return entry, found.item
        start += len(page)
    return None, found.item


async def _input(
    services: Services, run: StoredRun, graph: Graph, node: GraphNode, item: WorkItem, asked: ForkRequest
) -> bytes:
    value = asked.input
    if value is NOT_GIVEN:
        if item.input.kind is InputKind.PAYLOAD and not item.input.payload:
            raise _refused(
                asked, "its input was not kept", "Give one (input=…), or keep them: Retention(keep_inputs=True)."
            )
        cached = CachedRun(run.header, graph, services.sealing)
        admitted = Admitted(run=cached, state=run.state, epoch=run.epoch, item=item, turn=0, scope=None)
        value = await input_value(services, admitted, node)
    return encoded(services, node.input, value, f"The input of node {node.name!r}")


async def _context(
    services: Services, run: StoredRun, graph: Graph, entry: HistoryEntry | None, asked: ForkRequest
) -> bytes:
    """Return the context as the item's body saw it, packed.

    Raises:
        ForkError: Nobody knows it any more.
    """
    if asked.context is not None:
        return pack(context_to_plain(asked.context))
    if graph.context is NoContext:
        return pack(context_to_plain(NoContext()))
    if entry is None:  # it failed, and its run with it: the context is as its last attempt saw it, or newer
        state, _ = await services.contexts.load(run.header, graph.context)
        return pack(state.to_plain())
    cure = "Fork from a later item, or give the context (context=…)."
    if entry.context_length < 0:
        raise _refused(asked, "an older release did not note what the context was then", cure)
    found = await services.contexts.read_at(run.header, graph.context, entry.context_length)
    if isinstance(found, int):
        problem = f"the context as of then (change {entry.context_length}) is gone: the log begins at change {found}"
        raise _refused(asked, problem, cure)
    return pack(found.to_plain())


def _check_joins(graph: Graph, item: WorkItem, asked: ForkRequest) -> None:
    """Refuse to begin where a join of edges would wait for what came from beside the item."""
    if not graph.has_joins:
        return
    if item.scope:
        raise _refused(asked, "it is in a fan-out of a graph with joins of edges", _FROM_OPENER)
    beside = join_beside(graph, item.node)
    if beside is not None:
        problem = f"{beside!r} joins what comes from it with what came from beside it"
        raise _refused(
            asked, problem, f"Fork from an item that all ways to {beside!r} lead through, or from {beside!r}."
        )


async def _scopes(services: Services, item: WorkItem, asked: ForkRequest) -> AsyncGenerator[Change]:
    """The fan-outs around the item, with what had arrived from elements beside it."""
    taken = 0
    for depth, scope_id in enumerate(item.scope):
        scope = await services.items.scope(asked.run_id, scope_id)
        if scope.then.input.kind is not InputKind.ARRIVALS:
            raise _refused(asked, "its fan-out goes in waves, or is folded", _FROM_OPENER)
        path = item.scope[: depth + 1]
        yield OpenScope(replace(scope, then=replace(scope.then, failure=_plain(scope.then.failure))))
        yield CountScope(path, 1)
        opener = WorkItemId(scope_id.partition(".")[0])
        own = item.order[: len(scope.then.order) + 1]  # of everything that came from its own element
        after = ""
        while page := await services.runs.arrivals(asked.run_id, opener, after=after):
            after, taken = page[-1][0], taken + len(page)
            if taken > MAX_ARRIVALS:
                raise _refused(asked, f"more than {MAX_ARRIVALS} values arrived beside it", _FROM_OPENER)
            for name, payload in page:
                order, arrived = _arrival(name)
                if order[: len(own)] != own:
                    yield Arrive(opener, order, arrived, payload)


def _arrival(entry: str) -> tuple[Order, WorkItemId]:
    """Return fan-out order and item of an arrival's entry."""
    order, _, item_id = entry.partition("~")
    return tuple([int(order[n : n + 8], 16) for n in range(0, len(order), 8)]), WorkItemId(item_id)


def _plain(failure: FailureInfo | None) -> FailureInfo | None:
    """Return why a branch runs with its text as people see it: sealed, it belongs to the other run."""
    return None if failure is None else replace(failure, message=f"{failure.message}")


_FROM_OPENER: Final = "Fork from the item that opened the fan-out."


def _refused(asked: ForkRequest, problem: str, cure: str) -> ForkError:
    return ForkError(run_id=asked.run_id, item_id=asked.item_id, problem=problem, cure=cure)
