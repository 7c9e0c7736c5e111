"""One step: resolve the input, run the body, route what it returned, and say what the outcome is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, TypeAlias

from floxide_amqp.core.attributes import AttributeValue
from floxide_amqp.core.child_workflow import is_child
from floxide_amqp.core.compensation import HOOK, Cancelled, Compensation, undone_by
from floxide_amqp.core.context import Context, delta_of
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.fast_dataclasses import dataclass, maker, replace
from floxide_amqp.core.graph import Graph, GraphNode
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.instants import at
from floxide_amqp.core.outcomes import CallsChild, Failed, Held, Outcome, Succeeded
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, Routed, make_routed
from floxide_amqp.core.reduce_node import Folding
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.step_powers import make_facts
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import (
    CodecError,
    HoldTimeoutError,
    JoinIncompleteError,
    NewerFormatError,
    PayloadMismatchError,
    PayloadTooLargeError,
    StoreError,
    UndeclaredTransitionError,
    UndecodableError,
    UnreadableRecordError,
)
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.admission_reads import bring_up
from floxide_amqp.runtime.cache import CachedRun
from floxide_amqp.runtime.children import call_child
from floxide_amqp.runtime.collected import collected_failure
from floxide_amqp.runtime.decoding import decode_stored, sentence_of
from floxide_amqp.runtime.engine_steps import perform_own
from floxide_amqp.runtime.execution import (
    USER_ERRORS,
    BodyResult,
    Interrupted,
    Raised,
    Returned,
    as_failure,
    run_body,
)
from floxide_amqp.runtime.folds import next_values, so_far
from floxide_amqp.runtime.inflight import StepHandle
from floxide_amqp.runtime.joined_inputs import joined_input
from floxide_amqp.runtime.pace import NotYet
from floxide_amqp.runtime.payload_limits import change_of, check_outcome, check_payload, value_of
from floxide_amqp.runtime.powers import Powers
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.step_mail import StepMail, read_mail
from floxide_amqp.stores.encoding import encode_checked, encode_payload, pack
from floxide_amqp.stores.fresh import NOTHING, Fresh
from floxide_amqp.stores.large_inputs import carried
from floxide_amqp.stores.sealed import Unsealed
from floxide_amqp.stores.sealed_records import check_failure, given_of, input_of

_log = get_logger("floxide_amqp.steps")

YIELD_EVERY = 200
"""Values encoded or decoded before the event loop gets a turn, so that a large fan-out does not starve heartbeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What a step came to.

    Attributes:
        outcome: For `decide`.
        delta: What is to be applied to the cached context once committed.
        position: Log position of the context the body saw.
        duration_us: Time the body took.
        error: The live error, for the retry policy and the log.
        attributes: What the body set of the run's attributes, if it succeeded.
        mail: What the body saw and took of the run's mailbox; None where it was not asked.
    """

    outcome: Outcome
    position: int
    duration_us: int
    error: BaseException | None = None
    attributes: Mapping[str, AttributeValue | None] = field(default_factory=dict[str, AttributeValue | None])
    mail: StepMail | None = None

    @property
    def delta(self) -> bytes | None:
        """What the node changed of the context, encoded."""
        return self.outcome.delta if isinstance(self.outcome, (Succeeded, Held)) else None


_make_performed = maker(Performed)

Performance: TypeAlias = Performed | Interrupted | NotYet


def policy_of(services: Services, node: GraphNode) -> RetryPolicy:
    """Return the retry policy of a node: its own or its workflow's, else the worker's."""
    return node.options.retry if node.options.retry is not None else services.retry


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a body is about to see.

    Attributes:
        view: The run's context.
        position: The length of its log by then.
        value: The node's input.
        folding: The values to fold, where the node folds what it gathers; the same as `value` then.
        mail: The run's mailbox; None where the node may not hold.
    """

    view: Context
    position: int
    value: Any
    folding: Folding | None
    mail: StepMail | None


async def perform(services: Services, admitted: Admitted, handle: StepHandle) -> Performance:
    """Run one step and return what it came to; only the worker's own cancellation escapes."""
    run, item = admitted.run, admitted.item
    if item.input.kind in OF_THE_ENGINE:
        return Performed(outcome=await perform_own(services, admitted), position=run.position, duration_us=0)
    node = run.graph.nodes[item.node]
    if admitted.verdict is not None:
        return _failed(services, admitted, node, admitted.verdict, run.position, 0)
    ready = await _prepare(services, admitted, node)
    if isinstance(ready, Performed):
        return ready
    return await _perform_body(services, admitted, node, ready, handle)


