"""The `parked` commands: items that were set aside because what is stored for them cannot be decoded or migrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import STEER_SECONDS, Reason
from floxide_amqp.apps.cli.failures import ExitCode, UsageError, say
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.apps.cli.whoever import By, whoever
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.requeuing import Requeued, SetAsideItem

app = typer.Typer(
    name="parked", help="Items set aside because the code that met them cannot decode them.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

WorkflowOption = Annotated[str | None, typer.Option(metavar="NAME", help="Only items of this workflow.")]
NodeOption = Annotated[str | None, typer.Option(metavar="NODE", help="Only items of this node.")]


@app.command("list")
@command()
def list_parked(
    frame: Frame,
    *,
    workflow: WorkflowOption = None,
    node: NodeOption = None,
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List items that were set aside, with the reason.

    What is stored for them cannot be decoded, or migrated, by the code that met them. Nothing of it is lost.
    """

    async def look(orchestrator: Orchestrator) -> Sequence[SetAsideItem]:
        return await orchestrator.set_aside.list(workflow=workflow, node=node, limit=limit)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("RUN", "ITEM", "WORKFLOW", "NODE", "SINCE", "WHY"),
        [
            (each.run_id, each.item_id, f"{each.workflow}@{each.version}", each.node, each.since, each.reason)
            for each in found
        ],
    )
    if len(found) == limit:
        print_text("There may be more: --workflow, --node or a greater --limit.")


@app.command("requeue")
@command()
def requeue(
    frame: Frame,
    *,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only those of this run.")] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="ITEM", help="Only this one of the run.")] = None,
    workflow: WorkflowOption = None,
    node: NodeOption = None,
    all_items: Annotated[bool, typer.Option("--all", help="All of them, where no filter is given.")] = False,
    reason: Reason = "",
    by: By = "",
) -> ExitCode:
    """Put items on their way again that were set aside, once code that reads them is deployed.

    What cannot be decoded then is set aside once more.
    """
    if not (run or workflow or node or all_items):
        raise UsageError("Say which items are meant: --run, --workflow, --node; or --all.")
    if item is not None and run is None:
        raise UsageError("--item needs --run, the run that it is of.")
    if run is not None and (workflow or node):
        raise UsageError("Give either --run, or --workflow and --node.")

    async def act(orchestrator: Orchestrator) -> Requeued:
        if run is not None:
            return await orchestrator.set_aside.requeue_run(run, item_id=item, reason=reason, by=whoever(by))
        return await orchestrator.set_aside.requeue(workflow=workflow, node=node, reason=reason, by=whoever(by))

    done = with_orchestrator(frame.app(patience=STEER_SECONDS), act, broker=BrokerUse.IF_REACHABLE)
    for place, error in done.failed:
        say(f"{place}: {error}")
    print_text(f"{done.items} items are on their way again.")
    return ExitCode.CONFLICT if done.failed else ExitCode.OK
