"""The command that counts what a store holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from floxide_amqp.apps.cli.failures import UsageError, explaining
from floxide_amqp.apps.cli.printing import as_json, print_facts, print_table, print_text, shown
from floxide_amqp.apps.settings import STORE_VARIABLE, read_settings
from floxide_amqp.apps.stores import check_is_there, check_location, is_memory, open_store
from floxide_amqp.core.instants import at
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.stores.sharded_session import session_with
from floxide_amqp.stores.statistics import StoreStatistics, survey

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def stats(
    *,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help=f"The store, instead of {STORE_VARIABLE}.")
    ] = None,
    largest: Annotated[int, typer.Option(min=0, max=1000, metavar="N", help="How many of the largest runs.")] = 10,
    as_json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Count what a store holds: runs by status, records and bytes by kind, the oldest open run, the largest runs.

    It reads through the whole store, without the values, while others work; on a terminal it shows how far it is.
    Sizes are of values and index entries, without what the server adds: the file or the tables are larger.
    """
    with explaining(debug=debug):
        location = store or read_settings().store
        if location is None or is_memory(location):
            raise UsageError(f"Which store? Give --store, or set {STORE_VARIABLE}.")
        check_location(location)
        check_is_there(location)
        with _progress() as on_progress:
            found = asyncio.run(_survey(location, largest, on_progress))
        if as_json_:
            print_text(as_json(_plain(found)))
        else:
            _print(found)


async def _survey(location: str, largest: int, on_progress: Callable[[int, int], None]) -> StoreStatistics:
    async with open_store(location) as opened:
        session = session_with(opened, SystemClock())
        return await survey(session, largest=largest, on_progress=on_progress)


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """Show how far it is, where somebody looks at a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, steps: progress.update(task, completed=done, total=steps)


def _plain(found: StoreStatistics) -> dict[str, object]:
    oldest = found.oldest_open
    return {
        "runs": found.runs,
        "kinds": dict(found.kinds),
        "total": found.total,
        "oldest_open": None
        if oldest is None
        else {
            "run_id": oldest.run_id,
            "status": oldest.status.value,
            "created_at": at(oldest.created_at_ms),
        },
        "largest": found.largest,
    }


def _print(found: StoreStatistics) -> None:
    oldest = found.oldest_open
    facts: list[tuple[str, object]] = [(f"runs {status}", count) for status, count in found.runs.items()]
    if oldest is not None:
        started = shown(at(oldest.created_at_ms))
        facts.append(("oldest open run", f"{oldest.run_id}, {oldest.status.value}, started {started}"))
    print_facts(facts or [("runs", 0)])
    print_text("")
    kinds = sorted(found.kinds.items(), key=lambda kind: (-kind[1].bytes, kind[0]))
    rows = [(name, amount.records, in_units(amount.bytes)) for name, amount in (*kinds, ("total", found.total))]
    print_table(("KIND", "RECORDS", "BYTES"), rows)
    if found.largest:
        print_text("")
        print_table(
            ("LARGEST RUNS", "RECORDS", "BYTES"),
            [(run.run_id, run.records, in_units(run.bytes)) for run in found.largest],
        )


def in_units(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {UNITS[unit]}"
