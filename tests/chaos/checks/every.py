"""All checks, in the order of the groups' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.chaos.checks import children, control, flow, joins, routing, search, signals, sources, sync, timers, versions
from tests.chaos.checks.hall import GroupCheck

CHECKS: tuple[GroupCheck, ...] = (
    joins.CHECK, signals.CHECK, timers.CHECK, children.CHECK, control.CHECK, flow.CHECK, routing.CHECK,
    versions.CHECK, search.CHECK, sources.CHECK, sync.CHECK,
)  # fmt: skip

BODILESS = frozenset().union(*(check.bodiless for check in CHECKS))

HEADS = frozenset(
    {
        "joins", "signals", "timers", "beat", "children", "child", "control", "flow", "routing", "versions", "search",
        "intake:sources", "sync",
    }
)  # fmt: skip
"""What the ids of the groups' runs begin with."""


def is_of_a_group(run_id: str) -> bool:
    """Whether a run is one of those that these checks look at."""
    return run_id.partition("@")[0].partition("-")[0] in HEADS


def table(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """What was seen of each group, a line each."""
    for check in CHECKS:
        mine = counts.get(check.name, {})
        told = ", ".join(f"{count:,} {what}" for what, count in mine.items()) or "nothing"
        yield f"{check.number:>3} {check.name:<28} {told}"


def uncovered(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What had to happen in each group and did not."""
    return [
        f"{check.name}: {what}" for check in CHECKS for what in check.missing(counts.get(check.name, {}))
    ]  # fmt: skip
