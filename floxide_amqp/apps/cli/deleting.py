"""The command that deletes runs."""

from __future__ import annotations

from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import with_orchestrator
from floxide_amqp.apps.cli.dead_letters import is_terminal
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.options import Frame, command
from floxide_amqp.apps.cli.printing import print_text
from floxide_amqp.runtime.orchestrator import Orchestrator


@command()
def delete(
    frame: Frame,
    *,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN…", help="The runs' ids.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs that have ended, with their results.

    Everything the store has of them goes. For a week, or what the application says, nothing else can be started under
    their ids.
    """
    if not yes:
        _ask(run_ids)

    async def act(orchestrator: Orchestrator) -> str:
        for run_id in run_ids:
            await orchestrator.delete(run_id)
        return "\n".join(f"Run {run_id} is deleted." for run_id in run_ids)

    print_text(with_orchestrator(frame.app(), act, broker=BrokerUse.NONE))


def _ask(run_ids: list[str]) -> None:
    if not is_terminal():
        raise UsageError("Deleting asks before it does anything, and there is no terminal to ask on: give --yes.")
    what = f"run {run_ids[0]}" if len(run_ids) == 1 else f"{len(run_ids)} runs"
    if not typer.confirm(f"Delete {what}, with everything that is known of it?", err=True):
        raise UsageError("Nothing was deleted.")
