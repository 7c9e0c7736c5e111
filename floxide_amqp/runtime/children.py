"""The step of a node that starts a run of another workflow: it starts it, waits for it, or returns its output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from floxide_amqp.core.child_workflow import ChildWorkflow
from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import ChildRecord, ParentLink, derive_child_id, waits_for_child
from floxide_amqp.core.kin_letters import START
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.outcomes import CallsChild
from floxide_amqp.core.records import Routed
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.transition import Next
from floxide_amqp.exceptions import ChildRunFailedError, StoreError, UndecodableError
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.execution import USER_ERRORS, Raised, Returned, as_failure
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.starting import StartRequest, prepare
from floxide_amqp.stores.encoding import encode_payload
from floxide_amqp.stores.packing import BYTES, Shape, pack_record, unpack_record
from floxide_amqp.stores.record_codec import (
    decode_compensable,
    decode_header,
    decode_item,
    encode_compensable,
    encode_header,
    encode_item,
)
from floxide_amqp.stores.sealed import Unsealed
from floxide_amqp.stores.sealed_records import child_output

START_REQUEST: Final = Shape("start of a child", 3, header=BYTES, item=BYTES, hook=BYTES)


async def call_child(
    services: Services, admitted: Admitted, node: GraphNode, caller: ChildWorkflow[Any, Any], value: Any
) -> CallsChild | Returned | Raised:
    """Return what the step of a `ChildWorkflow` comes to: a child to start or to wait for, its output, or its error.

    Raises:
        StoreError: What is known of the child cannot be read.
    """
    run_id, item = admitted.run.header.run_id, admitted.item
    known = waits_for_child(item.waits_for)
    if known is not None:
        child, version = await services.children.find(run_id, known)
        if child is not None and child.attempt == item.attempt:
            if child.status is RunStatus.COMPLETED and child.error is None:
                return _output(services, admitted, caller, child)
            if child.status is not None and not child.is_closing:
                return Raised(_failure(node, child))
            if child.status is None and not child.is_closing:
                return CallsChild(child=child, version=version, letter=None)
    try:
        return _start(services, admitted, caller, node, value)
    except USER_ERRORS as error:  # the context is made by user code, and user types are encoded here
        return Raised(as_failure(error, node.name))


def _output(
    services: Services, admitted: Admitted, caller: ChildWorkflow[Any, Any], child: ChildRecord
) -> Returned | Raised:
    try:
        payload = child_output(services.sealing, admitted.run.header.run_id, child)
        return Returned(Next(decode_stored(caller.graph.output, payload, f"The output of run {child.run_id!r}")))
    except (StoreError, UndecodableError):
        raise
    except USER_ERRORS as error:  # user types decode here
        return Raised(as_failure(error, admitted.item.node))


def _failure(node: GraphNode, child: ChildRecord) -> ChildRunFailedError:
    error = child.error
    return ChildRunFailedError(
        node=node.name, run_id=child.run_id, workflow=child.workflow,
        status=(child.status or RunStatus.FAILED).value, failed_node=child.failed_node,
        error_type="" if error is None else error.error_type,
        error_message=child.reason if error is None else error.message,
    )  # fmt: skip


def _start(
    services: Services, admitted: Admitted, caller: ChildWorkflow[Any, Any], node: GraphNode, value: Any
) -> CallsChild:
    header, item = admitted.run.header, admitted.item
    child_id = derive_child_id(header.run_id, item.item_id, admitted.turn)
    request = prepare(services, caller.graph, value, caller.context_for(value), child_id, "")
    child_header = replace(request.header, parent=ParentLink(header.run_id, item.item_id))
    started_at_ms = services.now_ms(header.run_id)
    if caller.child_timeout is not None:
        deadline_ms = child_header.created_at_ms + round(caller.child_timeout.total_seconds() * 1000)
        child_header = replace(child_header, deadline_ms=deadline_ms)
    letter = Letter(
        letter_id=start_letter_id(header.run_id, child_id), kind=START, to_run=child_id, from_run=header.run_id,
        posted_at_ms=started_at_ms, payload=pack_start(replace(request, header=child_header)),
    )  # fmt: skip
    child = ChildRecord(
        run_id=child_id, workflow=child_header.workflow, version=child_header.version, item_id=item.item_id,
        node=item.node, attempt=item.attempt, turn=0, epoch=admitted.epoch, started_at_ms=started_at_ms,
        on_close=caller.on_close,
    )  # fmt: skip
    routes = None if caller.waits else _routes_of_id(admitted, node, child_id)
    return CallsChild(child=child, version=0, letter=letter, routes=routes)


def _routes_of_id(admitted: Admitted, node: GraphNode, child_id: str) -> tuple[Routed, ...]:
    payload = Unsealed(encode_payload(node.output, child_id))
    edges = admitted.run.graph.route(node.name, child_id)
    if not edges:
        return (Routed(edge="", payload=payload),)
    many = len(edges) > 1
    return tuple([Routed(edge=edge.id, payload=payload, suffix=(n,) if many else ()) for n, edge in enumerate(edges)])


def start_letter_id(parent: RunId, child: RunId) -> str:
    """Return the id of the letter that starts a child."""
    return derive_letter_id(START, parent, child)


def pack_start(request: StartRequest) -> bytes:
    """Return a run to be started as bytes; its input is in them once."""
    item = replace(request.item, input=replace(request.item.input, payload=b""))
    hook = b"" if request.hook is None else encode_compensable(request.hook)
    return pack_record(START_REQUEST, encode_header(request.header), encode_item(item), hook)


def unpack_start(data: bytes) -> StartRequest:
    """Return the run to be started that bytes stand for.

    Raises:
        CodecError: They stand for none.
    """
    header_bytes, item_bytes, hook = unpack_record(START_REQUEST, data)[:3]
    header, item = decode_header(header_bytes), decode_item(item_bytes)
    return StartRequest(
        header=header, item=replace(item, input=replace(item.input, payload=header.input)),
        hook=decode_compensable(hook) if hook else None,
    )  # fmt: skip
