"""The commands that show something: status, list, items, errors, quarantine, graph."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.filters import (
    AttributeOption,
    StartedAfterOption,
    StartedBeforeOption,
    attributes_from,
    instant_from,
)
from floxide_amqp.apps.cli.options import (
    Frame,
    JsonOption,
    LimitOption,
    RunIdArgument,
    WorkflowName,
    command,
)
from floxide_amqp.apps.cli.orchestrating import graph_of, with_orchestrator
from floxide_amqp.apps.cli.printing import (
    CHILDREN_SHOWN,
    as_json,
    children_in_words,
    in_words,
    print_facts,
    print_table,
    print_text,
    result_as_json,
    shown,
    undone_in_words,
    wait_in_words,
)
from floxide_amqp.apps.cli.references import load_workflow
from floxide_amqp.apps.cli.watch import describe_counts
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.kin_views import ChildPage
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.views import RunInfo, RunMetrics, RunPage

T = TypeVar("T")

StartOption = Annotated[int, typer.Option("--start", min=0, metavar="N", help="Position of the first to show.")]


class GraphFormat(StrEnum):
    """Languages a graph can be drawn in."""

    MERMAID = "mermaid"
    DOT = "dot"


def look_at(app: Floxide, look: Callable[[Orchestrator], Coroutine[Any, Any, T]]) -> T:
    """Read from the store and return what was found; nothing connects to a broker."""
    return with_orchestrator(app, look, broker=BrokerUse.NONE)


@command()
def status(frame: Frame, *, run_id: RunIdArgument, json: JsonOption = False) -> None:
    """Show where a run is, and how it ended.

    What it waits for, its output, its failure.
    """
    app = frame.app()

    async def look(orchestrator: Orchestrator) -> tuple[RunInfo, RunMetrics, ChildPage, str | None]:
        info, metrics = await orchestrator.run_info(run_id), await orchestrator.metrics(run_id)
        started = await orchestrator.children(run_id, limit=CHILDREN_SHOWN + 1)
        graph = await graph_of(app, orchestrator, run_id)
        if info.status is not RunStatus.COMPLETED or graph is None:
            return info, metrics, started, None
        result: Any = await orchestrator.handle_of(graph, run_id).result()
        return info, metrics, started, result_as_json(graph, result)

    info, metrics, started, result = look_at(app, look)
    if json:
        members = {"run": info, "metrics": metrics, "children": started.children[:CHILDREN_SHOWN]}
        print_text(_with_result(as_json(members), result))
        return
    print_facts(
        [
            ("run", info.run_id),
            ("workflow", f"{info.workflow} (version {info.version})"),
            ("parent", info.parent),
            ("status", info.status.value),
            ("reason", info.reason),
            ("failure", info.failure),
            ("waits for", "\n".join(map(wait_in_words, info.waits))),
            ("undone", undone_in_words(info)),
            ("forked from", " item ".join(info.forked_from)),
            ("children", children_in_words(started)),
            ("attributes", "\n".join(f"{name}={shown(value)}" for name, value in info.attributes.items())),
            ("items", describe_counts(metrics, info.status)),
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
    attribute: AttributeOption = None,
    started_after: StartedAfterOption = None,
    started_before: StartedBeforeOption = None,
    limit: LimitOption = 50,
    cursor: Annotated[str, typer.Option(metavar="CURSOR", help="Go on after the page that ended with this.")] = "",
    json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    app = frame.app()

    async def look(orchestrator: Orchestrator) -> RunPage:
        page = await orchestrator.list_runs(
            status=status, workflow=workflow, attributes=attributes_from(attribute), limit=limit, cursor=cursor,
            started_after=instant_from(started_after), started_before=instant_from(started_before),
        )  # fmt: skip
        if workflow is not None and not page.runs:
            anywhere = await orchestrator.list_runs(workflow=workflow, limit=1)
            if not anywhere.runs:
                app.registry.workflow(workflow)  # a name that neither the application nor the store knows is an error
        return page

    page = look_at(app, look)
    if json:
        print_text(as_json(page))
        return
    print_table(
        ("RUN", "WORKFLOW", "STATUS", "CREATED", "FINISHED", "WHY"),
        [
            (
                each.run_id, f"{each.workflow}@{each.version}", each.status.value, each.created_at, each.finished_at,
                each.failure or each.reason or (in_words(each.waits) if each.waits else ""),
            )
            for each in page.runs
        ],
    )  # fmt: skip
    for each in page.unreadable:
        print_text(f"Run {each.run_id} cannot be read: {each.problem}")
    if page.next_cursor:
        print_text(f"There may be more: --cursor '{page.next_cursor}'")


@command()
def items(
    frame: Frame, *, run_id: RunIdArgument, start: StartOption = 0, limit: LimitOption = 100, json: JsonOption = False
) -> None:
    """List a run's work items.

    Those that ended come first, in that order, then the live ones.
    """

    async def look(orchestrator: Orchestrator) -> Any:
        return await orchestrator.work_items(run_id, start=start, limit=limit + 1)

    found, more = _page(look_at(frame.app(), look), start, limit)
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
    say_more(more)


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
        return await orchestrator.errors(run_id, start=start, limit=limit + 1)

    found, more = _page(look_at(frame.app(), look), start, limit)
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
    else:
        for each in found:
            where = f"{shown(each.at)}  {each.node} ({each.item_id}), try {each.attempt}"
            print_text(f"{where}\n{each.traceback.rstrip()}\n")
    say_more(more)


def _page(found: Sequence[T], start: int, limit: int) -> tuple[Sequence[T], str]:
    """Return the rows asked for, and which option shows those after them; one row more was read."""
    return found[:limit], f"--start {start + limit}" if len(found) > limit else ""


def say_more(option: str) -> None:
    """Say that the table is not all, on standard output as part of it."""
    if option:
        print_text(f"There are more: {option} (and --limit for longer pages)")


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
