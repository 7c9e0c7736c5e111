"""Raising a run to a newer version of its workflow: read it, let its `migrate` change it, check, commit once.

What the commit checks is every live item's turn, the run's epoch and the length of its context's log: so what was read
is what is changed. It raises the epoch, so a step that an older worker still runs cannot commit any more; it runs again
with the new version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, cast

from floxide_amqp.core.agreement import why_not_raised
from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.changes import MoveContext
from floxide_amqp.core.context import Context, NestedField, NoContext
from floxide_amqp.core.descriptions import ContextDescription, Description, describe_graph
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.migration import RunToMigrate, StepToMigrate
from floxide_amqp.core.place_changes import SetTimer
from floxide_amqp.core.records import InputKind, RunHeader, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.version_moves import Moved, raise_version
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import MigrationError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.begun_before import Raising, check_begun
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.kept_letters import kept_letters
from floxide_amqp.runtime.payload_limits import check_payload
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.contexts import LoadedContext
from floxide_amqp.stores.encoding import encode_payload, pack, unpack
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed_places import snapshot_place
from floxide_amqp.stores.sealed_records import input_of, start_of
from floxide_amqp.stores.writes import STATUS_LETTERS

_log = get_logger("floxide_amqp.versions")

MAX_LIVE: Final = 1_000
"""Live items of a run that is raised: they are checked, and written, in one commit."""

AnyWorkflow = type[WorkflowDefinition[Any, Any, Any]]


class Raised(Enum):
    """What came of raising a run."""

    DONE = "done"
    LATER = "later"
    """A worker has claimed steps of it: they end first."""
    OTHERWISE = "otherwise"
    """Somebody else was faster, with this or with something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as it would go on with the newer version; nothing of it is written yet."""

    run: StoredRun
    header: RunHeader
    items: Sequence[Moved]
    loaded: LoadedContext | None
    context: MoveContext | None
    changed: Sequence[str]


async def upgrade(services: Services, run_id: RunId, workflow: AnyWorkflow) -> Raised:
    """Raise a run to a version of its workflow.

    Raises:
        MigrationError: It cannot be raised; names the step or field and the cure.
        Exception: Whatever the workflow's `migrate` raises.
        StoreError: It cannot be read.
    """
    run = await services.runs.load(run_id)
    if run.state.status.is_terminal or run.header.version == workflow.graph.version:
        return Raised.OTHERWISE
    _refuse_many(run, run.counts.live + run.counts.held)
    entries = await services.items.live_entries(run_id, limit=MAX_LIVE + 1)
    claimed = [item_id for item_id, letters in entries if letters == STATUS_LETTERS[WorkItemStatus.IN_PROGRESS]]
    if await _is_to_end(services, run_id, claimed):
        return Raised.LATER
    listed = await services.items.listed(run_id, entries)
    if listed is None:
        return Raised.OTHERWISE  # what one of them has put meanwhile is not on the list
    live = [each for each in listed if each.item.status is not WorkItemStatus.IN_PROGRESS]
    plan = await plan_upgrade(services, run, live, workflow)
    old, new = run.header.version, workflow.graph.version
    decision = raise_version(
        run.header, run.state, run.epoch, plan.header, plan.items, now_ms=services.now_ms(run_id),
        publisher=services.name, context_length=None if plan.loaded is None else plan.loaded.position,
        context=plan.context,
    )  # fmt: skip
    noted = Request().noted(services, "upgrade", f"version {old} to {new}: {', '.join(plan.changed) or 'as it was'}")
    decision = replace(decision, changes=(*decision.changes, noted))
    if isinstance(await services.commit(run.writer, decision), Conflict):
        return Raised.OTHERWISE
    services.cache.forget(run_id)
    _log.info("run.upgraded", run_id=run_id, workflow=run.header.workflow, old=old, new=new, items=len(plan.items))
    for change in decision.changes:
        if isinstance(change, SetTimer):
            services.on_timer(change.timer)
    await publish(services, plan.header, decision.effects.publish)
    return Raised.DONE


async def _is_to_end(services: Services, run_id: RunId, claimed: Sequence[WorkItemId]) -> bool:
    """Whether one of a run's claimed steps is to end before the run is raised.

    One in a fan-out that was closed cannot commit any more: what the newer version has to go on with is the very item
    that cancels it, once its body has ended where that may have to be undone.
    """
    if not claimed:
        return False
    items = [each.item for each in await services.items.find(run_id, claimed) if each is not None]
    closed = await services.items.closed(run_id, sorted({scope for item in items for scope in item.scope}))
    return any(is_at_work(item) or closed.isdisjoint(item.scope) for item in items)


async def plan_upgrade(services: Services, run: StoredRun, live: Sequence[StoredItem], workflow: AnyWorkflow) -> Plan:
    """Return how a run would go on with a newer version; nothing is written.

    Args:
        services: The process's parts.
        run: The run.
        live: Its live items.
        workflow: The newer version.

    Raises:
        MigrationError: It cannot be raised.
        Exception: Whatever the workflow's `migrate` raises.
    """
    graph, header, run_id = workflow.graph, run.header, run.header.run_id
    _refuse_many(run, len(live))
    old = await services.versions.find(header.workflow, header.version)
    before = workflow.old_contexts.get(header.version, graph.context)
    _check_context_class(old, before, graph, header)
    loaded = None if before is NoContext else await services.contexts.peek(header, before)
    steps = {each.item.item_id: _step(services, run_id, each.item) for each in live if _has_input(each.item)}
    context = {} if loaded is None else loaded.state.to_plain()
    paper = RunToMigrate(run_id, header.version, tuple(steps.values()), context)
    workflow.migrate(paper)
    raising = Raising(run_id, header.version, old, graph, describe_graph(graph))
    letters = await kept_letters(services, run_id, live)
    items = [
        Moved(
            each.item, each.turn, _after(services, header, raising, each.item, steps.get(each.item.item_id)),
            letters.get(each.item.item_id),
        )
        for each in live
    ]  # fmt: skip
    await check_begun(services, raising, items)
    new_context = pack(paper.context_for(graph.context))
    check_payload(new_context, services.limits, f"The context of run {run_id!r}")
    input_, _ = start_of(services.sealing, header)
    raised = replace(header, version=graph.version, input=input_, context=new_context)
    changed = [step.shown for step in steps.values() if step.is_changed]
    changed += ["context"] if paper.is_context_changed else []
    return Plan(
        run=run, header=raised, items=items, loaded=loaded, changed=changed,
        context=_moved_context(services, run_id, loaded, new_context),
    )  # fmt: skip


def _moved_context(
    services: Services, run_id: RunId, loaded: LoadedContext | None, context: bytes
) -> MoveContext | None:
    if loaded is None or not loaded.position:
        return None  # what the header says is all there is
    sealed = services.sealing.seal(context, snapshot_place(run_id, loaded.position, 0))
    return MoveContext(loaded.position, sealed, loaded.snapshots.segments)


def _check_context_class(old: Description | None, before: type[Context], graph: Graph, header: RunHeader) -> None:
    """A field that only the older version's context has would be lost without a word."""
    if old is None or before is not graph.context:
        return
    gone = _gone(old.context, graph.context, "")
    if gone:
        raise MigrationError(
            problem=f"{graph.context.__name__} has no {', '.join(map(repr, gone))} any more",
            cure=f"say which class it was, old_contexts = {{{header.version!r}: ...}}, and take it out in migrate",
        )


