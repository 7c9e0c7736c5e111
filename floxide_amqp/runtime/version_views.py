"""The versions of workflows as shown to people: how many open runs each has, who serves it, what is parked.

Counted over the lists of open runs, page by page, without reading them: each entry says its workflow and version. Of
what is parked it is looked up whether its run is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.instants import at
from floxide_amqp.core.set_aside import SET_ASIDE_PREFIX
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.versions import VersionPolicy, is_newer, version_order
from floxide_amqp.runtime import queries
from floxide_amqp.runtime.open_runs import PAGE as RUNS_AT_ONCE
from floxide_amqp.runtime.open_runs import over_of
from floxide_amqp.runtime.runs_by_status import MAY_GO_ON, list_by_status
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.set_aside_items import known_queues
from floxide_amqp.runtime.views import Liveness

MOST_PARKED: Final = 10_000
"""Parked items of a task queue that are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """One version of a workflow.

    Attributes:
        workflow: The workflow's name.
        version: The version.
        runs: How many runs of it have which status, of those that may go on: pending, running (some of them may wait),
            paused, compensating, and failed ones, which somebody may resume.
        since: When the oldest of its open runs was started; None where it has none.
        workers: The live workers that have it.
        newer_workers: The live workers that do not, and whose newer version goes on with its runs: by the policy that
            this application knows of that version.
        is_here: Whether this application has it.
        parked: Items of it that wait for a worker that can run them.
        set_aside: Items of it that wait for somebody to requeue them.
    """

    workflow: str
    version: str
    runs: dict[str, int] = field(default_factory=dict[str, int])
    since: datetime | None = None
    workers: tuple[str, ...] = ()
    newer_workers: tuple[str, ...] = ()
    is_here: bool = False
    parked: int = 0
    set_aside: int = 0

    @property
    def open_runs(self) -> int:
        """How many runs have not ended."""
        return sum(number for status, number in self.runs.items() if status != RunStatus.FAILED.value)


@dataclass(slots=True)
class _Counted:
    """What was counted so far, by workflow and version."""

    runs: dict[tuple[str, str], Counter[str]] = field(default_factory=dict[tuple[str, str], Counter[str]])
    oldest: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def add(self, version: tuple[str, str], status: RunStatus, created_at_ms: int) -> None:
        self.runs.setdefault(version, Counter())[status.value] += 1
        if status is not RunStatus.FAILED:
            self.oldest[version] = min(self.oldest.get(version, created_at_ms), created_at_ms)


async def list_versions(services: Services, *, workflow: str | None = None) -> Sequence[VersionInfo]:
    """Return the versions of workflows that have open runs, that workers serve or that this application has.

    Args:
        services: The process's parts.
        workflow: Only versions of this workflow.
    """
    counted = await _count_runs(services)
    served = await _served(services)
    parked, aside = await _count_parked(services)
    here = set(services.registry.graphs)
    known = {*counted.runs, *served, *parked, *aside, *here}
    return [
        VersionInfo(
            workflow=each[0], version=each[1], runs=dict(counted.runs.get(each, {})),
            since=at(counted.oldest[each]) if each in counted.oldest else None,
            workers=tuple(sorted(served.get(each, ()))), newer_workers=_newer_workers(services, each, served),
            is_here=each in here, parked=parked[each], set_aside=aside[each],
        )
        for each in sorted(known, key=lambda one: (one[0], version_order(one[1]), one[1]))
        if workflow is None or each[0] == workflow
    ]  # fmt: skip


async def _served(services: Services) -> Mapping[tuple[str, str], set[str]]:
    """Return which live workers have which version."""
    served: dict[tuple[str, str], set[str]] = {}
    for worker in await queries.workers(services):
        if worker.liveness is not Liveness.DEAD:
            for name in worker.workflows:
                workflow, _, version = name.rpartition("@")
                served.setdefault((workflow, version), set()).add(worker.worker_id)
    return served


def _newer_workers(
    services: Services, asked: tuple[str, str], served: Mapping[tuple[str, str], AbstractSet[str]]
) -> tuple[str, ...]:
    """Return the workers that lack a version, and go on with its runs by the newest one that they have."""
    workflow, version = asked
    newest: dict[str, str] = {}
    for (of, other), workers in served.items():
        if of == workflow:
            newest |= {each: other for each in workers if is_newer(other, newest.get(each, version))}
    graphs, own = services.registry.graphs, served.get(asked, frozenset[str]())
    going_on = {
        worker
        for worker, other in newest.items()
        if (graph := graphs.get((workflow, other))) is not None and graph.options.versions is not VersionPolicy.STRICT
    }
    return tuple(sorted(going_on - own))


async def _count_runs(services: Services) -> _Counted:
    counted = _Counted()
    async for listed in list_by_status(services.session, MAY_GO_ON):
        version = listed.version or await _read_version(services, listed.run_id)
        if version is not None:
            counted.add(version, listed.status, listed.created_at_ms)
    return counted


async def _read_version(services: Services, run_id: RunId) -> tuple[str, str] | None:
    """Return the version of a run whose entry does not say it."""
    run = await services.runs.find(run_id)
    return None if run is None else (run.header.workflow, run.header.version)


async def _count_parked(services: Services) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Count by workflow and version what is parked, and what is set aside, of runs that are not over."""
    parked, aside = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for queue in await known_queues(services):
        found = await services.indexes.parked(queue, limit=MOST_PARKED)
        over = await _over(services, {each.place.run_id for each in found})
        for each in found:
            if each.place.run_id in over:
                continue
            workflow, version, _ = each.kind
            if workflow.startswith(SET_ASIDE_PREFIX):
                aside[workflow.removeprefix(SET_ASIDE_PREFIX), version] += 1
            elif workflow:  # else it waits for a key
                parked[workflow, version] += 1
    return parked, aside


async def _over(services: Services, run_ids: set[RunId]) -> set[RunId]:
    """Return those of some runs that are over: their entries go when the run is deleted."""
    listed, over = list(run_ids), set[RunId]()
    for first in range(0, len(listed), RUNS_AT_ONCE):
        over.update(await over_of(services, listed[first : first + RUNS_AT_ONCE]))
    return over
