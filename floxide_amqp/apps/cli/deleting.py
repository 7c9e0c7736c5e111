"""The command that deletes runs."""

from __future__ import annotations

from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.dead_letters import is_terminal
from floxide_amqp.apps.cli.failures import ExitCode, UsageError
from floxide_amqp.apps.cli.options import Frame, command
from floxide_amqp.apps.cli.orchestrating import for_each, with_orchestrator
from floxide_amqp.runtime.orchestrator import Orchestrator


@command()
def delete(
    frame: Frame,
    *,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs' ids.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> ExitCode:
    """Delete runs that have ended, with their results.

    Everything the store has of them goes. For a week, or what the application says, nothing can be started under their
    ids. One that cannot be deleted is told, and the others are deleted all the same.
    """
    if not yes:
        _ask(run_ids)

    async def one(orchestrator: Orchestrator, run_id: str) -> str:
        if await orchestrator.delete(run_id):
            return f"Run {run_id} is deleted."
        return f"Run {run_id} was deleted already."

    return with_orchestrator(frame.app(), for_each(run_ids, one), broker=BrokerUse.NONE)


def _ask(run_ids: list[str]) -> None:
    if not is_terminal():
        raise UsageError("Deleting asks before it does anything, and there is no terminal to ask on: give --yes.")
    what, them = (f"run {run_ids[0]}", "it") if len(run_ids) == 1 else (f"{len(run_ids)} runs", "them")
    if not typer.confirm(f"Delete {what}, with everything that is known of {them}?", err=True):
        raise UsageError("Nothing was deleted.")
