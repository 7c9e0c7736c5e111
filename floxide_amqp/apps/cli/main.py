"""The command's tree and its entry point."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from floxide_amqp.apps.cli import (
    acting,
    bulk,
    children,
    dead_letters,
    deleting,
    following,
    limits,
    looking,
    moving,
    parked,
    resharding,
    schedules,
    signalling,
    sources,
    steering,
    store,
    store_stats,
    unreadable,
    versions,
    workers,
)
from floxide_amqp.apps.cli.printing import print_text

app = typer.Typer(
    name="floxide",
    no_args_is_help=True,
    rich_markup_mode=None,  # errors stay one paragraph, also in a log
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("run")(acting.run)
app.command("worker")(acting.worker)
app.command("start")(acting.start)
app.command("status")(looking.status)
app.command("list")(looking.list_runs)
app.command("cancel")(acting.cancel)
app.command("pause")(acting.pause)
app.command("resume")(acting.resume)
app.command("terminate")(steering.terminate)
app.command("retry")(steering.retry)
app.command("fork")(steering.fork)
app.command("complete")(steering.complete)
app.command("edit-context")(steering.edit_context)
app.command("audit")(steering.audit)
app.command("signal")(signalling.signal)
app.command("delete")(deleting.delete)
app.command("export")(moving.export_run)
app.command("import")(moving.import_run)
app.command("items")(looking.items)
app.command("children")(children.children)
app.command("errors")(looking.errors)
app.command("events")(following.events)
app.command("graph")(looking.graph)
app.command("versions")(versions.versions)
app.command("check")(versions.check)
app.command("workers")(workers.workers)


def _tell_version(asked: bool) -> None:
    if asked:
        print_text(f"floxide {version('floxide-amqp')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version and exit.")
    ] = False,
) -> None:
    """Durable, typed workflows: run them here, work for others, start, steer and look at runs."""


quarantine = typer.Typer(
    name="quarantine", help="Messages that nobody could read.", no_args_is_help=True, rich_markup_mode=None
)
quarantine.command("list")(unreadable.quarantine_list)
quarantine.command("show")(unreadable.quarantine_show)
app.add_typer(quarantine)
app.add_typer(dead_letters.app)
app.add_typer(bulk.app)
app.add_typer(schedules.app)
app.add_typer(sources.app)
app.add_typer(limits.app)
app.add_typer(parked.app)
store.app.command("stats")(store_stats.stats)
store.app.command("reshard")(resharding.reshard)
app.add_typer(store.app)


def main() -> None:
    """Do what the command line says and exit with a code that `docs/cli.md` explains."""
    app()
