"""The versions of workflows as shown to people: how many open runs each has, who serves it, what is parked.

Counted over the lists of open runs, page by page, without reading a run: each entry says its workflow and version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.set_aside import SET_ASIDE_PREFIX
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.versions import version_order
from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.runtime import queries
from floxide_amqp.runtime.described import MAY_GO_ON, PAGE
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.set_aside_items import known_queues
from floxide_amqp.runtime.views import Liveness, at
from floxide_amqp.stores import keys

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
        is_here: Whether this application has it.
        parked: Items of it that wait for a worker that can run them.
        set_aside: Items of it that wait for somebody to requeue them.
    """

    workflow: str
    version: str
    runs: dict[str, int] = field(default_factory=dict[str, int])
    since: datetime | None = None
    workers: tuple[str, ...] = ()
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
    served: dict[tuple[str, str], list[str]] = {}
    for worker in await queries.workers(services):
        if worker.liveness is not Liveness.DEAD:
            for name in worker.workflows:
                of, _, version = name.rpartition("@")
                served.setdefault((of, version), []).append(worker.worker_id)
    parked, aside = await _count_parked(services)
    here = set(services.registry.graphs)
    known = {*counted.runs, *served, *parked, *aside, *here}
    return [
        VersionInfo(
            workflow=each[0], version=each[1], runs=dict(counted.runs.get(each, {})),
            since=at(counted.oldest[each]) if each in counted.oldest else None,
            workers=tuple(sorted(served.get(each, ()))), is_here=each in here, parked=parked[each],
            set_aside=aside[each],
        )
        for each in sorted(known, key=lambda one: (one[0], version_order(one[1]), one[1]))
        if workflow is None or each[0] == workflow
    ]  # fmt: skip


async def _count_runs(services: Services) -> _Counted:
    counted = _Counted()
    for status in MAY_GO_ON:
        after = ""
        while True:
            page = await services.session.scan(IndexRange(keys.runs_with_status(status), after=after, limit=PAGE))
            for entry in page:
                version = keys.listed_version(entry.value) or await _read_version(services, entry.entry)
                if version is not None:
                    counted.add(version, status, keys.created_at_ms(entry.entry))
            if len(page) < PAGE:
                break
            after = page[-1].entry
    return counted


async def _read_version(services: Services, entry: str) -> tuple[str, str] | None:
    """Return the version of a run whose entry does not say it."""
    run = await services.runs.find(RunId(keys.run_of(entry)))
    return None if run is None else (run.header.workflow, run.header.version)


async def _count_parked(services: Services) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    parked, aside = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for queue in await known_queues(services):
        for each in await services.indexes.parked(queue, limit=MOST_PARKED):
            workflow, version, _ = each.kind
            if workflow.startswith(SET_ASIDE_PREFIX):
                aside[workflow.removeprefix(SET_ASIDE_PREFIX), version] += 1
            elif workflow:  # else it waits for a key
                parked[workflow, version] += 1
    return parked, aside
