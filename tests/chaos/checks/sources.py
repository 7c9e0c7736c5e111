"""Group 10: each message that was sent became one run, however often it came; what was unusable is kept."""

from __future__ import annotations

from tests.chaos.checks.hall import GroupCheck, Hall

SOURCE, QUEUE = "intake", "chaos.intake"
UNUSABLE = "{unusable"


def check(hall: Hall) -> None:
    for _, run in hall.of(f"{SOURCE}:sources-queue", f"{SOURCE}:sources-once"):
        name = run.run_id.removeprefix(f"{SOURCE}:")
        hall.counts["runs"] += 1
        hall.counts["of one copy"] += name.startswith("sources-once")
        if hall.expect_status(run, "completed"):
            hall.expect_output(run, f"unpacked {name}")
        sent = len(hall.heard(run.run_id, "sent"))
        hall.counts["messages"] += sent
        hall.counts["sent again"] += max(0, sent - 1)
        hall.expect(sent > 0, "duplicated", "I20", run, "nobody sent its message")
    for name in [name for name, words in hall.told.items() if any(word == "kept" for word, _ in words)]:
        hall.counts["unusable"] += 1
        if not any(name.encode() in value for value in hall.quarantine):
            hall.report("lost", "I10", name, "an unusable message was kept, and is gone")


CHECK = GroupCheck(10, "sources", ("runs", "messages", "sent again", "of one copy", "unusable"), check)
