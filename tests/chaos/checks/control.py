"""Group 5: what was begun and had to be undone was undone, backwards; what hands did they did once.

Nothing is undone before its body has ended, unless the worker was taken for dead: then nobody can know.
"""

from __future__ import annotations

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.ledger import Entry
from tests.chaos.store_reader import StoredRun

LONG_SECONDS = 3600.0

STATUSES = {
    "kept": ("completed",), "failed": ("failed",), "cancelled": ("cancelled",), "terminated": ("cancelled",),
    "shaken": ("completed", "cancelled"), "retried": ("completed",), "forked": ("completed",),
    "fork": ("completed",), "handled": ("completed",), "given": ("completed",),
}  # fmt: skip

SAGAS = ("kept", "failed", "cancelled", "terminated", "shaken")
ACTIONS = ("pause", "resume", "cancel", "terminate", "retry", "complete", "complete_item", "edit_context")


def check(hall: Hall) -> None:
    for kind, statuses in STATUSES.items():
        for number, run in hall.of(f"control-{kind}"):
            hall.counts["runs"] += 1
            for action, _ in run.audit:
                hall.counts[action] += 1
            if hall.expect_status(run, *statuses):
                hall.counts[kind] += 1
                if kind in SAGAS:
                    _check_undone(hall, kind, run)
                else:
                    _check_by_hand(hall, kind, number, run)


def _check_undone(hall: Hall, kind: str, run: StoredRun) -> None:
    if run.status == "completed":
        hall.expect_output(run, kind)
    did, undid = _firsts(hall.noted(run.run_id, "did")), _firsts(hall.noted(run.run_id, "undid"))
    _check_told(hall, kind, run)
    if run.status == "completed" or kind == "terminated":
        hall.expect(not undid, "wrong", "I18", run, f"{list(undid)} were undone, though nothing was to be")
        return
    left = [key for key in did if key not in undid]
    hall.expect(not left, "lost", "I18", run, f"{left} were begun and never undone")
    strangers = [key for key in undid if f"i:{key.partition(':')[2]}" not in run.cells]
    hall.expect(not strangers, "wrong", "I18", run, f"{strangers} were undone, and are no steps of it")
    backwards = sorted((key for key in undid if key in did), key=lambda key: did[key], reverse=True)
    order = [key for key in undid if key in did]
    hall.expect(order == backwards, "wrong", "I18", run, f"undone in the order {order}, done in {list(did)}")
    hall.counts["steps undone"] += len(undid)
    _check_nothing_at_work(hall, run)


def _check_told(hall: Hall, kind: str, run: StoredRun) -> None:
    """Somebody is told of a run that is cancelled, before anything of it is undone, and of no other run."""
    told, undid = hall.noted(run.run_id, "told"), hall.noted(run.run_id, "undid")
    if run.status != "cancelled" or kind == "terminated":
        hall.expect(not told, "wrong", "I18", run, "somebody was told that it is cancelled")
        return
    hall.expect(bool(told), "lost", "I18", run, "nobody was told that it is cancelled")
    hall.counts["told"] += bool(told)
    is_first = not (told and undid) or told[0].at_ms <= undid[0].at_ms
    hall.expect(is_first, "wrong", "I18", run, f"{undid[:1]} was undone before somebody was told")


def _check_nothing_at_work(hall: Hall, run: StoredRun) -> None:
    """No body of a step begins or ends after the step is undone; but those of workers that seemed to be dead."""
    undone_at: dict[str, int] = {}
    for entry in hall.noted(run.run_id, "undid"):
        undone_at.setdefault(entry.key, entry.at_ms)
    for what in ("did", "left"):
        for entry in hall.noted(run.run_id, what):
            item = run.items.get(entry.item_id)
            is_late = entry.at_ms > undone_at.get(entry.key, entry.at_ms)
            hall.expect(
                not is_late or item is None or item.lost > 0, "wrong", "I18", run,
                f"{entry.key} {what} after it was undone at {undone_at.get(entry.key)}: {entry}",
            )  # fmt: skip


def _firsts(entries: list[Entry]) -> dict[str, int]:
    """When each key was noted first, the earliest first."""
    found: dict[str, int] = {}
    for number, entry in enumerate(entries):
        found.setdefault(entry.key, number)
    return found


def _check_by_hand(hall: Hall, kind: str, number: int, run: StoredRun) -> None:
    actions = [action for action, _ in run.audit]
    match kind:
        case "retried":
            hall.expect_output(run, f"{number + 1} after measure, judge")
            hall.expect("retry" in actions, "lost", "I18", run, f"its audit log says {actions}, and no retry")
        case "forked":
            hall.expect_output(run, f"{number + 1} after measure, judge")
        case "fork":
            hall.expect_output(run, f"{number + 100} after measure, judge")
            hall.expect(run.forked_from == f"control-forked-{number}", "wrong", "I18", run, f"of {run.forked_from!r}")
        case "handled":
            hall.expect_output(run, f"{number + 7} after measure, hand")
            is_noted = actions.count("edit_context") == 1 and "complete_item" in actions
            hall.expect(is_noted, "wrong", "I18", run, f"its audit log says {actions}")
        case "given":
            hall.expect_output(run, f"given {number}")
            hall.expect(actions.count("complete") == 1, "wrong", "I18", run, f"its audit log says {actions}")


CHECK = GroupCheck(
    5, "control", ("runs", *STATUSES, "steps undone", "told", *ACTIONS), check, frozenset({"wait"})
)  # fmt: skip