def _gone(old: Mapping[str, ContextDescription], kind: type[Context], path: str) -> list[str]:
    """Return the fields that a context had and has no more, those of contexts inside it included."""
    fields, gone = kind.__context_fields__, list[str]()
    for name, each in old.items():
        field = fields.get(name)
        if field is None:
            gone.append(f"{path}{name}")
        elif isinstance(field, NestedField):
            gone += _gone(each.fields, field.context, f"{path}{name}.")
    return gone


def _refuse_many(run: StoredRun, live: int) -> None:
    if live > MAX_LIVE:
        raise MigrationError(
            problem=f"it has more than {MAX_LIVE} steps that have not ended",
            cure=f"let a worker of version {run.header.version} bring it on first",
        )


def _has_input(item: WorkItem) -> bool:
    return item.input.kind is InputKind.PAYLOAD and bool(item.input.payload)


def _step(services: Services, run_id: RunId, item: WorkItem) -> StepToMigrate:
    tag, plain = _unpacked(input_of(services.sealing, run_id, item))
    return StepToMigrate(item.item_id, item.node, tag, plain)


def _unpacked(payload: bytes) -> tuple[str, object]:
    parts = unpack(payload)
    if isinstance(parts, list | tuple):
        tag, *rest = cast("list[object]", parts) or [None]
        if isinstance(tag, str) and len(rest) == 1:
            return tag, rest[0]
    raise MigrationError(problem="an input is stored in another form", cure="use a newer release of floxide_amqp")


def _after(
    services: Services, header: RunHeader, raising: Raising, item: WorkItem, step: StepToMigrate | None
) -> WorkItem:
    """Return an item as it goes on with the newer version.

    Raises:
        MigrationError: It cannot.
    """
    graph, name = raising.graph, item.node if step is None else step.node
    if name not in graph.nodes:
        raise MigrationError(
            problem=f"version {graph.version} has no node {name!r}", cure="let migrate move its steps to another one"
        )
    had_joins = raising.old is not None and "has_joins" in raising.old.flags
    if step is None or item.scope or graph.has_joins or had_joins:
        _check_structure(raising, item, name)
    if step is None:
        return item
    node = graph.nodes[name]
    value = step.value_for(node.input)
    queue = graph.queue_of(name, header)
    if not step.is_changed:
        return item if item.queue == queue else replace(item, queue=queue)
    if item.begun and name != item.node:
        raise MigrationError(
            problem=f"a step of node {item.node!r} may have run, and is to be undone if the run fails",
            cure="let it stay at its node",
        )
    payload = encode_payload(node.input, value)
    check_payload(payload, services.limits, f"The input of node {name!r}")
    return replace(item, node=name, queue=queue, input=replace(item.input, payload=payload))


def _check_structure(raising: Raising, item: WorkItem, name: str) -> None:
    """What a join waits for was counted by the older version's graph: there the new one must be the same.

    Raises:
        MigrationError: It is not, or nothing is known of the older version.
    """
    kind, old = item.input.kind, raising.old
    if kind is InputKind.UNDO:
        return
    problem: str | None = "nothing is known any more of the version it has"
    if old is not None:
        problem = why_not_raised(
            old, raising.new, item.node, len(item.scope),
            is_gathering=kind in (InputKind.ARRIVALS, InputKind.FOLD), is_routed=kind is InputKind.PAGE,
        )  # fmt: skip
        problem = problem if problem is not None or name == item.node else "it would be at another node"
    if problem is not None:
        raise MigrationError(
            problem=f"a step of node {item.node!r} belongs to a join, and {problem}",
            cure="let a worker of its version bring it on first",
        )
