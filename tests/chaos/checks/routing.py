"""Group 7: steps with a label ran where it is, and those of processes in processes, of which none is left."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.store_reader import StoredRun

LABEL = "gpu"
PROCESSES = Path("/proc")
LABELLED = ("render", "store")


def check(hall: Hall) -> None:
    for number, run in hall.of("routing-labelled"):
        hall.counts["runs"] += 1
        if hall.expect_status(run, "completed"):
            hall.counts["labelled"] += 1
            hall.expect_output(run, f"picture {number * 3}")
            _check_places(hall, run)
    for number, run in hall.of("routing-process"):
        hall.counts["runs"] += 1
        if hall.expect_status(run, "completed"):
            hall.counts["process"] += 1
            _check_process(hall, number, run)


def _has_label(process: str) -> bool:
    return int(process.removeprefix("w").partition("-")[0]) % 2 == 0


def _check_places(hall: Hall, run: StoredRun) -> None:
    for entry in hall.bodies.get(run.run_id, []):
        if entry.node in LABELLED and entry.what == "begin":
            hall.counts["steps with a label"] += 1
            is_right = _has_label(entry.process)
            hall.expect(is_right, "wrong", "I21", run, f"{entry.node} began on {entry.process}, without its label")


def _check_process(hall: Hall, number: int, run: StoredRun) -> None:
    total = 0
    for each in range(number % 7 + 2):
        total = (total * 31 + each) % 1_000_003
    outputs = run.arrivals.get("", [])
    hall.expect([output[0] for output in outputs] == [total], "wrong", "I5", run, f"its outputs are {outputs}")
    workers = {entry.process.rpartition("-")[2] for entry in hall.bodies.get(run.run_id, [])}
    for _, pid in outputs:
        is_apart = str(pid) not in workers
        hall.expect(is_apart, "wrong", "I21", run, f"its step ran in the worker itself, process {pid}")
        hall.expect(not _is_left(pid), "leaked", "I9", run, f"process {pid} of its step is left")


def _is_left(pid: int) -> bool:
    try:
        return b"floxide_amqp" in (PROCESSES / f"{pid}" / "cmdline").read_bytes()
    except OSError:
        return False


CHECK = GroupCheck(7, "routing", ("runs", "labelled", "steps with a label", "process"), check)
