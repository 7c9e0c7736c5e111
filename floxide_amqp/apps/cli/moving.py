"""The commands that take a run from one store to another, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.options import Frame, RunIdArgument, command
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import print_text
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.stores.run_file import RunFileHead


@command()
def export_run(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write; a new one.")],
) -> None:
    """Write a run that is paused or has ended into a file, with everything the store has of it.

    The run stays. It can be imported into any other store, for support or to move: there a paused run goes on when it
    is resumed, so cancel or delete it in one of the two places.
    """

    async def act(orchestrator: Orchestrator) -> RunFileHead:
        return await orchestrator.export_run(run_id, output)

    head = with_orchestrator(frame.app(), act, broker=BrokerUse.NONE)
    size = output.stat().st_size
    print_text(f"Run {head.run_id} ({head.workflow} {head.version}, {head.status}) is in {output}: {size} bytes.")


@command()
def import_run(
    frame: Frame,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `floxide export` wrote.", show_default=False)],
) -> None:
    """Put a run that was exported into the application's store, as it was: paused, or ended.

    Nothing of it is there before all of it is. If this is interrupted, do it again.
    """

    async def act(orchestrator: Orchestrator) -> RunFileHead:
        return await orchestrator.import_run(file)

    head = with_orchestrator(frame.app(), act, broker=BrokerUse.NONE, makes_store=True)
    is_paused = head.status == RunStatus.PAUSED.value
    what_next = f" Let it go on with: floxide resume {frame.reference} {head.run_id}" if is_paused else ""
    print_text(f"Run {head.run_id} ({head.workflow} {head.version}) is here, {head.status}.{what_next}")
