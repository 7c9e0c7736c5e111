"""The command that shows the runs a run has started."""

from __future__ import annotations

from typing import Annotated

import typer

from floxide_amqp.apps.cli.looking import look_at, say_more
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, RunIdArgument, command
from floxide_amqp.apps.cli.printing import as_json, child_status, print_table, print_text


@command()
def children(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    limit: LimitOption = 50,
    cursor: Annotated[str, typer.Option(metavar="CURSOR", help="Go on after the page that ended with this.")] = "",
    json: JsonOption = False,
) -> None:
    """List the runs that a run has started, in that order."""
    page = look_at(frame.app(), lambda orchestrator: orchestrator.children(run_id, limit=limit, cursor=cursor))
    if json:
        print_text(as_json(page))
        return
    print_table(
        ("RUN", "WORKFLOW", "NODE", "STATUS", "STARTED", "ENDED", "FAILURE"),
        [
            (
                each.run_id, f"{each.workflow}@{each.version}", each.node, child_status(each), each.started_at,
                each.ended_at, each.failure,
            )
            for each in page.children
        ],
    )  # fmt: skip
    say_more(f"--cursor '{page.next_cursor}'" if page.next_cursor else "")
