"""The command that moves the runs of a store to other servers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from floxide_amqp.apps.cli.failures import UsageError, explaining
from floxide_amqp.apps.cli.printing import print_table, print_text
from floxide_amqp.apps.cli.store_stats import in_units
from floxide_amqp.apps.settings import STORE_VARIABLE, read_settings
from floxide_amqp.apps.stores import (
    check_is_there,
    check_location,
    is_memory,
    is_there,
    open_another,
    shards_of,
)
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.stores.places import ALONE
from floxide_amqp.stores.resharding import WATCH_SECONDS, Move, plan
from floxide_amqp.stores.resharding import reshard as move_runs

LONGEST_WATCH: Final = 3600.0
"""Seconds for which heartbeats can be watched."""


def reshard(
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="SHARDS", help="The servers the store is to have: 'a=URL b=URL …'.", show_default=False
        ),
    ],
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help=f"The store as it is, instead of {STORE_VARIABLE}.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would move; nothing is changed.")] = False,
    watch: Annotated[
        float,
        typer.Option(
            "--watch", min=0.1, max=LONGEST_WATCH, metavar="SECONDS",
            help="How long heartbeats are watched, longer than between two of a worker.",
        ),
    ] = WATCH_SECONDS,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:  # fmt: skip
    """Move the runs of a store to other servers: from one to several, to more, or to fewer. Stop all workers before.

    A server that stays keeps its name and its URL. Nobody can use the store until this has ended; if it is interrupted,
    do it again, with the same options. Afterwards name the new servers to workers and clients.
    """
    with explaining(debug=debug):
        location = store or read_settings().store
        sources, targets = _shards(location), shards_of(to)
        if targets is None:
            raise UsageError("Name the servers the store is to have, each with its shard's name: --to 'a=URL b=URL'.")
        if any(map(is_memory, targets.values())):
            raise UsageError("Runs cannot move into memory, where they end with this process.")
        check_location(location)
        check_location(targets)
        check_is_there(location)
        with _progress() as on_progress:
            moves = asyncio.run(_act(sources, targets, watch, on_progress, dry_run=dry_run))
        _tell(moves, dry_run=dry_run)


def _shards(location: str | None) -> Mapping[str, str]:
    if location is None or is_memory(location):
        raise UsageError(f"Which store? Give --store, or set {STORE_VARIABLE}.")
    return shards_of(location) or {ALONE: location}


async def _act(
    sources: Mapping[str, str],
    targets: Mapping[str, str],
    watch: float,
    on_progress: Callable[[int, int], None],
    *,
    dry_run: bool,
) -> Sequence[Move]:
    clock = SystemClock()
    async with _open({*sources.values(), *targets.values()}, makes=not dry_run) as opened:
        here = {name: opened[url] for name, url in sources.items()}
        there = ShardedKeyValueStore({name: opened[url] for name, url in targets.items()})
        if dry_run:
            return await plan(here, there, clock)
        return await move_runs(here, there, clock, watch_seconds=watch, on_progress=on_progress)


@asynccontextmanager
async def _open(urls: set[str], *, makes: bool) -> AsyncGenerator[Mapping[str, KeyValueStore]]:
    """Open each server once; where none is to be made, memory stands for one that is not there."""
    async with AsyncExitStack() as stack:
        opened: dict[str, KeyValueStore] = {}
        for url in sorted(urls):
            opened[url] = await open_another(url if makes or is_there(url) else None)
            stack.push_async_callback(opened[url].aclose)
        yield opened


def _tell(moves: Sequence[Move], *, dry_run: bool) -> None:
    runs = sum(move.runs for move in moves)
    if moves:
        print_table(
            ("FROM", "TO", "RUNS", "BYTES"),
            [(move.source, move.target, move.runs, in_units(move.bytes)) for move in moves],
        )
        print_text("")
    count = f"{runs} run{'' if runs == 1 else 's'}"
    if dry_run:
        print_text(f"{count} would move. Nothing was changed.")
    else:
        print_text(f"{count} moved. The store has new servers: name them to workers and clients from now on.")


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """Show how far it is, where somebody looks at a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("moving runs", total=None)
        yield lambda done, runs: progress.update(task, completed=done, total=runs)
