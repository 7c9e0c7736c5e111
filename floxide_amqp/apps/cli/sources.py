"""The `sources` commands: queues whose messages start runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import as_json, print_facts, print_table, print_text
from floxide_amqp.apps.cli.running import Stop, run_to_end
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.source_feeds import keep_running
from floxide_amqp.runtime.sources import SourceInfo

app = typer.Typer(
    name="sources",
    help="Queues and iterators whose items start runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SourceName = Annotated[str, typer.Argument(metavar="NAME", help="The source's name.", show_default=False)]


@app.command("list")
@command()
def list_sources(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="NAME", help="Go on after this one.")] = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List sources by their names, with what became of their items."""

    async def look(orchestrator: Orchestrator) -> Sequence[SourceInfo]:
        return await orchestrator.sources.list(after=after, limit=limit)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("NAME", "WORKFLOW", "FROM", "RECEIVED", "STARTED", "DUPLICATES", "UNUSABLE", "LATEST", "STATE"),
        [
            (
                each.name, each.workflow, each.origin, each.received, each.started, each.duplicates,
                each.quarantined + each.rejected, each.latest_at, _state(each),
            )
            for each in found
        ],
    )  # fmt: skip
    if len(found) == limit:
        print_text(f"There may be more: --after '{found[-1].name}'")


@app.command("show")
@command()
def show(frame: Frame, *, name: SourceName, json: JsonOption = False) -> None:
    """Show a source: what became of its items, and what keeps it from them."""

    async def look(orchestrator: Orchestrator) -> tuple[SourceInfo, int]:
        return await orchestrator.sources.get(name), await orchestrator.sources.open_runs(name)

    info, open_runs = look_at(frame.app(), look)
    if json:
        print_text(as_json(info))
        return
    paused = f"yes ({info.note})" if info.note else "yes"
    print_facts([
        ("source", info.name), ("workflow", f"{info.workflow}@{info.version}"), ("from", info.origin),
        ("paused", paused if info.paused else None), ("received", info.received), ("started", info.started),
        ("duplicates", info.duplicates), ("quarantined", info.quarantined or None), ("rejected", info.rejected or None),
        ("runs not over", open_runs or None), ("position", info.position or None), ("latest item", info.latest_at),
        ("problem", info.problem or None), ("since", info.problem_at), ("met by", info.problem_worker or None),
    ])  # fmt: skip


@app.command("pause")
@command()
def pause(
    frame: Frame,
    *,
    name: SourceName,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is shown.")] = "",
) -> None:
    """Take no more items until it is resumed.

    Runs that have begun go on, and what waits stays in its queue.
    """

    async def act(orchestrator: Orchestrator) -> None:
        await orchestrator.sources.pause(name, reason=reason)

    with_orchestrator(frame.app(), act, broker=BrokerUse.NONE)
    print_text(f"Source {name} is paused.")


@app.command("resume")
@command()
def resume(frame: Frame, *, name: SourceName) -> None:
    """Take items again."""

    async def act(orchestrator: Orchestrator) -> None:
        await orchestrator.sources.resume(name)

    with_orchestrator(frame.app(), act, broker=BrokerUse.NONE)
    print_text(f"Source {name} takes items again.")


@app.command("run")
@command()
def run(frame: Frame, *, name: SourceName) -> None:
    """Start runs of a source's items until SIGTERM or Ctrl-C, without working on them.

    For sources that are declared with run_by_workers=False, or beside workers that run them too.
    """
    app = frame.app(patience=None)

    async def main(stop: Stop) -> None:
        async with app.source(name) as feed:
            stop.instead(feed.stop)
            await keep_running(feed)

    run_to_end(main)


def _state(info: SourceInfo) -> str:
    if info.paused:
        return "paused"
    return "has a problem" if info.problem else "runs"
