"""The commands that show something: status, list, items, errors, quarantine, graph."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from floxide_amqp.apps.cli.acting import graph_of, with_orchestrator
from floxide_amqp.apps.cli.failures import MissingError, UsageError
from floxide_amqp.apps.cli.options import (
    Frame,
    JsonOption,
    LimitOption,
    RunIdArgument,
    WorkflowName,
    command,
)
from floxide_amqp.apps.cli.printing import (
    as_json,
    hex_dump,
    print_facts,
    print_table,
    print_text,
    result_as_json,
    shown,
)
from floxide_amqp.apps.cli.references import load_workflow
from floxide_amqp.apps.cli.watch import describe_counts
from floxide_amqp.core.records import Quarantined
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.orchestrator import Orchestrator, RunHandle
from floxide_amqp.runtime.views import RunInfo, RunMetrics, at

StartOption = Annotated[int, typer.Option("--from", min=0, help="Position of the first to show.")]


class GraphFormat(StrEnum):
    """Languages a graph can be drawn in."""

    MERMAID = "mermaid"
    DOT = "dot"


@command()
def status(frame: Frame, *, run_id: RunIdArgument, json: JsonOption = False) -> None:
    """Show a run: where it is, its output, its failure."""
    app = frame.app()

    async def look(orchestrator: Orchestrator) -> tuple[RunInfo, RunMetrics, str | None]:
        info, metrics = await orchestrator.run_info(run_id), await orchestrator.metrics(run_id)
        graph = await graph_of(app, orchestrator, run_id)
        if info.status is not RunStatus.COMPLETED or graph is None:
            return info, metrics, None
        result: Any = await RunHandle[Any](orchestrator, run_id, graph).result()
        return info, metrics, result_as_json(graph, result)

    info, metrics, result = with_orchestrator(app, look)
    if json:
        members = {"run": info, "metrics": metrics}
        print_text(_with_result(as_json(members), result))
        return
    print_facts(
        [
            ("run", info.run_id),
            ("workflow", f"{info.workflow} (version {info.version})"),
            ("status", info.status.value),
            ("reason", info.reason),
            ("failure", info.failure),
            ("items", describe_counts(metrics)),
            ("time in nodes", metrics.busy_time),
            ("created", info.created_at),
            ("updated", info.updated_at),
            ("finished", info.finished_at),
            ("deadline", info.deadline_at),
            ("result", result),
        ]
    )


def _with_result(text: str, result: str | None) -> str:
    """Add a member that is JSON already."""
    return text if result is None else f'{text.rstrip()[:-1].rstrip()},\n  "result": {result}\n}}'


@command()
def list_runs(
    frame: Frame,
    *,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this workflow.")] = None,
    limit: LimitOption = 50,
    cursor: Annotated[str, typer.Option(metavar="CURSOR", help="Go on after the page that ended with this.")] = "",
    json: JsonOption = False,
) -> None:
    """List runs, newest first."""

    async def look(orchestrator: Orchestrator) -> Any:
        return await orchestrator.list_runs(status=status, workflow=workflow, limit=limit, cursor=cursor)

    page = with_orchestrator(frame.app(), look)
    if json:
        print_text(as_json(page))
        return
    print_table(
        ("RUN", "WORKFLOW", "STATUS", "CREATED", "FINISHED", "FAILURE OR REASON"),
        [
            (
                each.run_id, f"{each.workflow}@{each.version}", each.status.value, each.created_at, each.finished_at,
                each.failure or each.reason,
            )
            for each in page.runs
        ],
    )  # fmt: skip
    if page.next_cursor:
        print_text(f"There are more: --cursor '{page.next_cursor}'")


@command()
def items(
    frame: Frame, *, run_id: RunIdArgument, start: StartOption = 0, limit: LimitOption = 100, json: JsonOption = False
) -> None:
    """List a run's work items.

    Those that ended come first, in that order, then the live ones.
    """

    async def look(orchestrator: Orchestrator) -> Any:
        return await orchestrator.work_items(run_id, start=start, limit=limit)

    found = with_orchestrator(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("ITEM", "NODE", "STATUS", "TRIES", "WORKER", "DUE", "ENDED", "TOOK", "NOTE"),
        [
            (
                each.item_id, each.node, each.status.value, each.attempts, each.owner, each.due_at, each.ended_at,
                each.duration, each.note,
            )
            for each in found
        ],
    )  # fmt: skip


@command()
def errors(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    start: StartOption = 0,
    limit: LimitOption = 100,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show each error's traceback.")] = False,
    json: JsonOption = False,
) -> None:
    """List a run's failed attempts."""

    async def look(orchestrator: Orchestrator) -> Any:
        await orchestrator.status(run_id)  # an unknown run is an error, not a run without errors
        return await orchestrator.errors(run_id, start=start, limit=limit)

    found = with_orchestrator(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    if not traceback:
        print_table(
            ("AT", "NODE", "ITEM", "TRY", "ERROR", "THEN"),
            [
                (
                    each.at, each.node, each.item_id, each.attempt, f"{each.error_type}: {each.message}",
                    "retried" if each.will_retry else "failed",
                )
                for each in found
            ],
        )  # fmt: skip
        return
    for each in found:
        print_text(f"{shown(each.at)}  {each.node} ({each.item_id}), try {each.attempt}\n{each.traceback.rstrip()}\n")


@command()
def quarantine_list(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on after this message.")] = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List messages that nobody could read, oldest first."""

    async def look(orchestrator: Orchestrator) -> Any:
        return await orchestrator.quarantine(after=after, limit=limit)

    found = with_orchestrator(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("ID", "QUEUE", "AT", "BYTES", "REASON"),
        [(each.quarantine_id, each.queue, at(each.at_ms), len(each.body), each.reason) for each in found],
    )


@command()
def quarantine_show(
    frame: Frame,
    *,
    quarantine_id: Annotated[str, typer.Argument(metavar="ID", help="The message's id.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Show a message that nobody could read: its reason and its bytes."""

    async def look(orchestrator: Orchestrator) -> Quarantined:
        after = ""
        while page := await orchestrator.quarantine(after=after):
            for each in page:
                if each.quarantine_id == quarantine_id:
                    return each
            after = page[-1].quarantine_id
        raise MissingError(f"There is no message {quarantine_id!r} in the quarantine; `quarantine list` shows what is.")

    found: Quarantined = with_orchestrator(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_facts(
        [
            ("id", found.quarantine_id),
            ("queue", found.queue),
            ("at", at(found.at_ms)),
            ("reason", found.reason),
            ("bytes", len(found.body)),
        ]
    )
    print_text(hex_dump(found.body))


@command()
def graph(
    frame: Frame,
    *,
    workflow: WorkflowName = None,
    form: Annotated[
        GraphFormat, typer.Option("--format", "-f", help="The language it is drawn in.")
    ] = GraphFormat.MERMAID,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here.")] = None,
) -> None:
    """Draw a workflow's graph.

    As Mermaid or for Graphviz. APP may also name a workflow class.
    """
    _, chosen = load_workflow(frame.reference, workflow)
    text = chosen.to_dot() if form is GraphFormat.DOT else chosen.to_mermaid()
    if output is None:
        print_text(text)
        return
    try:
        output.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The graph cannot be written to {output}: {error}.") from error
