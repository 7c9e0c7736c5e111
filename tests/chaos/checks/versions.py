"""Group 8: each run ended as a version that may run it makes it, whichever workers there were."""

from __future__ import annotations

from tests.chaos.checks.hall import GroupCheck, Hall

NODES = ("enter", "wait_for_go", "leave")


def check(hall: Hall) -> None:
    for kind in ("pinned", "kept", "raised"):
        for number, run in hall.of(f"versions-{kind}"):
            hall.counts["runs"] += 1
            if not hall.expect_status(run, "completed"):
                continue
            hall.counts[kind] += 1
            allowed = (number // 3 % 2 + 1,) if kind == "pinned" else (1, 2)
            hall.expect_output(run, *(f"{number} by {version}" for version in allowed))
            for node in NODES:
                hall.expect_ended(run, node, "completed", 1)
            if run.arrivals.get("") == [f"{number} by 2"]:
                hall.counts["ended by version 2"] += 1


CHECK = GroupCheck(8, "versions", ("runs", "pinned", "kept", "raised"), check)