async def _prepare(services: Services, admitted: Admitted, node: GraphNode) -> _Ready | Performed:
    """Read what the body is to see, or return what the step comes to without it."""
    run, item = admitted.run, admitted.item
    if run.has_context and not run.is_loaded:  # forgotten since the admission: another step could not merge a delta
        await _read_context(services, run)
    view, position = run.view(f"{item.item_id}:{admitted.turn}")
    try:
        check_failure(services.sealing, run.header.run_id, item)
        if item.given is not None:
            return _given(services, admitted, node, position)
        folding = await next_values(services, admitted, node) if node.folds else None
        value = await input_value(services, admitted, node) if folding is None else folding
        mail = await read_mail(services, admitted) if node.node.may_hold else None
        if mail is not None and mail.has_unread:  # a step of this run may have sent it: what that wrote is to be seen
            await _read_context(services, run)
            view, position = run.view(f"{item.item_id}:{admitted.turn}")
    except (StoreError, UndecodableError):  # not the node's fault: the message is given back, or the item set aside
        raise
    except NewerFormatError as error:  # nor is this: a newer worker may read it
        place = f"{run.header.run_id}/i:{item.item_id}"
        raise UnreadableRecordError(place=place, problem=str(error), is_newer=True) from error
    except USER_ERRORS as error:  # user types decode here
        return _failed(services, admitted, node, error, position, 0)
    if item.timed_out and node.failure_router.names(HoldTimeoutError):
        late = HoldTimeoutError(node=node.name)
        payload = await _join_payload(services, admitted, node)
        return _failed(services, admitted, node, late, position, 0, payload, aborted=True)
    return _Ready(view, position, value, folding, mail)


async def _read_context(services: Services, run: CachedRun) -> None:
    """Bring a run's context up to date for a step that was admitted; what is wrong with it is not the node's fault.

    Raises:
        UndecodableError: It cannot be put together; the item is to be set aside.
        StoreError: As `bring_up`.
    """
    broken = await bring_up(services, run)
    if broken is not None:
        raise UndecodableError(
            what=f"The context of run {run.header.run_id!r}", problem=sentence_of(broken.__cause__ or broken)
        ) from broken


async def _perform_body(
    services: Services, admitted: Admitted, node: GraphNode, ready: _Ready, handle: StepHandle
) -> Performance:
    powers = Powers(services, handle, admitted, ready.mail)
    ctx = _context(services, admitted, node, ready.view, powers)
    loop = asyncio.get_running_loop()
    started = loop.time()
    if is_child(node.node):
        result: CallsChild | BodyResult = await call_child(services, admitted, node, node.node, ready.value)
    else:
        result = await run_body(services, node, ctx, ready.value, handle)
    duration_us = round((loop.time() - started) * 1_000_000)
    if handle.start is not None:
        duration_us = max(0, duration_us - handle.start.waited_us())
    failure: BaseException
    aborted = False
    match result:
        case Returned(transition):
            try:
                outcome = await _outcome(services, admitted, node, ready, transition)
                if not isinstance(outcome, Abort):
                    return _make_performed(
                        outcome=outcome, position=ready.position, duration_us=duration_us,
                        attributes=ctx.attributes_set, mail=powers.mail,
                    )  # fmt: skip
                failure, aborted = outcome.error, True
            except USER_ERRORS as raised:  # user guards, user types and context changes are checked here
                failure = raised
        case Raised(UndecodableError() as error) if not node.options.at_most_once:
            raise error  # a signal's value, a field of the context: what was to be read lazily
        case Raised(failure):
            pass
        case CallsChild():
            return Performed(outcome=result, position=ready.position, duration_us=duration_us)
        case Interrupted() | NotYet():
            return result
    payload = await _join_payload(services, admitted, node)
    return _failed(services, admitted, node, failure, ready.position, duration_us, payload, aborted=aborted)


async def _outcome(
    services: Services, admitted: Admitted, node: GraphNode, ready: _Ready, transition: Transition[Any]
) -> Outcome | Abort:
    """Return what a transition means for `decide`, checked against the limits, and to be sealed once."""
    folding = ready.folding
    if folding is not None and folding.after and isinstance(transition, Next):
        return so_far(services, admitted, node, folding, transition.value)
    outcome = await _routed(admitted.run.graph, node, transition, ready.view, ready.mail)
    if isinstance(outcome, Abort):
        return outcome
    check_outcome(outcome, services.limits, node.name)
    return unsealed(outcome) if services.sealing.is_on else outcome


def _given(services: Services, admitted: Admitted, node: GraphNode, position: int) -> Performed:
    """The step comes to what somebody gave it by hand; its body does not run."""
    given = given_of(services.sealing, admitted.run.header.run_id, admitted.item)
    value = decode_stored(node.output, given, f"The output given to node {node.name!r}")
    outcome = Succeeded(tuple(route_value(admitted.run.graph, node, value, ())))
    return Performed(
        outcome=unsealed(outcome) if services.sealing.is_on else outcome, position=position, duration_us=0
    )  # fmt: skip


