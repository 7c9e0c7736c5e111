"""docs/benchmarks.md, made of a file of results: ``python -m benchmarks page``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.contest.part_tables import measured_parts, part_table
from benchmarks.contest.sizing import LONGEST_SECONDS, SHORTENED_TIMES, SLOW_TIMES
from benchmarks.contest.tables import (
    MARKS,
    ahead_table,
    busy_workloads,
    failures_text,
    latency_table,
    limits_table,
    more_workers_table,
    processor_table,
    rates_table,
    shares_of_limits_table,
    syncs_table,
    workers_text,
)
from benchmarks.peers.arena import ROOT
from benchmarks.report import fact_lines

PAGE = ROOT / "docs" / "benchmarks.md"

WIDTH = 120
"""Of the text's lines."""

_BEGIN = """\
# Benchmarks

<!-- Made by `python -m benchmarks page` from {source}: do not edit. -->

How fast runs go here, and with what else one could have chosen, measured in one run: the same machine, broker and
databases, one contestant after the other, in rounds. Each figure is the median of {rounds} rounds, with the range of
all of them. Do it again with `make bench-peers`; `python -m benchmarks compare OLD NEW` says what changed between two
files of results beyond their noise.

## How it was measured

- A run is a chain of 3 or of 10 steps. From step to step goes an order of about 300 bytes as JSON, validated by
  pydantic; where 64 KiB are told, as much base64 besides, of random bytes, which does not compress. A step's body does
  next to nothing, or sleeps for 10 ms where that is said.
- A client in a process of its own, the same program for all, starts runs and keeps 100 or 1,000 of them in flight. The
  clock runs from its first start to the last result that it has in hand. Before, and outside of the clock, goes about a
  tenth as many runs, so that connections are there. Where there is no worker apart (†), that process runs the steps
  too. A client that blocks has as many threads as its contestant is fastest with, which are told below; one that must
  ask for a result again and again does so after 0.5 ms for each run in flight, and after 1 ms at least.
- Steps that sleep would only count the threads or processes of a worker. So Celery and Dramatiq, whose steps block,
  have 100 threads in a worker for those: as many as others have in flight.
- After each measurement every output is compared with what it must be, and the bodies of steps that ran are counted,
  in every process. One that is missing fails the contestant; repeated ones: {repeated}.
- Each contestant is configured as its manual recommends for durability: `benchmarks/peers/`, one short file for each,
  with the reasons. Results are stored. A measurement takes about {seconds:g} s, and has at least twice as many runs as
  are in flight. Where those would take more than {slow} times as long, there are as many runs as are in flight,
  measured from filling to draining; where even they would take more than {longest:g} s, there are as many as take
  about {shortened:g} s, and fewer in flight: the tables say so.
- In each round the contestants have another order. Between them, the database that was used is dropped, and PostgreSQL
  brought to a checkpoint. PostgreSQL has the settings that it comes with.
- Idle latency is that of one run at a time, {idle} of them; fewer where those would take too long.
- The client, the workers, the broker and the databases share the machine, whose load before is told below.
- What comes behind chains is of this project alone, measured {of_parts}. Where a figure stands
  without a range, there was one round of it.
"""

_LIMITS = """\
To compare with: what bare loops reach in one process without an engine, in the same rounds, on uvloop as workers are.
They prove no bound, for several processes or larger groups may reach more. A relay consumes a message, publishes it
with a confirm and acknowledges it, on quorum queues, through the driver that carries this project's messages, and
through aiormq besides; a grouped commit writes 5 keys a step, 50 steps at once."""

_BOUNDS = """\
One message carries a run, however many steps it has, and each step is committed. So the rate of a chain of n steps is
held against n times the relay or against the grouped commit, whichever is less."""


_FURTHER = """\
How many times as fast. Where client, broker and database already have all processors of the machine, a further worker
process cannot add any: the table of who had the processors tells."""

