"""Group 3: nothing began too early, what was late ended, and each occurrence has its run."""

from __future__ import annotations

from datetime import datetime

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.store_reader import StoredRun

HELD_SECONDS, DELAY_SECONDS, LONG_SECONDS, EVERY_SECONDS = 0.3, 0.7, 3600.0, 1.0
SCHEDULE = "beat"
KINDS = ("for", "until", "delayed", "deadline")

SLACK_MS = 15
"""What a time is rounded by on its way through store and ledger."""


def check(hall: Hall) -> None:
    for kind in KINDS:
        for _, run in hall.of(f"timers-{kind}"):
            hall.counts["runs"] += 1
            if hall.expect_status(run, "failed" if kind == "deadline" else "completed"):
                hall.counts[kind] += 1
                _check_times(hall, kind, run)
    _check_schedule(hall)


def _check_times(hall: Hall, kind: str, run: StoredRun) -> None:
    begins = [entry.at_ms for entry in hall.bodies.get(run.run_id, []) if entry.what == "begin"]
    match kind:
        case "for" | "until":
            hall.expect_output(run, "rested")
            held, on = hall.noted(run.run_id, "held"), hall.noted(run.run_id, "on")
            waited = min((entry.at_ms for entry in on), default=0) - min((entry.at_ms for entry in held), default=0)
            is_right = bool(held and on) and waited >= HELD_SECONDS * 1000 - SLACK_MS
            hall.expect(is_right, "wrong", "I16", run, f"it went on {waited} ms after it was held")
        case "delayed":
            hall.expect_output(run, run.run_id)
            early = run.starts_at_ms - min(begins, default=0)
            hall.expect(early <= SLACK_MS, "wrong", "I16", run, f"it began {early} ms before its time")
        case _:
            lasted = (run.finished_at_ms or 0) - run.created_at_ms
            is_right = lasted >= DELAY_SECONDS * 1000 - SLACK_MS and not run.arrivals.get("")
            hall.expect(is_right, "wrong", "I16", run, f"it failed after {lasted} ms: {run.failure}")


def _check_schedule(hall: Hall) -> None:
    """Each occurrence between the first and the last has a run, but those the schedule says it missed."""
    occurrences: list[int] = []
    for run_id, run in hall.runs.items():
        name, _, moment = run_id.partition("@")
        if name != SCHEDULE:
            continue
        hall.counts["triggered" if moment.startswith("trigger-") else "occurrences"] += 1
        if hall.expect_status(run, "completed"):
            hall.expect_output(run, "beat")
        if not moment.startswith("trigger-"):
            occurrences.append(round(datetime.fromisoformat(moment).timestamp() * 1000))
    every = round(EVERY_SECONDS * 1000)
    told = sorted(hall.heard(SCHEDULE, "schedule"), key=lambda each: each["started"])  # the last is what it came to
    if not occurrences:
        return
    due = set(range(min(occurrences), max(occurrences) + 1, every))
    missed = told[-1]["missed"] + told[-1]["skipped"] if told else 0
    if len(due - set(occurrences)) > missed:
        gone = len(due) - len(occurrences)
        hall.report("lost", "I16", SCHEDULE, f"{gone} of {len(due)} occurrences have no run, {missed} were missed")
    for moment in set(occurrences) - due:
        hall.report("duplicated", "I16", SCHEDULE, f"a run of {moment}, which is no occurrence")
    settled = told[-1]["started"] if told else 0
    least = hall.counts["triggered"] + len(occurrences)
    most = len(hall.heard(SCHEDULE, "triggering")) + len(occurrences)
    if told and not least <= settled <= most:
        hall.report("lost", "I16", SCHEDULE, f"it says that it started {settled}, and has {least} runs")


CHECK = GroupCheck(3, "timers and schedules", ("runs", *KINDS, "triggered", "occurrences"), check)
