"""Group 11: what a client in a thread was told is so."""

from __future__ import annotations

from tests.chaos.checks.hall import GroupCheck, Hall


def check(hall: Hall) -> None:
    for _, run in hall.of("sync-thread"):
        hall.counts["runs"] += 1
        output = f"{run.run_id} with a stamp"
        if hall.expect_status(run, "completed"):
            hall.expect_output(run, output)
        for told in hall.heard(run.run_id, "output"):
            hall.counts["results"] += 1
            hall.expect(told == output, "wrong", "I5", run, f"a client in a thread was told {told!r}")
        for ids in hall.heard(run.run_id, "listed"):
            hall.counts["lists"] += 1
            hall.expect(ids == [run.run_id], "wrong", "I12", run, f"a list by its attributes was {ids}")
        for names in hall.heard(run.run_id, "events"):
            hall.counts["streams"] += 1
            is_whole = names[:1] == ["RunStarted"] and names[-1:] == ["RunEnded"] and "RunSignalled" in names
            hall.expect(is_whole, "wrong", "I19", run, f"its events were {names}")
        hall.counts["signals"] += sum(is_new for _, is_new in hall.heard(run.run_id, "signalled"))


CHECK = GroupCheck(11, "synchronous client", ("runs", "results", "lists", "streams", "signals"), check)
