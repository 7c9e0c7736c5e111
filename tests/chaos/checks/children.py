"""Group 4: each parent has the children it started, and each of them ended as its parent wanted."""

from __future__ import annotations

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.store_reader import StoredRun

LONG_SECONDS = 3600.0
KINDS = ("waited", "failing", "abandoned", "closed", "cancelled")
CHILD_ENDS = {"waited": "completed", "failing": "failed", "abandoned": "completed", "closed": "cancelled"}


def check(hall: Hall) -> None:
    children: dict[str, list[StoredRun]] = {}
    for run in hall.runs.values():
        if run.parent:
            children.setdefault(run.parent, []).append(run)
            hall.expect(run.parent in hall.runs, "lost", "I17", run, f"its parent {run.parent} is not there")
    for kind in KINDS:
        for number, run in hall.of(f"children-{kind}"):
            hall.counts["runs"] += 1
            mine = children.get(run.run_id, [])
            hall.counts["children"] += len(mine)
            if hall.expect_status(run, "cancelled" if kind == "cancelled" else "completed"):
                hall.counts[kind] += 1
                _check_family(hall, kind, number, run, mine)
            _check_known(hall, run, mine)
    for child in [child for family in children.values() for child in family]:
        for grandchild in children.get(child.run_id, []):
            hall.counts["grandchildren"] += 1
            hall.expect_status(grandchild, "cancelled")
            hall.expect_status(child, "cancelled")


def _check_family(hall: Hall, kind: str, number: int, run: StoredRun, mine: list[StoredRun]) -> None:
    match kind:
        case "waited":
            hall.expect_output(run, number * 2 + 1)
        case "failing":
            hall.expect_output(run, -number)
        case "abandoned" | "closed":
            hall.expect_output(run, *[child.run_id for child in mine])
        case _:
            for child in mine:
                hall.expect_status(child, "cancelled")
            return
    more = "duplicated" if len(mine) > 1 else "lost"
    hall.expect(len(mine) == 1, more, "I17", run, f"it has the children {[child.run_id for child in mine]}")
    for child in mine:
        if hall.expect_status(child, CHILD_ENDS[kind]) and kind in ("waited", "abandoned"):
            hall.expect_output(child, number * 2)


def _check_known(hall: Hall, run: StoredRun, mine: list[StoredRun]) -> None:
    """A parent knows its children, and no others that are there."""
    known = {name[2:] for name in run.cells if name.startswith("k:")}
    strangers = [child.run_id for child in mine if child.run_id not in known]
    hall.expect(not strangers, "lost", "I17", run, f"it does not know of its children {strangers}")
    absent = [child for child in known if child not in hall.runs] if run.status == "completed" else []
    hall.expect(not absent, "lost", "I17", run, f"its children {absent} are not there")


CHECK = GroupCheck(
    4, "children", ("runs", *KINDS, "children"), check,
    frozenset({"Doubling", "Refusing", "Sitting", "SittingBelow", "leaving", "closing"}),
)  # fmt: skip
