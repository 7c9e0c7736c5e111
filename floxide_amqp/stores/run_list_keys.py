"""The lists of runs: of all of them, by status, workflow and attribute, and by when they ended.

Entries of lists put the newest run first; those of indexes ordered by time the earliest.
"""

from __future__ import annotations

import functools

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus

RUNS = "runs"

_LATEST = 10**14
"""Later than any time in milliseconds, so that ``_LATEST - t`` sorts the newest first."""

_WITH_STATUS = {status: f"runs.status:{status.value}" for status in RunStatus}
_ENDED = {status: f"runs.ended:{status.value}" for status in RunStatus}


def run_entry(created_at_ms: int, run_id: RunId) -> str:
    """A run's entry in the lists of runs: newest first."""
    return f"{_LATEST - created_at_ms:014d}:{run_id}"


def run_of(entry: str) -> RunId:
    """The run an entry of a list of runs is about."""
    return RunId(entry.split(":", 1)[1])


def created_at_ms(entry: str) -> int:
    """When the run of an entry of a list of runs was started."""
    return _LATEST - int(entry.split(":", 1)[0])


def ended_runs(status: RunStatus) -> str:
    """The index of runs that ended so, by the time they did."""
    return _ENDED[status]


def timed_run(at_ms: int, run_id: RunId) -> str:
    """A run's entry in an index that is ordered by time: earliest first."""
    return f"{at_ms:014d}:{run_id}"


def time_and_run(entry: str) -> tuple[int, RunId]:
    """The time and the run of an entry of such an index."""
    at, _, run_id = entry.partition(":")
    return int(at), RunId(run_id)


def runs_with_status(status: RunStatus) -> str:
    """The index of runs with a stored status."""
    return _WITH_STATUS[status]


@functools.lru_cache(maxsize=1024)  # the same of each of a workflow's runs
def listed_as(workflow: str, version: str) -> bytes:
    """What a run's entry in the list of its status says of it; empty where that is not known."""
    return f"{workflow}\n{version}".encode() if workflow and version else b""


def listed_version(value: bytes) -> tuple[str, str] | None:
    """The workflow and version that such an entry says; None where it says nothing."""
    workflow, found, version = value.decode(errors="replace").partition("\n")
    return (workflow, version) if found else None


def runs_of_workflow(workflow: str) -> str:
    """The index of a workflow's runs."""
    return f"runs.workflow:{workflow}"


def runs_with_attribute(name: str, lookup: str) -> str:
    """The index of the runs with an attribute, in the order of the lists of runs; no name has a colon in it."""
    return f"runs.attribute:{name}:{lookup}"


def entries_between(started_from_ms: int | None, started_before_ms: int | None) -> tuple[str, str | None]:
    """Return `after` and `before` of those entries in lists of runs that were started within a time.

    Args:
        started_from_ms: Not those started before; None for any.
        started_before_ms: Only those started before; None for any.
    """
    after = "" if started_before_ms is None else _place_in_list(started_before_ms - 1)
    return after, None if started_from_ms is None or started_from_ms <= 1 else _place_in_list(started_from_ms - 1)


def _place_in_list(created_at_ms: int) -> str:
    """Return a place just before the entries of runs that were started then."""
    return f"{min(max(_LATEST - created_at_ms, 0), _LATEST - 1):014d}"
