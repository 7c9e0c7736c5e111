"""The `schedules` commands: what is started again and again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import STEER_SECONDS
from floxide_amqp.apps.cli.failures import ExitCode
from floxide_amqp.apps.cli.inputs import parse_context, parse_input
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import (
    ContextOption,
    Frame,
    InputOption,
    JsonOption,
    LimitOption,
    WorkflowName,
    command,
)
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import as_json, print_facts, print_table, print_text, shown
from floxide_amqp.core.schedules import Overlap
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.schedule import DEFAULT_CATCH_UP, Schedule
from floxide_amqp.runtime.schedule_views import ScheduleInfo

app = typer.Typer(
    name="schedules",
    help="Runs that are started again and again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)]


@app.command("list")
@command()
def list_schedules(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="NAME", help="Go on after this one.")] = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List schedules by their names."""

    async def look(orchestrator: Orchestrator) -> Sequence[ScheduleInfo]:
        return await orchestrator.schedules.list(after=after, limit=limit)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("NAME", "WORKFLOW", "WHEN", "NEXT", "LAST", "STARTED", "SKIPPED", "MISSED"),
        [
            (
                each.name, each.workflow, _when(each), "paused" if each.paused else each.next_at, each.last_at,
                each.started, each.skipped, each.missed,
            )
            for each in found
        ],
    )  # fmt: skip
    if len(found) == limit:
        print_text(f"There may be more: --after '{found[-1].name}'")


@app.command("show")
@command()
def show(frame: Frame, *, name: ScheduleName, json: JsonOption = False) -> None:
    """Show a schedule, and what became of its last occurrences."""

    async def look(orchestrator: Orchestrator) -> ScheduleInfo:
        return await orchestrator.schedules.get(name)

    info = look_at(frame.app(), look)
    if json:
        print_text(as_json(info))
        return
    paused = f"yes ({info.note})" if info.note else "yes"
    print_facts([
        ("schedule", info.name), ("workflow", f"{info.workflow}@{info.version}"), ("when", _when(info)),
        ("jitter", info.jitter or None), ("overlap", info.overlap.value), ("catches up", info.catch_up),
        ("paused", paused if info.paused else None), ("next", info.next_at), ("last", info.last_at),
        ("started", info.started), ("skipped", info.skipped), ("missed", info.missed),
        ("waiting", info.waiting or None), ("not over", ", ".join(info.open_runs)),
    ])  # fmt: skip
    if info.recent:
        print_table(
            ("OCCURRENCE", "WHAT", "TIMES", "SETTLED", "RUN"),
            [(each.at, each.what.value, each.count, each.settled_at, each.run_id) for each in info.recent],
        )


@app.command("put")
@command()
def put(
    frame: Frame,
    *,
    name: ScheduleName,
    workflow: WorkflowName = None,
    input: InputOption = None,
    context: ContextOption = None,
    every: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Between two runs, counted from 1970, UTC.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="EXPRESSION", help="In its place, such as '0 9 * * MON-FRI'.")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of --cron, such as Europe/Berlin.")] = "UTC",
    jitter: Annotated[float, typer.Option(metavar="SECONDS", help="Begin later by a part of that.")] = 0.0,
    overlap: Annotated[Overlap, typer.Option(help="What to do while a run of it is not over.")] = Overlap.SKIP,
    catch_up: Annotated[
        float, typer.Option(metavar="SECONDS", help="After an outage, start what is not older than that.")
    ] = DEFAULT_CATCH_UP.total_seconds(),
    paused: Annotated[bool, typer.Option("--paused", help="Begin paused, where it is new.")] = False,
) -> None:
    """Put a schedule into the store, or give it another content."""
    app, chosen = frame.workflow(workflow)
    schedule = Schedule(
        name, chosen, parse_input(chosen.graph, input), context=parse_context(chosen.graph.context, context),
        every=every, cron=cron, timezone=timezone, jitter=jitter, overlap=overlap, catch_up=catch_up, paused=paused,
    )  # fmt: skip

    async def act(orchestrator: Orchestrator) -> str:
        info = await orchestrator.schedules.put(schedule)
        then = "is paused" if info.paused else f"begins next at {shown(info.next_at)}"
        return f"Schedule {name} of workflow {info.workflow} {then}."

    print_text(with_orchestrator(app, act, broker=BrokerUse.NONE))


@app.command("pause")
@command()
def pause(
    frame: Frame,
    *,
    name: ScheduleName,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is shown.")] = "",
) -> None:
    """Begin nothing until it is resumed.

    Runs that have begun go on.
    """

    async def act(orchestrator: Orchestrator) -> None:
        await orchestrator.schedules.pause(name, reason=reason)

    with_orchestrator(frame.app(), act, broker=BrokerUse.NONE)
    print_text(f"Schedule {name} is paused.")


@app.command("resume")
@command()
def resume(frame: Frame, *, name: ScheduleName) -> None:
    """Go on from now.

    What was due during the pause is not caught up.
    """

    async def act(orchestrator: Orchestrator) -> ScheduleInfo:
        await orchestrator.schedules.resume(name)
        return await orchestrator.schedules.get(name)

    info = with_orchestrator(frame.app(), act, broker=BrokerUse.NONE)
    print_text(f"Schedule {name} begins next at {shown(info.next_at)}.")


@app.command("trigger")
@command()
def trigger(
    frame: Frame,
    *,
    name: ScheduleName,
    trigger_id: Annotated[str, typer.Option("--id", metavar="ID", help="Given again, it is the same run.")] = "",
) -> None:
    """Start a run of it now, whatever runs already; print the run's id."""

    async def act(orchestrator: Orchestrator) -> str:
        return await orchestrator.schedules.trigger(name, trigger_id=trigger_id)

    print_text(with_orchestrator(frame.app(patience=STEER_SECONDS), act, broker=BrokerUse.IF_REACHABLE))


@app.command("delete")
@command()
def delete(frame: Frame, *, name: ScheduleName) -> ExitCode:
    """Forget a schedule.

    Its runs stay. One that the application declares comes back with its next worker.
    """

    async def act(orchestrator: Orchestrator) -> bool:
        return await orchestrator.schedules.delete(name)

    if with_orchestrator(frame.app(), act, broker=BrokerUse.NONE):
        print_text(f"Schedule {name} is deleted.")
        return ExitCode.OK
    print_text(f"There is no schedule {name}.")
    return ExitCode.CONFLICT


@app.command("next")
@command()
def next_occurrences(
    frame: Frame,
    *,
    name: ScheduleName,
    count: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many.")] = 5,
) -> None:
    """Tell when it begins next, without jitter, a line each."""

    async def look(orchestrator: Orchestrator) -> Sequence[datetime]:
        return await orchestrator.schedules.next(name, count=count)

    for each in look_at(frame.app(), look):
        print_text(shown(each))


def _when(info: ScheduleInfo) -> str:
    if info.every is not None:
        return f"every {info.every.total_seconds():g} s"
    return f"{info.cron} ({info.timezone})"
