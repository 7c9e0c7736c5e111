"""The `limits` commands: concurrency keys and rate limits, who holds or waits for them, and how many may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import say
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.runtime.limit_views import MOST_COUNTED, LimitInfo, RateInfo
from floxide_amqp.runtime.orchestrator import Orchestrator

app = typer.Typer(
    name="limits", help="How many steps or runs hold a concurrency key at once, and rates at which bodies start.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip

LimitName = Annotated[str, typer.Argument(metavar="NAME", help="The limit's name.", show_default=False)]


@app.command("list")
@command()
def list_limits(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on after this one: name/key.")] = "",
    limit: LimitOption = 100,
    rates: Annotated[bool, typer.Option("--rates", help="The keys of rate limits in their place.")] = False,
    json: JsonOption = False,
) -> None:
    """List concurrency keys, how many steps or runs hold each and how many wait; or keys of rate limits."""
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
        print_text(f"There may be more: go on with --after '{found[-1].id}'.")


@app.command("set")
@command()
def set_limit(
    frame: Frame,
    *,
    name: LimitName,
    limit: Annotated[
        int, typer.Argument(metavar="LIMIT", help="Holders at once, or starts; 0 for what the code says.", min=0)
    ],
    key: Annotated[str, typer.Option(metavar="KEY", help="The key, of a limit that has several.")] = "",
    per: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Of a rate limit: the time for so many starts; as it is now if left out.", min=0
        ),
    ] = None,
    burst: Annotated[
        int | None, typer.Option(help="Of a rate limit: more starts at once after a quiet time.", min=0)
    ] = None,
) -> None:
    """Let another number of steps or runs hold a key at once, or of steps start within a time, from now on."""

    async def act(orchestrator: Orchestrator) -> LimitInfo | RateInfo:
        if per is not None or burst is not None or orchestrator.limits.is_rate(name):
            return await orchestrator.limits.set_rate(name, key, limit=limit or None, per=per, burst=burst)
        return await orchestrator.limits.set(name, key, limit=limit or None)

    shop = frame.app()
    info = with_orchestrator(shop, act, broker=BrokerUse.IF_REACHABLE)
    if doubt := _doubt(shop, frame.reference, name, key):
        say(doubt)
    if isinstance(info, LimitInfo):
        print_text(f"{info.limit} may hold {info.name}/{info.key} at once.")
    elif info.is_set:
        print_text(f"{info.limit} bodies of {info.name}/{info.key} may start per {info.per.total_seconds():g} s.")
    else:
        print_text(f"Bodies of {info.name}/{info.key} start at the rate that the code says.")


def _doubt(shop: Floxide, reference: str, name: str, key: str) -> str:
    """Say what makes it likely that nobody asks for a key of this name, if anything does."""
    graphs = shop.registry.graphs.values()
    options = [node.options for graph in graphs for node in graph.nodes.values()]
    given = [*(graph.options.concurrency for graph in graphs), *(each.concurrency for each in options)]
    known = [each for each in (*given, *(each.rate for each in options)) if each is not None]
    keyed = {each.key is not None for each in known if each.name == name}
    if not keyed:
        names = ", ".join(sorted({each.name for each in known})) or "none"
        return f"Nothing in {reference} has a limit {name!r}; it has: {names}. What was set is kept all the same."
    if keyed == {True} and not key:
        return f"Limit {name!r} has a key for each step or run, and this sets the empty one alone: name one with --key."
    if keyed == {False} and key:
        return f"All that limit {name!r} is for share one key, which is not {key!r}: leave --key out."
    return ""


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
        print_text(f"There may be more: go on with --after '{found[-1].id}'.")


def _waiting(info: LimitInfo) -> str:
    return f"{info.waiting}+" if info.waiting == MOST_COUNTED else str(info.waiting)
