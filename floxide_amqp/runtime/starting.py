"""Starting runs: ids, digests, the first commit, the first message. Idempotent by run id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final

from floxide_amqp.core import run_moves
from floxide_amqp.core.attribute_moves import started_with
from floxide_amqp.core.attributes import Attributes, AttributeValue, checked_attributes
from floxide_amqp.core.changes import Change
from floxide_amqp.core.compensation import hook_of
from floxide_amqp.core.context import Context
from floxide_amqp.core.decisions import Outgoing
from floxide_amqp.core.fast_dataclasses import dataclass, replace
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, derive_item_id
from floxide_amqp.core.instants import at
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.records import Compensable, ItemInput, RunHeader, WorkItem
from floxide_amqp.core.run_ids import check_run_id
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import (
    DefinitionError,
    PayloadMismatchError,
    PayloadTooLargeError,
    RunConflictError,
    RunDeletedError,
    StoreError,
    UnknownKeyError,
    UnreadableRecordError,
)
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.initial_context import initial_context
from floxide_amqp.runtime.interceptors import StartCall, chain_start
from floxide_amqp.runtime.payload_limits import check_payload
from floxide_amqp.runtime.publishing import publish_many
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.start_times import AT_ONCE, StartTimes
from floxide_amqp.runtime.waits import its_start
from floxide_amqp.stores.encoding import encode_payload
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed_records import start_of
from floxide_amqp.stores.writes import BatchWriter

REFUSED: Final = (RunConflictError, RunDeletedError)
"""Errors of one start that keep no other one from its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A run to be started: where it is going to be stored, its first item, and what it may be found by.

    Attributes:
        hook: What stands for the node that runs first, should the run be cancelled; None where there is none.
        more: What is written with its first item.
        is_claimed: Whether a key has decided which run it is: a run with this id is the same, whatever it began with.
    """

    header: RunHeader
    item: WorkItem
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    hook: Compensable | None = None
    more: tuple[Change, ...] = ()
    is_claimed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedStart:
    """What a run is started with, checked and encoded: all that is kept of it until it is stored (`request_of`).

    Attributes:
        payload: Its input, encoded.
        state: Its initial context, encoded.
        attributes: What it may be found by; None for nothing.
    """

    run_id: RunId
    payload: bytes
    state: bytes
    attributes: Attributes | None = None
    times: StartTimes = AT_ONCE
    priority: Priority = Priority.NORMAL


def prepare(
    services: Services, graph: Graph, input_: Any, context: Context | None, run_id: RunId, reply_to: str,
    *, attributes: Attributes | None = None, priority: Priority = Priority.NORMAL,
) -> StartRequest:  # fmt: skip
    """Return the header and the first item of a run that begins at once; nothing is stored yet.

    Raises:
        InvalidRunIdError, CodecError, DefinitionError: As `check_start`.
    """
    start = check_start(services, graph, input_, context, run_id, attributes=attributes, priority=priority)
    return request_of(services, graph, start, reply_to)


def check_start(
    services: Services, graph: Graph, input_: Any, context: Context | None, run_id: RunId,
    *, attributes: Attributes | None = None, times: StartTimes = AT_ONCE,
    priority: Priority = Priority.NORMAL,
) -> CheckedStart:  # fmt: skip
    """Check what a run is to be started with, and encode it.

    Args:
        services: The process's parts.
        graph: The workflow, compiled.
        input_: Its input.
        context: Its initial context; None where every field has a default.
        run_id: Its id.
        attributes: What it may be found by.
        times: When it begins, and how long it may take.
        priority: The level of its steps.

    Raises:
        InvalidRunIdError: The id cannot be one.
        CodecError: The input is not of the workflow's input type, or an attribute cannot be one.
        DefinitionError: The context is missing or of another class, or its runs have no priorities.
    """
    check_run_id(run_id)
    if priority is not Priority.NORMAL and not graph.options.priorities:
        raise DefinitionError(
            f"start(..., priority={priority.name}): the workers of workflow {graph.workflow!r} serve one level alone. "
            f"Let them serve all: class {graph.workflow}(Workflow[...], priorities=True)."
        )
    payload, state = encoded_start(services, graph, input_, context)
    return CheckedStart(
        run_id=run_id, payload=payload, state=state, times=times, priority=priority,
        attributes=checked_attributes(attributes) if attributes else None,
    )  # fmt: skip


def request_of(services: Services, graph: Graph, start: CheckedStart, reply_to: str) -> StartRequest:
    """Return the header and the first item of a run, which is there from now on; nothing is stored yet.

    Args:
        services: The process's parts.
        graph: The workflow, compiled.
        start: What it is started with.
        reply_to: Where its end is told.
    """
    run_id, payload, times, now = start.run_id, start.payload, start.times, services.now_ms(start.run_id)
    timeout, starts_at_ms = times.longest(graph.options.timeout), times.begins_at_ms(now)
    start_item = derive_item_id(run_id, "", "start")
    header = RunHeader(
        run_id=run_id, workflow=graph.workflow, version=graph.version, input=payload,
        input_digest=digest_of(services, graph, payload, start.state), context=start.state,
        created_at_ms=now,
        deadline_ms=None if timeout is None else (starts_at_ms or now) + round(timeout.total_seconds() * 1000),
        reply_to=reply_to, start_item=start_item, starts_at_ms=starts_at_ms, priority=start.priority.number,
    )  # fmt: skip
    item = WorkItem(
        item_id=start_item, node=graph.start, queue=graph.queue_of(graph.start, header),
        status=WorkItemStatus.HELD if starts_at_ms else WorkItemStatus.PENDING, input=ItemInput(payload=payload),
        due_ms=starts_at_ms, note=its_start() if starts_at_ms else "",
    )  # fmt: skip
    return StartRequest(header=header, item=item, attributes=start.attributes or {}, hook=hook_of(graph))


def encoded_start(services: Services, graph: Graph, input_: Any, context: Context | None) -> tuple[bytes, bytes]:
    """Return the input and the initial context of a run, encoded.

    Raises:
        CodecError: The input is not of the workflow's input type.
        DefinitionError: The context is missing or of another class.
    """
    try:
        payload = encode_payload(graph.input, input_)
    except PayloadMismatchError as error:
        raise error.at(f"The input of workflow {graph.workflow!r}") from error
    except PayloadTooLargeError as error:
        raise error.at(f"The input of workflow {graph.workflow!r}") from error
    try:
        state = initial_context(graph, context)
    except PayloadTooLargeError as error:
        raise error.at(f"The context of workflow {graph.workflow!r}") from error
    check_payload(payload, services.limits, f"The input of workflow {graph.workflow!r}")
    check_payload(state, services.limits, f"The context of workflow {graph.workflow!r}")
    return payload, state


def digest_of(services: Services, graph: Graph, payload: bytes, state: bytes) -> str:
    """Return what tells whether two runs were started with the same."""
    return services.sealing.digest(*start_parts(graph.workflow, graph.version, payload, state))


async def store(services: Services, request: StartRequest) -> Outgoing | None:
    """Store a run; return its first message, or None where the same run exists and has begun, or begins later.

    Whoever stored a run that has not begun may have died before its first message was out, so that is sent again.

    Raises:
        RunConflictError: A run with this id exists and was started with something else.
        RunDeletedError: The same run was started before, ended and was deleted: its id is not free yet.
    """
    header = request.header
    decision = started_with(
        run_moves.start_run(header, request.item, services.name, hook=request.hook), request.attributes
    )
    if request.more:
        decision = replace(decision, changes=(*decision.changes, *request.more))
    first: Outgoing | None = None

    async def commit() -> None:
        nonlocal first
        writer = BatchWriter(header.run_id, header.created_at_ms, header.workflow, version=header.version)
        while isinstance(await services.commit(writer, decision), Conflict):
            existing, item = await services.runs.find_with_item(header.run_id, header.start_item)
            if existing is not None:
                if not request.is_claimed and not _is_same_start(services, existing.header.input_digest, header):
                    raise RunConflictError(run_id=header.run_id, differs=_difference(services, existing.header, header))
                first = _unsent(existing, item)
                return
            await _refuse_deleted(services, header)
        first = next(iter(decision.effects.publish), None)
        services.note_deadline(decision)
        if decision.effects.timer is not None:
            services.on_timer(decision.effects.timer)

    call = StartCall(run_id=header.run_id, workflow=header.workflow, version=header.version)
    await chain_start(services.interceptors, call, commit)()
    return first


async def store_all(services: Services, graph: Graph, requests: Sequence[StartRequest]) -> None:
    """Store runs of one workflow in grouped commits, and send their first messages.

    Raises:
        RunConflictError, RunDeletedError: As `store` does, for one of them; the others are started all the same.
        Exception: What else went wrong with one, such as a store that is away; others may not be started either.
    """
    stored = await _stored(services, requests)
    outgoing = [
        (request.header, out)
        for request, out in zip(requests, stored, strict=True)
        if out is not None and not isinstance(out, BaseException)
    ]
    await send_first(services, graph, outgoing)
    errors = [each for each in stored if isinstance(each, BaseException)]
    if errors:  # a refused id says that the others were started: what says otherwise goes before it
        raise min(errors, key=lambda error: isinstance(error, REFUSED))


async def _stored(services: Services, requests: Sequence[StartRequest]) -> Sequence[Outgoing | BaseException | None]:
    """Store runs side by side; return the first message of each, or why it could not be stored.

    One alone needs no task of its own, which would cost a tenth of its start.
    """
    if len(requests) == 1:
        return [await store(services, requests[0])]
    return await asyncio.gather(*(store(services, request) for request in requests), return_exceptions=True)


async def send_first(services: Services, graph: Graph, outgoing: Sequence[tuple[RunHeader, Outgoing]]) -> None:
    """Announce runs of one workflow that have just been stored, and publish their first messages."""
    if not outgoing:
        return
    services.news.tell_started(graph.workflow, graph.version, [header.run_id for header, _ in outgoing])
    await publish_many(services, outgoing)


def _unsent(run: StoredRun, first: StoredItem | None) -> Outgoing | None:
    """The first message of a run that has not begun; the entry of the message it repeats stands."""
    if run.state.status is not RunStatus.PENDING or first is None or first.item.status is not WorkItemStatus.PENDING:
        return None
    return Outgoing(first.item, first.turn, "", recovered=True)


async def _refuse_deleted(services: Services, header: RunHeader) -> None:
    """Refuse an id whose run was deleted not long ago; nothing would run, and there is no result to hand out.

    Raises:
        RunDeletedError: It was the same run.
        RunConflictError: It was another one.
    """
    tombstone, _ = await services.runs.tombstone(header.run_id)
    if tombstone is None:
        return
    if not _is_same_start(services, tombstone.input_digest, header):
        same_kind = (tombstone.workflow, tombstone.version) == (header.workflow, header.version)
        differs = "input or context" if same_kind else "workflow or version"
        raise RunConflictError(run_id=header.run_id, differs=differs, was_deleted=True)
    raise RunDeletedError(
        run_id=header.run_id, status=tombstone.status.value, ended_at=at(tombstone.ended_at_ms),
        deleted_at=at(tombstone.deleted_at_ms),
    )  # fmt: skip


def start_parts(workflow: str, version: str, payload: bytes, state: bytes) -> tuple[bytes, ...]:
    """What makes a start the same as another."""
    return workflow.encode(), version.encode(), payload, state


async def is_taken(services: Services, header: RunHeader) -> bool:
    """Whether a start is about to be refused: another run has its id, or one that was deleted not long ago had it."""
    try:
        existing = await services.runs.find(header.run_id)
        if existing is not None:
            return not _is_same_start(services, existing.header.input_digest, header)
    except (UnknownKeyError, UnreadableRecordError):
        return True
    return (await services.runs.tombstone(header.run_id))[0] is not None


def _is_same_start(services: Services, digest: str, header: RunHeader) -> bool:
    """Whether a run in the store was started with the same.

    Raises:
        UnknownKeyError: That cannot be told: the digest was made with a key that this process does not have.
    """
    parts = start_parts(header.workflow, header.version, header.input, header.context)
    return services.sealing.is_digest_of(digest, *parts)


def _difference(services: Services, existing: RunHeader, given: RunHeader) -> str:
    try:
        input_, context = start_of(services.sealing, existing)
    except StoreError:
        return "input or context"
    pairs: Sequence[tuple[str, object, object]] = (
        ("workflow", existing.workflow, given.workflow),
        ("version of its workflow", existing.version, given.version),
        ("input", input_, given.input),
        ("context", context, given.context),
    )
    return next((name for name, a, b in pairs if a != b), "input")
