"""What somebody does to a run by hand, noted in its audit log: give it its output or a step's, change its context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, cast

from floxide_amqp.core import moves, run_moves
from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.commit_conditions import ContextLengthIs, EpochIs
from floxide_amqp.core.context import delta_of
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.graph import Graph, GraphNode
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.log_changes import AppendDelta
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, ItemInput, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import (
    CodecError,
    InvalidRunStateError,
    PayloadMismatchError,
    PayloadTooLargeError,
    UnknownWorkflowError,
    WorkItemNotFoundError,
)
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.control_actions import Request, control, follow_end
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.payload_limits import check_payload
from floxide_amqp.runtime.resuming import has_been_left_out, refuse_undone, resume_run
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.encoding import encode_payload, pack
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.parked_places import leave_parked
from floxide_amqp.stores.runs import StoredRun

EDITOR: Final = WorkItemId("by hand")
"""What stands in the context's log where a change was made by hand."""

MAX_OUTPUTS: Final = 1_000
"""Outputs that a run can be given by hand."""

STANDING: Final = (RunStatus.PAUSED, RunStatus.FAILED)
"""Runs of which nothing begins meanwhile."""


class NotGiven(Enum):
    """The default of an argument for which None is a value."""

    NOT_GIVEN = "not given"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


@dataclass(frozen=True, slots=True)
class _Found:
    """An item of a run that stands still, and what its workflow says of it."""

    run: StoredRun
    stored: StoredItem
    node: GraphNode


async def retry_run(services: Services, run_id: RunId, request: Request, input: Any = NOT_GIVEN) -> None:
    """Let a failed run go on from what failed, with another input for that if one is given.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: It has not failed, or what it did was undone.
        WorkItemNotFoundError: An input is given, and no item of it has failed.
        CodecError: The input is not of the node's type.
        UnknownWorkflowError: This application lacks the run's workflow, and an input is given.
    """
    while True:
        run = await services.runs.load(run_id)
        refuse_undone(run, "retry")
        if run.state.status is not RunStatus.FAILED:
            raise InvalidRunStateError(run_id=run_id, action="retry", status=run.status.value)
        if input is NOT_GIVEN or run.state.failure is None:
            break
        found = await _find(services, run, run.state.failure.item_id, "retry with another input")
        payload = encoded(services, found.node.input, input, f"The input of node {found.node.name!r}")
        edited = replace(found.stored.item, input=ItemInput(payload=payload), given=None)
        if await _put(services, found, edited):
            break
    await resume_run(
        services, run_id, action="retry", detail="" if input is NOT_GIVEN else "with another input", request=request
    )


async def complete_item(services: Services, run_id: RunId, item_id: WorkItemId, output: Any, request: Request) -> None:
    """Give an item of a paused or failed run its output: once the run is resumed, it goes on from there.

    A body that is at work on an item nobody has claimed is interrupted, and what it comes to is refused.

    Raises:
        RunNotFoundError: There is no such run.
        WorkItemNotFoundError: There is no such item, or it has ended.
        InvalidRunStateError: The run is neither paused nor failed; or a worker has the item.
        CodecError: The output is not of the node's type.
        UnknownWorkflowError: This application lacks the run's workflow.
    """
    while True:
        run = await services.runs.load(run_id)
        found = await _find(services, run, item_id, "complete an item of")
        item, node = found.stored.item, found.node
        payload = encoded(services, node.output, output, f"The output of node {node.name!r}")
        if await _put(services, found, replace(item, given=payload), request.noted(services, "complete_item", item_id)):
            await services.stop_items(run_id, (item_id,))  # its first body may be at work, which claims nothing
            return


async def complete_run(services: Services, run_id: RunId, output: Any, request: Request) -> None:
    """Complete a run with an output, whatever its items came to; what is in flight is interrupted.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: It is completed or cancelled, or what it did is or was undone.
        CodecError: The output is not of the workflow's type.
        UnknownWorkflowError: This application lacks the run's workflow.
    """
    graph = _graph_of(services, await services.runs.load(run_id))
    is_list = graph.many_outputs and isinstance(output, list | tuple)
    values: list[Any] = list(cast("Sequence[Any]", output)) if is_list else [output]
    if len(values) > MAX_OUTPUTS:
        raise CodecError(f"A run can be given {MAX_OUTPUTS} outputs by hand, and these are {len(values)}.")
    payloads = [encoded(services, graph.output, value, f"The output of run {run_id!r}") for value in values]

    def decide(run: StoredRun) -> Decision | None:
        refuse_undone(run, "complete")
        state = run.state
        if state.status is not RunStatus.FAILED and (state.status.is_terminal or state.ends_as is not None):
            raise InvalidRunStateError(run_id=run_id, action="complete", status=state.status.value)
        return run_moves.complete_run(run.header, state, run.epoch, services.now_ms(run_id), payloads, request.reason)

    done = await control(services, run_id, decide, request.noted(services, "complete"))
    await follow_end(services, done, ControlKind.STOP)


