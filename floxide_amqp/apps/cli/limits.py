"""The `limits` commands: concurrency keys, who holds them, and how many may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import with_orchestrator
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.runtime.limit_views import MOST_COUNTED, LimitInfo
from floxide_amqp.runtime.orchestrator import Orchestrator

app = typer.Typer(
    name="limits", help="How many steps of a concurrency key are at work at once.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

LimitName = Annotated[str, typer.Argument(metavar="NAME", help="The limit's name.", show_default=False)]


@app.command("list")
@command()
def list_limits(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="NAME/KEY", help="Go on after this one.")] = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List concurrency keys: how many steps hold each, and how many wait for it."""

    async def look(orchestrator: Orchestrator) -> Sequence[LimitInfo]:
        return await orchestrator.limits.list(after=after, limit=limit)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("LIMIT", "KEY", "MAY", "SET", "HOLD", "WAIT"),
        [
            (each.name, each.key, each.limit, "yes" if each.is_set else "", each.held, _waiting(each))
            for each in found
        ],
    )  # fmt: skip
    if len(found) == limit:
        print_text("There may be more: go on behind the last one with --after.")


@app.command("set")
@command()
def set_limit(
    frame: Frame,
    *,
    name: LimitName,
    limit: Annotated[
        int, typer.Argument(metavar="LIMIT", help="Steps at work at once; 0 for what the code says.", min=0)
    ],
    key: Annotated[str, typer.Option(metavar="KEY", help="The key, of a limit that has several.")] = "",
) -> None:
    """Let another number of steps of a key be at work at once, from now on."""

    async def act(orchestrator: Orchestrator) -> LimitInfo:
        return await orchestrator.limits.set(name, key, limit=limit or None)

    info = with_orchestrator(frame.app(), act, broker=BrokerUse.IF_REACHABLE)
    print_text(f"{info.limit} steps of {info.name}/{info.key} may be at work at once.")


def _waiting(info: LimitInfo) -> str:
    return f"{info.waiting}+" if info.waiting == MOST_COUNTED else str(info.waiting)
