"""The commands that do one thing to many runs: `floxide bulk cancel` and its kin."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import STEER_SECONDS, Reason
from floxide_amqp.apps.cli.dead_letters import is_terminal
from floxide_amqp.apps.cli.failures import ExitCode, UsageError, say
from floxide_amqp.apps.cli.filters import (
    AttributeOption,
    StartedAfterOption,
    StartedBeforeOption,
    attributes_from,
    instant_from,
)
from floxide_amqp.apps.cli.options import Command, Frame, command
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import print_text
from floxide_amqp.apps.cli.whoever import By, whoever
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.bulk import DEFAULT_RATE, BulkAction, BulkReport, ManyOptions, act_on_many
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_filter import RunFilter

TOLD_EVERY: Final = 1_000
"""Runs after which the progress is told."""

SHOWN: Final = 20
"""Failures that are told one by one."""

DONE: Final = {
    BulkAction.CANCEL: ("Cancel runs", "cancelled"),
    BulkAction.TERMINATE: ("End runs at once, as cancelled, and undo nothing", "terminated"),
    BulkAction.PAUSE: ("Pause runs", "paused"),
    BulkAction.RESUME: ("Let paused or failed runs go on", "resumed"),
    BulkAction.RETRY: ("Let failed runs go on from what failed", "retried"),
    BulkAction.DELETE: ("Delete runs that have ended, with their results", "deleted"),
}

app = typer.Typer(name="bulk", help="One thing, done to many runs.", no_args_is_help=True, rich_markup_mode=None)


def _command_for(action: BulkAction) -> Command:
    what, done = DONE[action]

    def act_on_all(
        frame: Frame,
        *,
        status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.")] = None,
        workflow: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this workflow.")] = None,
        attribute: AttributeOption = None,
        started_after: StartedAfterOption = None,
        started_before: StartedBeforeOption = None,
        all_runs: Annotated[bool, typer.Option("--all", help="All runs, where no filter is given.")] = False,
        rate: Annotated[
            float, typer.Option(min=0.001, max=100_000, metavar="N", help="So many runs per second at most.")
        ] = DEFAULT_RATE,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the runs that are meant.")] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
        reason: Reason = "",
        by: By = "",
    ) -> ExitCode:
        where = RunFilter(
            status=status, workflow=workflow, attributes=attributes_from(attribute),
            started_after=instant_from(started_after), started_before=instant_from(started_before),
        )  # fmt: skip
        if where == RunFilter() and not all_runs:
            raise UsageError(
                f"Say which runs are to be {done}: --status, --workflow, --attribute, --started-…; or --all."
            )
        how = ManyOptions(rate=rate, on_progress=_tell, by=whoever(by), reason=reason)

        async def act(orchestrator: Orchestrator) -> BulkReport:
            services = orchestrator.services
            if dry_run or not yes:
                counted = await act_on_many(services, action, where, is_rehearsal=True)
                if dry_run or not counted.matched or not _agrees(action, counted.matched):
                    return counted
            return await act_on_many(services, action, where, **how)

        uses = BrokerUse.NONE if action is BulkAction.DELETE else BrokerUse.IF_REACHABLE
        return _summary(done, with_orchestrator(frame.app(patience=STEER_SECONDS), act, broker=uses))

    act_on_all.__doc__ = (
        f"{what}: all that the filters mean.\n\n    One for which it cannot be done keeps no other from its turn. Done "
        "again, it goes on where it broke off.\n    "
    )
    return command()(act_on_all)


def _agrees(action: BulkAction, count: int) -> bool:
    if not is_terminal():
        raise UsageError(f"This would {action.value} {_runs(count)}, and there is no terminal to ask on: give --yes.")
    if not typer.confirm(f"{action.value.capitalize()} {_runs(count)}?", err=True):
        raise UsageError("Nothing was done.")
    return True


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _tell(report: BulkReport) -> None:
    so_far = report.done + report.unchanged + report.failed
    if so_far % TOLD_EVERY == 0:
        say(f"{so_far} runs so far, {report.failed} failed.")


def _summary(done: str, report: BulkReport) -> ExitCode:
    for failure in report.failures[:SHOWN]:
        say(f"{failure.run_id}: {failure.error}")
    if report.failed > SHOWN:
        say(f"… and {report.failed - SHOWN} more.")
    acted = report.done + report.unchanged + report.failed
    if report.matched and not acted:
        print_text(f"{_runs(report.matched)} would be {done}, where the status allows it.")
        return ExitCode.OK
    print_text(f"{_runs(report.matched)}: {report.done} {done}, {report.unchanged} unchanged, {report.failed} failed.")
    return ExitCode.CONFLICT if report.failed else ExitCode.OK


for _action in BulkAction:
    app.command(_action.value)(_command_for(_action))
