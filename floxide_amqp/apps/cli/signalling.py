"""The command that sends a signal to runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.acting import STEER_SECONDS
from floxide_amqp.apps.cli.failures import ExitCode, UsageError
from floxide_amqp.apps.cli.inputs import parse_value
from floxide_amqp.apps.cli.options import Frame, command
from floxide_amqp.apps.cli.orchestrating import for_each, with_orchestrator
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.exceptions import UnknownSignalError
from floxide_amqp.runtime.orchestrator import Orchestrator


@command()
def signal(
    frame: Frame,
    *,
    name: Annotated[str, typer.Argument(metavar="SIGNAL", help="The signal's name.", show_default=False)],
    value: Annotated[str, typer.Argument(metavar="JSON|FILE|-", help="Its value, such as true.", show_default=False)],
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs' ids.", show_default=False)],
    signal_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Its id: sent again under it, it is not accepted twice.")
    ] = "",
) -> ExitCode:
    """Send a signal to runs.

    It goes to the step of each run that waits for it, else it is kept until one does. The run's workflow says which
    signals it takes, and of what type.
    """
    app = frame.app(patience=STEER_SECONDS)

    async def one(orchestrator: Orchestrator, run_id: str) -> str:
        declared = await _signal_of(app, frame.reference, orchestrator, run_id, name)
        sent = parse_value(declared.payload, value, "The value", f"The value of signal {name!r}")
        if await orchestrator.signal(run_id, declared, sent, signal_id=signal_id):
            return f"Run {run_id} has accepted signal {name}."
        return f"Run {run_id} had accepted signal {name} with the id {signal_id} already."

    return with_orchestrator(app, for_each(run_ids, one), broker=BrokerUse.IF_REACHABLE)


async def _signal_of(app: Floxide, reference: str, orchestrator: Orchestrator, run_id: str, name: str) -> Signal[Any]:
    graph = await _graph_with_signals(app, reference, orchestrator, run_id)
    if not graph.signals:
        raise UsageError(
            f"Workflow {graph.workflow!r} does not say which signals it takes, so the type of the value is not known "
            "here. Name them in its class: signals = (APPROVAL,)."
        )
    declared = graph.signals.get(name)
    if declared is None:
        raise UnknownSignalError(run_id=run_id, workflow=graph.workflow, signal=name, known=tuple(graph.signals))
    return declared


async def _graph_with_signals(app: Floxide, reference: str, orchestrator: Orchestrator, run_id: str) -> Graph:
    """Return the graph that says which signals a run takes: its version's, or that of a newer one that runs it."""
    info = await orchestrator.run_info(run_id)
    graph = app.registry.find(info.workflow, info.version)
    newer = app.registry.newer(info.workflow, info.version)
    if graph is None and newer is not None and newer.graph.options.versions is not VersionPolicy.STRICT:
        return newer.graph
    if graph is None:
        raise UsageError(
            f"{reference} lacks version {info.version!r} of workflow {info.workflow!r}, which says which signals run "
            f"{run_id!r} takes. It has: {', '.join(app.registry.names()) or 'none'}. Use the code of that version."
        )
    return graph