def _failed(
    services: Services, admitted: Admitted, node: GraphNode, raised: BaseException, position: int, duration_us: int,
    payload: bytes = b"", *, aborted: bool = False,
) -> Performed:  # fmt: skip
    error = as_failure(raised, node.name)
    try:
        is_final = aborted or not policy_of(services, node).is_retryable(error)
    except USER_ERRORS as broken:  # the policy's predicates are user code
        broken.__cause__, error, is_final = error, as_failure(broken, node.name), True
    described = describe_error(error)
    collected = collected_failure(admitted, node, described)
    outcome = Failed(described, is_final=is_final, payload=payload, collected=collected)
    return Performed(outcome=outcome, position=position, duration_us=duration_us, error=error)


async def input_value(services: Services, admitted: Admitted, node: GraphNode) -> Any:
    """Return what a step works on, decoded.

    Raises:
        CodecError: It cannot be decoded, or could not be kept.
    """
    item = admitted.item
    if item.input.kind is InputKind.UNDO:
        return await _undoing(services, admitted)
    if item.input.kind is InputKind.PAYLOAD:
        if not item.input.payload:
            raise CodecError(f"The input of node {node.name!r} could not be kept: what its join got is too large.")
        payload = input_of(services.sealing, admitted.run.header.run_id, item)
        return decode_stored(node.input, payload, f"The input of node {node.name!r}")
    if item.input.kind is InputKind.JOIN:
        return await joined_input(services, admitted, node)
    return await _gathered(services, admitted, node if node.is_gather else await _gather_of(services, admitted))


async def _gathered(services: Services, admitted: Admitted, gather: GraphNode) -> Any:
    """Return what arrived at a gather: a list, or the first value."""
    run_id, first = admitted.run.header.run_id, gather.gathering.first
    payloads = await services.runs.all_arrivals(run_id, admitted.item.input.opener)
    values: list[Any] = []
    for number, payload in enumerate(payloads[:first] if first else payloads):
        if number % YIELD_EVERY == YIELD_EVERY - 1:
            await asyncio.sleep(0)
        values.append(decode_stored(gather.element or gather.input, payload, f"What arrived at node {gather.name!r}"))
    if not gather.gathering.is_one:
        return values
    if not values:
        raise JoinIncompleteError(node=gather.name, needed=1, arrived=0, missing=("its fan-out",))
    return values[0]


async def _undoing(services: Services, admitted: Admitted) -> Compensation[Any, Any] | Cancelled:
    """What a compensation receives, or the node that runs first when a run is cancelled."""
    run, item = admitted.run, admitted.item
    if item.input.opener == HOOK:
        return Cancelled(reason=admitted.state.reason)
    run_id, undone = run.header.run_id, WorkItemId(item.input.opener)
    found = (await services.items.find(run_id, (undone,)))[0]
    if found is None:
        raise UnreadableRecordError(place=f"{run_id}/i:{undone}", problem="It is missing from the store.")
    node = run.graph.nodes[undone_by(item.node)]
    output: Any = None
    if item.input.pages:
        returned = input_of(services.sealing, run_id, item)
        output = decode_stored(node.output, returned, f"The output of node {node.name!r}")
    return Compensation(
        input=await input_value(services, replace(admitted, item=found.item), node), output=output,
        is_completed=bool(item.input.pages), item_id=undone, idempotency_key=f"{run_id}:{undone}",
    )  # fmt: skip


async def _gather_of(services: Services, admitted: Admitted) -> GraphNode:
    """The gather that failed, for what runs in its place, which is none itself: from failure to failure back to it."""
    run, item = admitted.run, admitted.item
    while True:
        found = (await services.items.find(run.header.run_id, (WorkItemId(item.parent),)))[0]
        node = None if found is None else run.graph.nodes.get(found.item.node)
        if found is None or node is None or found.item.input.opener != admitted.item.input.opener:
            raise UnreadableRecordError(
                place=f"{run.header.run_id}/i:{item.item_id}",
                problem="What it runs in the place of is not what it was.",
            )
        if node.is_gather:
            return node
        item = found.item


def _context(
    services: Services, admitted: Admitted, node: GraphNode, view: Context, powers: Powers
) -> WorkflowCtx[Any]:
    item, header, end_ms = admitted.item, admitted.run.header, admitted.state.deadline_ms
    if node.options.timeout is not None:
        timeout_ms = services.now_ms(header.run_id) + round(node.options.timeout.total_seconds() * 1000)
        end_ms = timeout_ms if end_ms is None else min(end_ms, timeout_ms)
    facts = make_facts(
        run_id=header.run_id, item_id=item.item_id, node=item.node, workflow=header.workflow,
        worker_id=services.name, attempt=item.attempt + 1, failure=item.failure,
        deadline=None if end_ms is None else at(end_ms), timed_out=item.timed_out,
    )  # fmt: skip
    return WorkflowCtx(facts, powers, view)


