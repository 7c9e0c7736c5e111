"""Checks a census from outside: ``python -m examples.census.check [OUTPUT]``.

It reads the store's history, item by item, and the side files that the nodes wrote, and lists the folder again. What
the engine counts of itself it does not ask.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.census import journal
from examples.census.application import make_app
from examples.census.listing import list_sources
from examples.census.model import Survey
from examples.census.output import DEFAULT_CLUSTER, Note, Output
from examples.census.reporting import to_json
from examples.census.workflow import CodeCensus
from floxide_amqp import FloxideError, Orchestrator, RunStatus, WorkItemStatus
from floxide_amqp.runtime.views import WorkItemInfo

PAGE = 1_000
"""Items read at a time."""

SHOWN = 3
"""Examples given of what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    is_good: bool


async def check_census(output: Output, *, must_kill: bool = False, compare: Path | None = None) -> list[Finding]:
    """Check the last census of an output folder.

    Args:
        output: The folder.
        must_kill: Whether a worker was to be killed on the way.
        compare: A report that must be equal to the byte.
    """
    note = output.read_note()
    if note is None:
        return [Finding(what="census in the folder", found="none", is_good=False)]
    app = make_app(broker=None, store=note.store)
    async with app.orchestrator(with_worker=False) as orchestrator:
        check = _Check(output, note, await ended_items(orchestrator, note.run_id))
        await check.run(orchestrator)
        check.items()
        check.side_files()
        check.killed(must_kill=must_kill)
        if compare is not None:
            check.compare(compare)
    return check.findings


async def ended_items(orchestrator: Orchestrator, run_id: str) -> list[WorkItemInfo]:
    """Return every line of the run's history."""
    ended: list[WorkItemInfo] = []
    while True:
        page = await orchestrator.work_items(run_id, start=len(ended), limit=PAGE)
        lines = [item for item in page if item.ended_at is not None]
        ended += lines
        if len(lines) < PAGE:
            return ended


class _Check:
    def __init__(self, output: Output, note: Note, ended: Sequence[WorkItemInfo]) -> None:
        self.findings: list[Finding] = []
        self._output = output
        self._note = note
        self._ended = ended
        self._measured = [item for item in ended if item.node == "measure"]
        self._started = journal.read_started(output.folder)
        self._path_of = {begun.item_id: begun.path for begun in self._started}
        self._files = list_sources(Survey(folder=note.folder, skip=note.skip))

    async def run(self, orchestrator: Orchestrator) -> None:
        """The run's end, and that its report is whole."""
        run_id = self._note.run_id
        status = await orchestrator.status(run_id)
        self._add(f"run {run_id}", status.value, status is RunStatus.COMPLETED)
        live = await orchestrator.pending_work(run_id)
        self._add("items left over", str(len(live)), not live)
        if status is not RunStatus.COMPLETED:
            return
        report = await orchestrator.handle(CodeCensus, run_id).result(timeout=0)
        totals = report.totals
        is_whole = totals.files == len(self._files) == totals.parsed + totals.unreadable
        self._add("files in the report", f"{totals.files:,} of {len(self._files):,}", is_whole)
        context = await orchestrator.context(CodeCensus, run_id)
        self._add(
            "lines, added up in the context", f"{context.lines:,} of {totals.lines:,}",
            context.lines == totals.lines,
        )  # fmt: skip
        if self._output.report_json.exists():
            is_same = self._output.report_json.read_text(encoding="utf-8") == to_json(report)
            self._add("report.json", "as stored" if is_same else "differs from the stored report", is_same)

    def items(self) -> None:
        """That every file has one item, which ended once."""
        ends = Counter(item.item_id for item in self._ended)
        twice = [item_id for item_id, count in ends.items() if count > 1]
        self._add("items that ended more than once", self._examples(twice), not twice)
        paths = Counter(self._path_of.get(item_id, "?") for item_id in {item.item_id for item in self._measured})
        missing = sorted(set(self._files) - paths.keys())
        self._add("files whose parse ended", f"{len(paths):,} of {len(self._files):,}", not missing)
        if missing:
            self._add("files never parsed", self._examples(missing), False)
        wrong = sorted(path for path, count in paths.items() if count != 1 or path not in set(self._files))
        self._add("files with several items, or unknown", self._examples(wrong), not wrong)
        failed = {item.item_id for item in self._measured if item.status is WorkItemStatus.FAILED}
        aside = Counter(item.parent for item in self._ended if item.node == "set_aside")
        is_good = aside == Counter(failed)
        self._add("unparsable files set aside once", f"{len(aside):,} of {len(failed):,}", is_good)

    def side_files(self) -> None:
        """That the observer outside saw the same."""
        parsed = journal.read_parsed(self._output.folder)
        missing = sorted(set(self._files) - parsed.keys())
        self._add("files in the side file", f"{len(parsed):,} of {len(self._files):,}", not missing)
        twice = sum(1 for count in parsed.values() if count > 1)
        self._add("files parsed more than once", f"{twice:,}", True)

    def killed(self, *, must_kill: bool) -> None:
        """That what a killed worker had in its hands was done by others."""
        if must_kill:
            self._add("workers killed", str(len(self._note.killed)), bool(self._note.killed))
        done_by = {item.item_id: item.owner for item in self._measured}
        for worker in self._note.killed:
            begun = {each.item_id for each in self._started if each.worker_id == worker}
            lost = {item_id for item_id in begun if done_by.get(item_id) != worker}
            by_others = [item_id for item_id in lost if done_by.get(item_id, worker) != worker]
            is_good = bool(lost) and len(by_others) == len(lost)
            told = f"left {len(lost):,} of {len(begun):,} begun; {len(by_others):,} of them done by others"
            self._add(f"killed {worker}", told, is_good)

    def compare(self, other: Path) -> None:
        """That another census of the same files reports the same, to the byte."""
        if not other.exists() or not self._output.report_json.exists():
            self._add(f"compared with {other}", "there is no such report", False)
            return
        is_same = other.read_bytes() == self._output.report_json.read_bytes()
        self._add(f"compared with {other}", "byte-identical" if is_same else "different", is_same)

    def _examples(self, wrong: Sequence[str]) -> str:
        if not wrong:
            return "0"
        more = ", …" if len(wrong) > SHOWN else ""
        return f"{len(wrong):,}: {', '.join(wrong[:SHOWN])}{more}"

    def _add(self, what: str, found: str, is_good: bool) -> None:
        self.findings.append(Finding(what=what, found=found, is_good=is_good))


def show_findings(findings: Sequence[Finding]) -> None:
    """Print the findings as a table."""
    table = Table(
        "looked at", "found", "", title="Check of the store's history and the side files", title_justify="left"
    )
    for finding in findings:
        table.add_row(finding.what, finding.found, "ok" if finding.is_good else "VIOLATED")
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Check what the command line names; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m examples.census.check", description="Check a finished census.")
    parser.add_argument("output", type=Path, nargs="?", default=DEFAULT_CLUSTER, help="the census's output folder")
    parser.add_argument("--compare", type=Path, metavar="PATH", help="report that must be equal to the byte")
    options = parser.parse_args(arguments)
    if not options.output.is_dir():
        print(f"{options.output} is not a folder.", file=sys.stderr)
        return 2
    try:
        findings = asyncio.run(check_census(Output(options.output), compare=options.compare))
    except FloxideError as error:
        print(error, file=sys.stderr)
        return 1
    show_findings(findings)
    return 0 if all(finding.is_good for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
