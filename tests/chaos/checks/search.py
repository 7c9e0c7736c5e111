"""Group 9: a run is found by what it is; who followed it heard all of it, in order, once."""

from __future__ import annotations

from typing import Any

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.store_reader import StoredRun

KINDS = ("followed", "found")


def attributes_of(number: int) -> dict[str, Any]:
    """What a run is found by at its end."""
    return {"mark": number % 5, "stage": "certified", "student": f"student {number}"}


def check(hall: Hall) -> None:
    for kind in KINDS:
        for number, run in hall.of(f"search-{kind}"):
            hall.counts["runs"] += 1
            if hall.expect_status(run, "completed"):
                hall.counts[kind] += 1
                hall.expect_output(run, f"certificate {number}")
                _check_found(hall, number, run)
                _check_events(hall, run)


def _check_found(hall: Hall, number: int, run: StoredRun) -> None:
    attributes = attributes_of(number)
    wanted = {f"student:s{attributes['student']}", f"stage:s{attributes['stage']}", f"mark:n{attributes['mark']}"}
    listed = hall.listed[run.run_id]
    kind = "lost" if wanted - listed else "leaked"
    hall.expect(listed == wanted, kind, "I12", run, f"it is listed under {sorted(listed)}")
    for ids in hall.heard(run.run_id, "listed"):
        hall.counts["lists"] += 1
        hall.expect(ids == [run.run_id], "wrong", "I12", run, f"a list by its attributes was {ids}")
    for view in hall.heard(run.run_id, "viewed"):
        hall.counts["views"] += 1
        hall.expect(view == ["completed", attributes], "wrong", "I12", run, f"it was seen as {view}")


def _check_events(hall: Hall, run: StoredRun) -> None:
    """I19: the ends of items in the order of the history, each once, between the run's beginning and its end."""
    for events in hall.heard(run.run_id, "events"):
        hall.counts["streams"] += 1
        hall.counts["events"] += len(events)
        names = [name for name, *_ in events]
        ends = [item for name, item, _ in events if name in ("ItemCompleted", "ItemFailed", "ItemCancelled")]
        history = [line.item_id for line in run.history]
        hall.expect(ends == history, "lost" if len(ends) < len(history) else "duplicated", "I19", run,
                    f"events told the ends of {ends}, its history those of {history}")  # fmt: skip
        failed = names.count("AttemptFailed")
        hall.expect(failed == len(run.errors), "wrong", "I19", run, f"{failed} attempts failed by its events")
        is_framed = names[:1] == ["RunStarted"] and names[-1:] == ["RunEnded"] and names.count("RunEnded") == 1
        hall.expect(is_framed, "wrong", "I19", run, f"its events were {names}")
        positions = [position for *_, position in events]
        hall.expect(len(set(positions)) == len(positions), "duplicated", "I19", run, f"positions {positions}")


CHECK = GroupCheck(9, "attributes, queries, events", ("runs", *KINDS, "lists", "views", "streams", "events"), check)