async def _routed(
    graph: Graph, node: GraphNode, transition: Transition[Any], view: Context, mail: StepMail | None
) -> Outcome | Abort:
    match transition:
        case Next():
            prefix = (0,) if graph.has_joins and node.node.may_fan_out else ()  # its element, for joins behind it
            routed = tuple(route_value(graph, node, transition.value, prefix))
            return Succeeded(routed, _packed(delta_of(view), node))
        case Abort():
            return transition
        case Hold() if node.node.may_hold:
            return _held(transition, _packed(delta_of(view), node), mail)
        case NextAll() if node.node.may_fan_out:
            routes: list[Routed] = []
            for number, value in enumerate(transition.values):
                if number % YIELD_EVERY == YIELD_EVERY - 1:
                    await asyncio.sleep(0)
                routes += route_value(graph, node, value, (number,))
            return Succeeded(tuple(routes), _packed(delta_of(view), node))
        case Hold() | NextAll():
            raise UndeclaredTransitionError(node=node.name, transition=type(transition).__name__)
        case _:
            raise TypeError(f"{type(transition).__name__} is not a transition this engine knows.")


def _held(hold: Hold, delta: bytes | None, mail: StepMail | None) -> Held:
    longest = hold.timeout if hold.until else hold.for_
    names = tuple(dict.fromkeys(signal.name for signal in hold.until))
    return Held(
        for_ms=None if longest is None else round(longest.total_seconds() * 1000), delta=delta,
        due_ms=None if hold.until_time is None else round(hold.until_time.timestamp() * 1000), until=names,
        mail=mail.oldest(names) if names and mail else None, left=mail.left(names) if mail else None,
    )  # fmt: skip


def unsealed(outcome: Outcome) -> Outcome:
    """Return an outcome whose payloads keep the envelope that is made of them, so that it is made once."""
    if not isinstance(outcome, Succeeded):
        return outcome
    routes = [replace(route, payload=Unsealed(route.payload)) for route in outcome.routes]
    return replace(outcome, routes=tuple(routes))


def route_value(graph: Graph, node: GraphNode, value: Any, prefix: tuple[int, ...]) -> Sequence[Routed]:
    """Return one `Routed` per edge a value takes, or one without edge where its branch ends."""
    try:
        payload, checked = encode_checked(node.output, value)
    except PayloadMismatchError as error:
        raise error.at(f"Node {node.name!r} returned a wrong value: it") from error
    except PayloadTooLargeError as error:
        raise error.at(value_of(node.name)) from error
    edges = graph.route(node.name, value)
    if not edges:
        return (make_routed(edge="", payload=payload, suffix=prefix),)
    if len(edges) == 1:
        if checked is not NOTHING and not any(prefix):  # of several successors the worker goes on with the first
            payload = _handed_on(graph.nodes[edges[0].target], node.output, payload, checked)
        else:
            payload = carried(payload)
        return (make_routed(edge=edges[0].id, payload=payload, suffix=prefix),)
    return [make_routed(edge=edge.id, payload=carried(payload), suffix=(*prefix, edge.number)) for edge in edges]


def _handed_on(target: GraphNode, kind: PayloadType, payload: bytes, value: object) -> bytes:
    """Return a payload that holds its value for the node which reads it next, where that reads it as the same type."""
    if target.input is not kind or target.is_gather or target.join is not None:
        return carried(payload)
    fresh = Fresh(payload)
    fresh.hold(kind, value)
    return fresh


async def _join_payload(services: Services, admitted: Admitted, node: GraphNode) -> bytes:
    """The input of a failed join, encoded, for the case that its fallback is a join as well.

    It is read again: the body may have changed the list it was given.
    """
    if admitted.item.input.kind not in (InputKind.ARRIVALS, InputKind.JOIN) or not node.failure:
        return b""
    try:
        payload = encode_payload(node.input, await input_value(services, admitted, node))
        check_payload(payload, services.limits, f"The input of join {node.name!r}")
    except StoreError:
        raise
    except USER_ERRORS as error:  # user types, or too much for one value: the fallback will say so
        _log.warning(
            "step.input_not_kept", run_id=admitted.run.header.run_id, item_id=admitted.item.item_id, node=node.name,
            error=services.sealing.logged(describe_error(error).message),
        )  # fmt: skip
        return b""
    return Unsealed(payload)


def _packed(plain: object, node: GraphNode) -> bytes | None:
    try:
        return None if plain is None else pack(plain)
    except PayloadTooLargeError as error:
        raise error.at(change_of(node.name)) from error