_SYNCS = """\
What reached the disk meanwhile, all workloads together. PostgreSQL counts the syncs of its log in `pg_stat_wal`. How
often Redis syncs is its `appendfsync` (above); SQLite syncs each commit (`synchronous=FULL`), which shows in the
flushes. Those are of the whole machine, the broker's among them."""

_PROCESSORS = """\
Processor time of all processes of each part, in user and kernel mode (`/proc/PID/stat`), for each step; and how much of
the machine's processors all of them had together, while it was measured. The client tells its own, without what making
and checking orders takes."""


def write_page(data: Mapping[str, Any], source: Path, page: Path = PAGE) -> Path:
    """Write the page; its pictures are those beside the results."""
    page.write_text(page_text(data, source, page), encoding="utf-8")
    return page


def page_text(data: Mapping[str, Any], source: Path, page: Path = PAGE) -> str:
    """Return the page."""
    plan = data["plan"]
    repeated = sum(row["repeated_steps"] for row in data["results"])
    begin = _BEGIN.format(
        source=_from(source, ROOT), rounds=plan["rounds"], seconds=plan["seconds"], idle=plan["idle_runs"],
        repeated=repeated or "none", of_parts=_rounds_of_parts(data), slow=SLOW_TIMES, longest=LONGEST_SECONDS,
        shortened=plan["seconds"] * SHORTENED_TIMES,
    )  # fmt: skip
    pictures = source.with_suffix("")
    parts = [
        begin + "\n" + fact_lines(data["machine"] | {"servers": data["servers"]}),
        "## Chains",
        _picture("Steps per second", pictures.with_name(f"{pictures.name}-rates.svg"), page),
    ]
    for workers in sorted({row["workers"] for row in data["results"]}):
        parts += [f"### {workers_text(workers)}", rates_table(data, workers)]
    ahead, more = ahead_table(data), more_workers_table(data)
    parts += ["### Against the best of the others", ahead] if ahead else []
    parts += ["### What a further worker process adds", _FURTHER, more] if more else []
    parts += [
        MARKS,
        "## Idle latency",
        _picture("Idle latency", pictures.with_name(f"{pictures.name}-latency.svg"), page),
        latency_table(data),
        "## Limits",
        _LIMITS,
        limits_table(data),
        _BOUNDS,
        shares_of_limits_table(data),
        "## Syncs",
        _SYNCS,
        syncs_table(data),
        "## Who had the processors",
        _PROCESSORS,
    ]
    parts += [processor_table(data, workload) for workload in busy_workloads(data)]
    pictures_of_growth = pictures.with_name(f"{pictures.name}-growth.svg")
    for part in measured_parts(data):
        parts += [f"## {part.title}", fill(part.said, WIDTH), part_table(data, part)]
    parts += [_picture("Cost by size", pictures_of_growth, page)] if data["parts"] else []
    parts += ["## The contestants", _contestants(data)]
    parts += [failures_text(data)] if data["failures"] else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _rounds_of_parts(data: Mapping[str, Any]) -> str:
    """Return in which rounds the parts besides chains were measured."""
    own = data.get("parts_plan")
    where = f"in {own['rounds']} rounds of their own on the same machine" if own else "in the same rounds"
    return f"{where};\n  cases of 100,000 in {(own or data['plan'])['large_rounds'] or 'none'} of them"


def _picture(text: str, file: Path, page: Path) -> str:
    return f"![{text}]({_from(file, page.parent)})" if file.exists() else ""


def _from(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _contestants(data: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for name, facts in data["contestants"].items():
        versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
        manual = ", ".join(f"<{page}>" if "://" in page else f"[{page}](../{page})" for page in facts["manual"])
        file = f"benchmarks/peers/{name.partition('-')[0]}.py"
        lines.append(
            f"- **{facts['title']}** ([{file}](../{file})): {facts['setting']}. {facts['durability']} {versions}."
            f" Its manual: {manual}."
        )
    return "\n".join(lines)
