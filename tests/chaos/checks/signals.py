"""Group 2: each value reached one item, once; what nobody sent was not waited for too long."""

from __future__ import annotations

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.store_reader import StoredRun

BALLOTS = 3
KINDS = ("waiting", "early", "twice", "node", "late", "nobody")


def check(hall: Hall) -> None:
    for kind in KINDS:
        for _, run in hall.of(f"signals-{kind}"):
            hall.counts["runs"] += 1
            if hall.expect_status(run, "completed"):
                hall.counts[kind] += 1
                _check_output(hall, kind, run)
                _check_accepted(hall, run)
    for number, run in hall.of("signals-answering"):
        hall.expect_status(run, "completed")
        hall.expect_output(run, f"signals-node-{number}")


def _check_output(hall: Hall, kind: str, run: StoredRun) -> None:
    nobody, yes = f"{run.run_id}: nobody answered", f"{run.run_id}: yes"
    match kind:
        case "twice":
            outputs = run.arrivals.get("", [])
            is_each_once = len(outputs) == 1 and sorted(outputs[0]) == list(range(BALLOTS))
            hall.expect(is_each_once, "duplicated" if outputs else "lost", "I13", run, f"its ballots were {outputs}")
        case "node":
            hall.expect_output(run, f"{run.run_id}: by a node")
        case "nobody":
            hall.expect_output(run, nobody)
        case "late":
            hall.expect_output(run, nobody, yes)
        case _:
            hall.expect_output(run, yes)


def _check_accepted(hall: Hall, run: StoredRun) -> None:
    """What a client was told is accepted has its mark, and only the first of the same was new."""
    told = hall.heard(run.run_id, "signalled")
    hall.counts["signals"] += sum(is_new for _, is_new in told) + ("sm:node" in run.cells)
    hall.counts["repeated signals"] += sum(not is_new for _, is_new in told)
    for signal_id in {signal_id for signal_id, _ in told}:
        new = sum(is_new for each, is_new in told if each == signal_id)
        hall.expect(f"sm:{signal_id}" in run.cells, "lost", "I13", run, f"signal {signal_id} was accepted: no mark")
        hall.expect(new <= 1, "duplicated", "I13", run, f"signal {signal_id} was new {new} times")


CHECK = GroupCheck(2, "hold and signals", ("runs", *KINDS, "signals", "repeated signals"), check)
