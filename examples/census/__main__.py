"""``python -m examples.census``: the demo. See ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from examples.census import journal
from examples.census.cluster import ClusterOptions, run_cluster
from examples.census.embedded import run_embedded
from examples.census.listing import INSTALLED, find_command, list_sources, standard_library
from examples.census.model import Report, Survey
from examples.census.output import DEFAULT, DEFAULT_CLUSTER, FolderBusyError, Output
from examples.census.processes import WorkerFailedError
from examples.census.progress import show_report
from examples.census.servers import SERVERS, SQLITE
from floxide_amqp import FloxideError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the census that the command line asks for; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.store and not options.cluster:
        parser.error("--store is for --cluster; in one process the runs are in a SQLite file")
    survey = _survey(options)
    if not Path(survey.folder).is_dir():
        print(f"{survey.folder} is not a folder; give another --folder.", file=sys.stderr)
        return 2
    output = Output(options.output or (DEFAULT_CLUSTER if options.cluster else DEFAULT))
    logging.basicConfig(
        filename=output.folder / "census.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        with output.locked():
            code = asyncio.run(_run(options, survey, output))
    except (FloxideError, FolderBusyError, WorkerFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print(_how_to_go_on(options), flush=True)
    return code


async def _run(options: argparse.Namespace, survey: Survey, output: Output) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop_once, stop, loop, number)
    if options.cluster:
        cluster = ClusterOptions(
            workers=options.workers, store=options.store, kill_broker=options.kill_broker, compare=options.compare,
            fresh=options.fresh, delay_ms=options.delay_ms,
        )  # fmt: skip
        report, is_sound = await run_cluster(survey, output, stop, cluster)
    else:
        report = await run_embedded(survey, output, stop, fresh=options.fresh, delay_ms=options.delay_ms)
        is_sound = True
        if report is not None:
            output.write_report(report)
            show_report(report)
    if report is None:
        return INTERRUPTED
    _summarise(report, survey, output)
    return 0 if is_sound else 1


def _how_to_go_on(options: argparse.Namespace) -> str:
    if options.cluster and options.store in SERVERS:
        name, _ = SERVERS[options.store]
        return f"The {name} that was launched for it is gone, and the run with it; the same command starts anew."
    return "Run the same command again to go on where it was."


def _stop_once(stop: asyncio.Event, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
    """Stop in good order; a second signal ends the process at once."""
    stop.set()
    loop.remove_signal_handler(number)


def _summarise(report: Report, survey: Survey, output: Output) -> None:
    parsed = journal.read_parsed(output.folder)
    found = set(list_sources(survey))
    twice = sum(1 for count in parsed.values() if count > 1)
    print(f"The report, and the graph as workflow.dot and workflow.mmd, are in {_shown(output.folder)}/.")
    print(f"The same files: {find_command(survey)} | wc -l")
    print(
        f"files found: {report.totals.files} · parsed: {report.totals.parsed} · failed: {report.totals.unreadable} · "
        f"parsed twice: {twice} · missing: {len(found - parsed.keys())} (by {_shown(output.folder / journal.PARSED)})"
    )


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _survey(options: argparse.Namespace) -> Survey:
    if options.folder is None:
        standard = standard_library()
        return Survey(folder=standard.folder, skip=tuple(options.skip) or INSTALLED)
    return Survey(folder=os.path.realpath(options.folder), skip=tuple(options.skip))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.census",
        description="Count and measure the Python sources of a folder with a durable workflow. Interrupted and started "
        "again, it goes on where it was; after the end, the next census starts anew.",
    )
    add = parser.add_argument
    add("--folder", help="what to count; by default this interpreter's standard library, without what is installed")
    add("--skip", action="append", default=[], metavar="NAME", help="leave directories of this name out; repeatable")
    add("--output", type=Path, metavar="DIR", help=f"where reports and state go; {DEFAULT}, or {DEFAULT_CLUSTER}")
    add("--fresh", action="store_true", help="start anew instead of going on with an interrupted run")
    add("--delay-ms", type=int, default=0, metavar="N", help="make each parse take this much longer")
    group = parser.add_argument_group("on RabbitMQ (FLOXIDE_BROKER names one; else one is launched)")
    add = group.add_argument
    add("--cluster", action="store_true", help="worker processes on a real broker, one of them killed on the way")
    add("--workers", type=int, default=3, metavar="N", help="processes to start; 0 if workers run elsewhere")
    add(
        "--store", choices=(SQLITE, *SERVERS),
        help="where the runs are: a SQLite file, as by default (or FLOXIDE_STORE), or a server that is launched, "
        "killed on the way and started again",
    )  # fmt: skip
    add("--kill-broker", action="store_true", help="kill RabbitMQ on the way as well, and start it again")
    add("--compare", type=Path, metavar="PATH", help="report that this one must equal to the byte")
    return parser


if __name__ == "__main__":
    sys.exit(main())
