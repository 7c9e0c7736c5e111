"""The commands that look after a store itself, whatever applications use it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from floxide_amqp.apps import stores
from floxide_amqp.apps.cli.failures import ExitCode, UsageError, explaining, say
from floxide_amqp.apps.cli.printing import print_facts, print_text
from floxide_amqp.apps.settings import STORE_VARIABLE, read_settings
from floxide_amqp.apps.stores import check_location, examine, is_memory, urls_of
from floxide_amqp.drivers.store_report import StoreReport

app = typer.Typer(
    name="store", help="Look after a store: check it, migrate it.", no_args_is_help=True, rich_markup_mode=None
)

StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help=f"The store, instead of {STORE_VARIABLE}.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print tracebacks.")]


@app.command()
def check(*, store: StoreOption = None, debug: DebugOption = False) -> None:
    """Tell whether workers can use a store: its server, its tables, the user's rights, and what commits survive.

    Nothing is changed. Of a store over several servers, each is told.
    """
    with explaining(debug=debug):
        problems = [problem for url in _urls(store) for problem in _tell(asyncio.run(examine(url)))]
        raise typer.Exit(ExitCode.CONFIGURATION if problems else ExitCode.OK)


@app.command()
def migrate(*, store: StoreOption = None, debug: DebugOption = False) -> None:
    """Bring a store's tables to the version of this release; there is no way back but a backup.

    It is one transaction: it is done whole, or nothing is changed. Several at once wait for each other. A store that is
    up to date is left alone.
    """
    with explaining(debug=debug):
        for url in _urls(store):
            print_text(asyncio.run(stores.migrate(url)))


def _urls(given: str | None) -> list[str]:
    location = given or read_settings().store
    if is_memory(location):
        raise UsageError(f"Which store? Give --store, or set {STORE_VARIABLE}.")
    check_location(location)
    return urls_of(location)


def _tell(report: StoreReport) -> tuple[str, ...]:
    """Print a report and return its problems."""
    print_facts(report.facts)
    for text in (*report.warnings, *report.problems):
        say(text)
    return report.problems
