"""Group 1: each join ran once, with what it was due."""

from __future__ import annotations

import itertools

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.store_reader import StoredRun

RACERS, COLLECTED, FOLDED = 5, 6, 12

KINDS = ("all", "any", "some", "missing", "first", "atmost", "collect", "fold")

JOIN_OF = {
    "all": "both", "any": "one", "some": "two", "missing": "maybe", "first": "one", "atmost": "two",
    "collect": "sort_out", "fold": "saved",
}  # fmt: skip
"""The node that runs when a join has what it waits for."""


def outputs_of(kind: str, number: int) -> list[object]:
    """What may come of a run."""
    lanes = [number * 100 + lane for lane in range(RACERS)]
    match kind:
        case "all":
            return [[str(number + 1), str(number)]]
        case "any":
            return [number + 1, number + 3]
        case "some":  # in the order of the sources
            return [[number + 1, number + 3], [number + 1, number + 1], [number + 3, number + 1]]
        case "missing":
            return [[None, number + 3] if number % 2 else [number + 1, None]]
        case "first":
            return list(lanes)
        case "atmost":
            return [list(pair) for pair in itertools.combinations(lanes, 2)]
        case "collect":
            pieces = [number + piece for piece in range(COLLECTED)]
            return [[str(piece) if piece % 3 else "CrookedError 2" for piece in pieces]]
    total = 0
    for coin in range(FOLDED):
        total = (total * 31 + (number + coin) * 2) % 1_000_003
    return [total]


def check(hall: Hall) -> None:
    for kind in KINDS:
        for number, run in hall.of(f"joins-{kind}"):
            hall.counts["runs"] += 1
            if hall.expect_status(run, "completed"):
                hall.counts[kind] += 1
                hall.expect_output(run, *outputs_of(kind, number))
                hall.expect_ended(run, JOIN_OF[kind], "completed", 1)
                _check_elements(hall, kind, run)


def _check_elements(hall: Hall, kind: str, run: StoredRun) -> None:
    """What a fan-out began has ended: all of it completed, or what came too late was cancelled."""
    if kind in ("first", "atmost"):
        ended = [line.status for line in run.history if line.node == "run"]
        enough = 1 if kind == "first" else 2
        hall.counts["late arrivals cancelled"] += ended.count("cancelled")
        is_all = len(ended) == RACERS and set(ended) <= {"completed", "cancelled"}
        hall.expect(is_all, "lost", "I4", run, f"its {RACERS} racers ended as {ended}")
        hall.expect(ended.count("completed") == enough, "wrong", "I4", run, f"{ended} arrived, {enough} were due")
    if kind == "fold":
        hall.expect_ended(run, "count", "completed", FOLDED)


CHECK = GroupCheck(1, "joins", ("runs", *KINDS), check, frozenset({"purse"}))
