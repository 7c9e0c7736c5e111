"""The `limits` commands: concurrency keys and rate limits, who holds or waits for them, and how many may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import with_orchestrator
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.runtime.limit_views import MOST_COUNTED, LimitInfo, RateInfo
from floxide_amqp.runtime.orchestrator import Orchestrator

app = typer.Typer(
    name="limits", help="How many steps of a concurrency key are at work at once, and rates at which bodies start.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip

LimitName = Annotated[str, typer.Argument(metavar="NAME", help="The limit's name.", show_default=False)]


@app.command("list")
@command()
def list_limits(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="NAME/KEY", help="Go on after this one.")] = "",
    limit: LimitOption = 100,
    rates: Annotated[bool, typer.Option("--rates", help="The keys of rate limits in their place.")] = False,
    json: JsonOption = False,
) -> None:
    """List concurrency keys, how many steps hold each and how many wait; or keys of rate limits."""
    if rates:
        _list_rates(frame, after, limit, json=json)
        return

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
        int, typer.Argument(metavar="LIMIT", help="Steps at work at once, or starts; 0 for what the code says.", min=0)
    ],
    key: Annotated[str, typer.Option(metavar="KEY", help="The key, of a limit that has several.")] = "",
    per: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Of a rate limit: the time for so many starts.", min=0)
    ] = None,
    burst: Annotated[int, typer.Option(help="Of a rate limit: more starts at once after a quiet time.", min=0)] = 0,
) -> None:
    """Let another number of steps of a key be at work at once, or start within a time, from now on."""
    if per is not None:
        _set_rate(frame, name, key, limit, per, burst)
        return

    async def act(orchestrator: Orchestrator) -> LimitInfo:
        return await orchestrator.limits.set(name, key, limit=limit or None)

    info = with_orchestrator(frame.app(), act, broker=BrokerUse.IF_REACHABLE)
    print_text(f"{info.limit} steps of {info.name}/{info.key} may be at work at once.")


def _list_rates(frame: Frame, after: str, limit: int, *, json: bool) -> None:
    async def look(orchestrator: Orchestrator) -> Sequence[RateInfo]:
        return await orchestrator.limits.rates(after=after, limit=limit)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("LIMIT", "KEY", "STARTS", "PER", "BURST", "SET", "LINE UNTIL"),
        [
            (
                each.name, each.key, each.limit, f"{each.per.total_seconds():g} s", each.burst,
                "yes" if each.is_set else "", each.line_until or "",
            )
            for each in found
        ],
    )  # fmt: skip
    if len(found) == limit:
        print_text("There may be more: go on behind the last one with --after.")


def _set_rate(frame: Frame, name: str, key: str, limit: int, per: float, burst: int) -> None:
    async def act(orchestrator: Orchestrator) -> RateInfo:
        return await orchestrator.limits.set_rate(name, key, limit=limit or None, per=per, burst=burst)

    info = with_orchestrator(frame.app(), act, broker=BrokerUse.IF_REACHABLE)
    if info.is_set:
        print_text(f"{info.limit} bodies of {info.name}/{info.key} may start per {info.per.total_seconds():g} s.")
    else:
        print_text(f"Bodies of {info.name}/{info.key} start at the rate that the code says.")


def _waiting(info: LimitInfo) -> str:
    return f"{info.waiting}+" if info.waiting == MOST_COUNTED else str(info.waiting)