async def edit_context(
    services: Services, graph: Graph, run_id: RunId, edit: Callable[[Any], object], request: Request
) -> None:
    """Change the context of a paused or failed run, as one of its nodes would.

    Args:
        services: The process's parts.
        graph: The run's workflow.
        run_id: The run.
        edit: Changes the context it is given; called again if a step in flight has changed it meanwhile.
        request: Who, and why.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: It is neither paused nor failed.
        ContextChangeError: A change that no node could make, such as of a fixed field.
    """
    while True:
        run = await services.runs.load(run_id)
        _check_stands(run, "edit the context of")
        state, position = await services.contexts.load(run.header, graph.context)
        view = state.view(f"{EDITOR}:{position}")
        edit(view)
        delta = delta_of(view)
        if delta is None:
            return
        packed = pack(delta)
        check_payload(packed, services.limits, f"The change of the context of run {run_id!r}")
        noted = request.noted(services, "edit_context", ", ".join(sorted(delta)))
        decision = Decision(
            conditions=(EpochIs(run.epoch), ContextLengthIs(position)), changes=(AppendDelta(EDITOR, packed), noted)
        )
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            return


async def _find(services: Services, run: StoredRun, item_id: WorkItemId, action: str) -> _Found:
    run_id = run.header.run_id
    _check_stands(run, action)
    refuse_undone(run, action)
    stored = (await services.items.find(run_id, (item_id,)))[0]
    is_open = stored is not None and (
        stored.item.status not in (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED) or not stored.item.successors
    )
    graph = _graph_of(services, run)
    if stored is None or not is_open or stored.item.status is WorkItemStatus.COMPLETED:
        raise WorkItemNotFoundError(run_id=run_id, item_id=item_id)
    item = stored.item
    if item.node not in graph.nodes or item.input.kind in (*OF_THE_ENGINE, InputKind.UNDO):
        raise WorkItemNotFoundError(run_id=run_id, item_id=item_id)
    is_claimed = item.status is WorkItemStatus.IN_PROGRESS and run.state.status is RunStatus.PAUSED
    is_busy = is_claimed or is_at_work(item)
    if is_busy or await has_been_left_out(services, run_id, item):
        raise InvalidRunStateError(
            run_id=run_id, action=action, status=f"{run.status.value}, and item {item_id!r} is {item.status.value}",
            cure="Wait until its worker has ended it." if is_busy else "Its fan-out has ended without it.",
        )  # fmt: skip
    return _Found(run, stored, graph.nodes[item.node])


async def _put(services: Services, found: _Found, edited: WorkItem, *more: Any) -> bool:
    """Make an item pending as it was edited; return False if somebody else was faster."""
    run = found.run
    run_id = run.header.run_id
    forget = leave_parked(found.stored.item, run.header.workflow, run.header.version)
    decision = moves.reset(
        edited, found.stored.turn, run.state, run.epoch, services.now_ms(run_id), services.name, run_id=run_id,
        forget=forget, dropped=found.stored.item.input.payload,
    )  # fmt: skip
    decision = replace(decision, changes=(*decision.changes, *more))
    return not isinstance(await services.commit(run.writer, decision), Conflict)


def _check_stands(run: StoredRun, action: str) -> None:
    if run.state.status not in STANDING:
        raise InvalidRunStateError(
            run_id=run.header.run_id, action=action, status=run.status.value, cure="Pause it first (`floxide pause`)."
        )  # fmt: skip


def _graph_of(services: Services, run: StoredRun) -> Graph:
    header = run.header
    graph = services.registry.find(header.workflow, header.version)
    if graph is None:
        raise UnknownWorkflowError(workflow=f"{header.workflow}@{header.version}", known=services.registry.names())
    return graph


def encoded(services: Services, kind: PayloadType, value: Any, what: str) -> bytes:
    """Return a value as it is stored; an error names what it is.

    Raises:
        CodecError: It is not of its type, or too large.
    """
    try:
        payload = encode_payload(kind, value)
    except (PayloadMismatchError, PayloadTooLargeError) as error:
        raise error.at(what) from error
    check_payload(payload, services.limits, what)
    return payload
