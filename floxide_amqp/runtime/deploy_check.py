"""What would break if this application took over the open runs of a store: asked before a deploy, nothing is written.

Each open run is read, and what is stored of it decoded with this application's types: the inputs of its live items,
what arrived at their joins, what signals brought, its context. A run of a version that is not here is checked as the
policy of the newest version says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import UnknownWorkflowError
from floxide_amqp.runtime.deploy_checker import UNREADABLE, Checker, Found, OpenRun, told
from floxide_amqp.runtime.runs_by_status import OPEN, list_by_status
from floxide_amqp.runtime.services import Services

PAGE: Final = 500
"""Runs listed in one round trip."""

TOLD_EVERY: Final = 500
"""Runs after which the progress is told."""

MOST_EXAMPLES: Final = 5
"""Runs that are named of those with the same problem."""


@dataclass(slots=True, kw_only=True)
class Problem:
    """What would break, or be lost, and of how many runs.

    Attributes:
        node: The node; empty where it is the run as a whole.
        reason: Why.
        runs: How many runs.
        examples: Some of them.
    """

    workflow: str
    version: str
    node: str
    reason: str
    runs: int = 0
    examples: list[str] = field(default_factory=list[str])


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What a check came to.

    Attributes:
        runs: Open runs that were checked.
        broken: Runs of which something would break.
        checked: Runs by workflow and version, as ``name@version``.
        breaks: What would break, the most frequent first.
        losses: Fields that nobody would read any more.
        of_others: Runs, likewise by workflow and version, that were not checked: the workers that have their workflow
            have none of this application's.
    """

    runs: int = 0
    broken: int = 0
    checked: Counter[str] = field(default_factory=Counter[str])
    breaks: list[Problem] = field(default_factory=list[Problem])
    losses: list[Problem] = field(default_factory=list[Problem])
    of_others: Counter[str] = field(default_factory=Counter[str])


async def check_deploy(
    services: Services, *, workflow: str | None = None, on_progress: Callable[[int], None] | None = None
) -> CheckReport:
    """Check every open run against this application.

    Args:
        services: The process's parts.
        workflow: Only runs of this workflow.
        on_progress: Told, now and then, how many runs were checked.

    Raises:
        UnknownWorkflowError: This application has no such workflow, and no open run is of it.
    """
    checker, report, tally = Checker(services), CheckReport(), _Tally()
    async for each in _open_runs(services, workflow):
        version = f"{each.workflow}@{each.version}"
        if await checker.is_of_others(each.workflow):
            report.of_others[version] += 1
            continue
        found = await checker.problems_of(each)
        report.runs += 1
        report.broken += bool(found.breaks)
        report.checked[version] += 1
        tally.add(each, found)
        if on_progress is not None and report.runs % TOLD_EVERY == 0:
            on_progress(report.runs)
    known = tuple(sorted(checker.names))
    if workflow is not None and workflow not in known and not report.runs and not report.of_others:
        raise UnknownWorkflowError(workflow=workflow, known=known)
    report.breaks, report.losses = _by_runs(tally.breaks), _by_runs(tally.losses)
    return report


async def _open_runs(services: Services, workflow: str | None) -> AsyncGenerator[OpenRun]:
    """Yield open runs; one whose status changes meanwhile may come twice or not."""
    names = {name for name, _ in services.registry.graphs}
    async for listed in list_by_status(services.session, OPEN, page=PAGE):
        found = await _read(services, listed.run_id, listed.version, names)
        if found is not None and workflow in (None, found.workflow):
            yield found


async def _read(
    services: Services, run_id: RunId, listed: tuple[str, str] | None, names: AbstractSet[str]
) -> OpenRun | None:
    """Read a run, unless the list says that its workflow is not here; None where it is gone."""
    workflow, version = listed or ("", "")
    if listed is not None and workflow not in names:
        return OpenRun(run_id=run_id, workflow=workflow, version=version)
    try:
        run = await services.runs.find(run_id)
    except UNREADABLE as error:
        return OpenRun(run_id=run_id, workflow=workflow, version=version, problem=told(error))
    if run is None:
        return None
    return OpenRun(run_id=run_id, workflow=run.header.workflow, version=run.header.version, run=run)


@dataclass(slots=True)
class _Tally:
    """What was found so far, the runs with the same problem together."""

    breaks: dict[tuple[str, ...], Problem] = field(default_factory=dict[tuple[str, ...], Problem])
    losses: dict[tuple[str, ...], Problem] = field(default_factory=dict[tuple[str, ...], Problem])

    def add(self, run: OpenRun, found: Found) -> None:
        for table, problems in ((self.breaks, found.breaks), (self.losses, found.losses)):
            for node, reason in sorted(problems):
                new = Problem(workflow=run.workflow, version=run.version, node=node, reason=reason)
                problem = table.setdefault((run.workflow, run.version, node, reason), new)
                problem.runs += 1
                if len(problem.examples) < MOST_EXAMPLES:
                    problem.examples.append(run.run_id)


def _by_runs(problems: Mapping[tuple[str, ...], Problem]) -> list[Problem]:
    return sorted(problems.values(), key=lambda problem: -problem.runs)
