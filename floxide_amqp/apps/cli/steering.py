"""The commands for what is done to runs by hand: terminate, retry, fork, complete, edit-context, audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.acting import STEER_SECONDS, Reason
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.inputs import parse_context, parse_field, parse_value, read_json
from floxide_amqp.apps.cli.options import ContextOption, Frame, JsonOption, LimitOption, RunIdArgument, command
from floxide_amqp.apps.cli.orchestrating import graph_of, with_orchestrator
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.apps.cli.whoever import By, whoever
from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import ContextChangeError, InvalidRunStateError, WorkItemNotFoundError
from floxide_amqp.runtime import by_hand
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.forking import ForkRequest, fork_run
from floxide_amqp.runtime.orchestrator import Orchestrator

ItemOption = Annotated[str, typer.Option("--item", metavar="ID", help="A work item, as `floxide items` lists them.")]


@command()
def terminate(frame: Frame, *, run_id: RunIdArgument, reason: Reason = "", by: By = "") -> None:
    """End a run at once, as cancelled, and undo nothing.

    Steps in flight are interrupted, compensations do not run, and those that had begun are not gone on with.
    """

    async def act(orchestrator: Orchestrator) -> str:
        if await orchestrator.terminate(run_id, reason=reason, by=whoever(by)):
            return f"Run {run_id} is terminated."
        status = await orchestrator.status(run_id)
        if status is RunStatus.CANCELLED:
            return f"Run {run_id} was cancelled already."
        raise InvalidRunStateError(run_id=run_id, action="terminate", status=status.value)

    print_text(with_orchestrator(frame.app(patience=STEER_SECONDS), act, broker=BrokerUse.IF_REACHABLE))


@command()
def retry(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="JSON|FILE|-", help="Another input for the step that failed."),
    ] = None,
    reason: Reason = "",
    by: By = "",
) -> None:
    """Let a failed run go on from what failed.

    Attempts are counted anew. With --input the failed step gets another input, of the type its node takes.
    """
    app, request = frame.app(patience=STEER_SECONDS), Request(by=whoever(by), reason=reason)

    async def act(orchestrator: Orchestrator) -> str:
        value: Any = by_hand.NOT_GIVEN
        if input is not None:
            graph, node = await _graph_of(app, orchestrator, run_id), await _failed_node(orchestrator, run_id)
            value = parse_value(graph.nodes[node].input, input, "--input", f"The input of node {node!r}")
        await by_hand.retry_run(orchestrator.services, RunId(run_id), request, value)
        return f"Run {run_id} goes on."

    print_text(with_orchestrator(app, act, broker=BrokerUse.IF_REACHABLE))


@command()
def fork(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    item: Annotated[
        str, typer.Option("--from", metavar="ITEM", help="The item to begin with, as `floxide items` lists them.")
    ],
    new_run_id: Annotated[str | None, typer.Option("--run-id", metavar="ID", help="The new run's id.")] = None,
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="JSON|FILE|-", help="Another input for the item than the one it had."),
    ] = None,
    context: ContextOption = None,
    reason: Reason = "",
    by: By = "",
) -> None:
    """Start a new run that begins with a past item of another; print its id.

    Its context is as it was when the item began, unless --context gives another. What ran before the item and beside it
    is not repeated. The other run stays as it is.
    """
    app = frame.app(patience=STEER_SECONDS)

    async def act(orchestrator: Orchestrator) -> str:
        graph = await _graph_of(app, orchestrator, run_id)
        value: Any = by_hand.NOT_GIVEN
        if input is not None:
            node = await _node_of(orchestrator, run_id, item)
            value = parse_value(graph.nodes[node].input, input, "--input", f"The input of node {node!r}")
        asked = ForkRequest(
            run_id=RunId(run_id), item_id=WorkItemId(item), new_run_id=RunId(new_run_id or f"{run_id}-fork-{item[:8]}"),
            input=value, context=None if context is None else parse_context(graph.context, context),
            request=Request(by=whoever(by), reason=reason),
        )  # fmt: skip
        await fork_run(orchestrator.services, graph, asked)
        return asked.new_run_id

    print_text(with_orchestrator(app, act, broker=BrokerUse.IF_REACHABLE))


@command()
def complete(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    output: Annotated[str, typer.Option("--output", metavar="JSON|FILE|-", help="The output.")],
    item: ItemOption = "",
    reason: Reason = "",
    by: By = "",
) -> None:
    """Complete a run by hand with an output; or with --item, one of its steps.

    A run is then over, whatever its items came to. A step may be completed while its run is paused or has failed; the
    run goes on behind it once it is resumed. Who did it, and why, is kept with the run.
    """
    app, request = frame.app(patience=STEER_SECONDS), Request(by=whoever(by), reason=reason)

    async def act(orchestrator: Orchestrator) -> str:
        services, graph = orchestrator.services, await _graph_of(app, orchestrator, run_id)
        if item:
            node = await _node_of(orchestrator, run_id, item)
            value = parse_value(graph.nodes[node].output, output, "--output", f"The output of node {node!r}")
            await by_hand.complete_item(services, RunId(run_id), WorkItemId(item), value, request)
            return f"Item {item} of run {run_id} has its output; `floxide resume` lets the run go on."
        await by_hand.complete_run(services, RunId(run_id), _outputs(graph, output), request)
        return f"Run {run_id} is completed."

    print_text(with_orchestrator(app, act, broker=BrokerUse.IF_REACHABLE))


@command()
def edit_context(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=JSON", help="A field and its new value; may be repeated.")
    ],
    reason: Reason = "",
    by: By = "",
) -> None:
    """Change the context of a paused or failed run by hand.

    Each --set gives a field another value, as a node would. Who did it, and why, is kept with the run.
    """
    app, request = frame.app(), Request(by=whoever(by), reason=reason)

    async def act(orchestrator: Orchestrator) -> str:
        graph = await _graph_of(app, orchestrator, run_id)
        edit = _editing(graph.context, changes)
        await by_hand.edit_context(orchestrator.services, graph, RunId(run_id), edit, request)
        return f"The context of run {run_id} is changed; `floxide resume` lets the run go on."

    print_text(with_orchestrator(app, act, broker=BrokerUse.NONE))


@command()
def audit(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    start: Annotated[int, typer.Option("--start", min=0, metavar="N", help="Position of the first to show.")] = 0,
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """Show what somebody did to a run: when, who, what and why."""
    found = with_orchestrator(
        frame.app(),
        lambda orchestrator: orchestrator.audit_log(run_id, start=start, limit=limit),
        broker=BrokerUse.NONE,
    )
    if json:
        print_text(as_json(list(found)))
        return
    rows = [(entry.at, entry.by, entry.action, entry.detail, entry.reason) for entry in found]
    print_table(("AT", "BY", "ACTION", "DETAIL", "REASON"), rows)


# --- small parts


async def _graph_of(app: Floxide, orchestrator: Orchestrator, run_id: str) -> Graph:
    graph = await graph_of(app, orchestrator, run_id)
    if graph is None:
        info = await orchestrator.run_info(run_id)
        raise UsageError(
            f"The application lacks version {info.version!r} of workflow {info.workflow!r}, that of run {run_id!r}. "
            f"It has: {', '.join(app.registry.names()) or 'none'}. Use the code of that version."
        )
    return graph


async def _failed_node(orchestrator: Orchestrator, run_id: str) -> str:
    failure = (await orchestrator.services.runs.load(RunId(run_id))).state.failure
    if failure is None or not failure.node:
        raise UsageError(f"No step of run {run_id!r} has failed, so there is none to give another --input.")
    return failure.node


async def _node_of(orchestrator: Orchestrator, run_id: str, item_id: str) -> str:
    (found,) = await orchestrator.services.items.find(RunId(run_id), (WorkItemId(item_id),))
    if found is None:
        raise WorkItemNotFoundError(run_id=run_id, item_id=item_id)
    return found.item.node


def _outputs(graph: Graph, given: str) -> Any:
    what = f"The output of workflow {graph.workflow!r}"
    if not graph.many_outputs:
        return parse_value(graph.output, given, "--output", what)
    values: object = json.loads(read_json(given, "--output"))
    if not isinstance(values, list):
        raise UsageError(f"{what} may be several: give a JSON array with all of them.")
    return [_parsed(graph.output, value, what) for value in cast("list[object]", values)]


def _parsed(payload: PayloadType, value: object, what: str) -> Any:
    return parse_value(payload, json.dumps(value), "--output", what)


def _editing(kind: type[Context], changes: list[str]) -> Callable[[Context], object]:
    """Return what gives a context the fields of the command line."""
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change!r} has no '='. Write --set FIELD=JSON.")
        values[name] = parse_field(kind, name, text, "--set")

    def edit(state: Context) -> None:
        for name, value in values.items():
            try:
                setattr(state, name, value)
            except (ContextChangeError, TypeError) as error:
                raise UsageError(str(error)) from error

    return edit
