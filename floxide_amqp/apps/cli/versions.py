"""The commands about versions of workflows: which there are, and what a deploy would break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.cli.failures import ExitCode, say
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, command
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.runtime.deploy_check import CheckReport, check_deploy
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.version_views import VersionInfo

WorkflowOption = Annotated[str | None, typer.Option(metavar="NAME", help="Only this workflow.")]


@command()
def versions(frame: Frame, *, workflow: WorkflowOption = None, json: JsonOption = False) -> None:
    """List the versions of workflows.

    How many runs of each may go on, since when, which workers serve it, and how many of its items are parked.
    """

    async def look(orchestrator: Orchestrator) -> Sequence[VersionInfo]:
        return await orchestrator.versions(workflow=workflow)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("WORKFLOW", "VERSION", "RUNS", "SINCE", "WORKERS", "PARKED", "SET ASIDE", "HERE"),
        [
            (
                each.workflow, each.version, _runs(each), each.since, shown_workers(each), each.parked or "",
                each.set_aside or "", "yes" if each.is_here else "",
            )
            for each in found
        ],
    )  # fmt: skip


def _runs(info: VersionInfo) -> str:
    return ", ".join(f"{number} {status}" for status, number in info.runs.items()) or "none"


def shown_workers(info: VersionInfo) -> str:
    """Return how many workers serve a version: those that have it, and those of newer ones that go on with its runs."""
    newer = len(info.newer_workers) if info.open_runs else 0
    if not info.workers and not newer:
        return "NONE" if info.open_runs else "none"
    return f"{len(info.workers)} + {newer} newer" if newer else f"{len(info.workers)}"


@command()
def check(
    frame: Frame,
    *,
    workflow: WorkflowOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Say what would break if this code took over the runs that are open now.

    Run by run: their version, the inputs of their steps, their context. Nothing is written. Exit code 1 if something
    would break.
    """

    async def look(orchestrator: Orchestrator) -> CheckReport:
        return await check_deploy(orchestrator.services, workflow=workflow, on_progress=_tell)

    report = look_at(frame.app(), look)
    if json:
        print_text(as_json(report))
        return ExitCode.RUN_FAILED if report.breaks else ExitCode.OK
    for title, groups in (("Would break", report.breaks), ("Would lose data", report.losses)):
        for group in groups:
            where = f"{group.workflow}@{group.version}" + (f", node {group.node}" if group.node else "")
            print_text(f"{title}: {where}: {group.reason}\n  {group.runs} runs, such as {', '.join(group.examples)}")
    versions = ", ".join(f"{number} of {name}" for name, number in report.checked.items()) or "none"
    if report.of_others:
        others = ", ".join(f"{number} of {name}" for name, number in report.of_others.items())
        print_text(f"Not checked, since workers of another application have their workflows: {others}.")
    print_text(f"{report.runs} open runs checked ({versions}), {report.broken} would break.")
    return ExitCode.RUN_FAILED if report.breaks else ExitCode.OK


def _tell(done: int) -> None:
    say(f"{done} runs checked.")
