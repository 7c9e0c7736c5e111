"""Group 6: a key was never held by more than may hold it, and nobody holds or awaits it at the end."""

from __future__ import annotations

from collections import defaultdict

import msgpack

from tests.chaos.checks.hall import GroupCheck, Hall
from tests.chaos.ledger import Entry

LIMIT, SHARE, KEYS, VISITORS = "desk", 2, 2, 4
RATE, PER_SECOND = "turnstile", 10

WINDOW_MS = 900
"""A second, less what a body may take from its permission to its first line, and the engine's own reserve for that."""


def check(hall: Hall) -> None:
    _check_keys(hall)
    _check_rates(hall)
    _check_starts(hall)


def _check_keys(hall: Hall) -> None:
    stays: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for _, run in hall.of("flow-keys"):
        hall.counts["runs"] += 1
        if hall.expect_status(run, "completed"):
            hall.expect_output(run, VISITORS)
            hall.expect_ended(run, "visit", "completed", VISITORS)
        hall.expect(not run.of_itself["tickets"], "leaked", "I14", run, f"tickets left: {run.of_itself['tickets']}")
        worker_of = {line.item_id: line.worker for line in run.history if line.status == "completed"}
        for key, *stay in _accepted(hall.notes.get(run.run_id, []), worker_of):
            hall.counts["keyed steps"] += 1
            stays[key].append((stay[0], stay[1]))
    for key, found in stays.items():
        hall.counts["keys"] += 1
        most = largest_at_once(found)
        hall.counts["most at once"] = max(hall.counts["most at once"], most)
        if most > SHARE:
            hall.report("duplicated", "I14", key, f"{most} steps held it at once, {SHARE} may")
    for partition, waiting in hall.queues.items():
        if waiting:
            hall.report("leaked", "I14", partition, f"{waiting} wait for it at the end"[:300])
    for partition, cells in hall.of_store.items():
        if partition.startswith(" limit:"):
            _check_key(hall, partition, cells)


def _check_rates(hall: Hall) -> None:
    """I15: no more bodies began in any second than may."""
    turns: list[int] = []
    for kind in ("rates", "dedupe"):
        for _, run in hall.of(f"flow-{kind}"):
            hall.counts["runs"] += 1
            if hall.expect_status(run, "completed"):
                hall.counts[kind] += 1
                hall.expect_output(run, VISITORS)
            turns += [entry.at_ms for entry in hall.noted(run.run_id, "turn")]
    hall.counts["rated steps"] += len(turns)
    most = largest_at_once([(at_ms, at_ms + WINDOW_MS) for at_ms in turns])
    hall.counts["most in a second"] = most
    if most > PER_SECOND:
        hall.report("duplicated", "I15", RATE, f"{most} bodies began within a second, {PER_SECOND} may")


def _check_starts(hall: Hall) -> None:
    """I16: of two starts with one key there is one run."""
    for _, run in hall.of("flow-dedupe"):
        for first, again, is_told in hall.heard(run.run_id, "deduplicated"):
            hall.counts["starts that came twice"] += 1
            is_one = first == again == run.run_id and is_told
            hall.expect(is_one, "duplicated", "I16", run, f"two starts with one key are {first} and {again}: {is_told}")
    for _, run in hall.of("flow-again"):
        hall.expect(False, "duplicated", "I16", run, "a second run was started with the key of another")


def _accepted(notes: list[Entry], worker_of: dict[str, str]) -> list[tuple[str, int, int]]:
    """Key, first and last moment of each body whose result counted: some of the others ran on without the key."""
    found: list[tuple[str, int, int]] = []
    entered: dict[tuple[str, str], Entry] = {}
    for entry in notes:
        body = (entry.item_id, entry.process)
        if entry.what == "note:enter":
            entered[body] = entry
        elif entry.what == "note:leave" and body in entered:
            begun = entered.pop(body)
            if entry.process.startswith(worker_of.get(entry.item_id, "nobody")):
                found.append((entry.key, begun.at_ms, entry.at_ms))
    return found


def largest_at_once(stays: list[tuple[int, int]]) -> int:
    """How many stays there were at the fullest moment; one that ends when another begins made room for it."""
    most = now = 0
    for _, change in sorted([(end, -1) for _, end in stays] + [(begin, 1) for begin, _ in stays]):
        now += change
        most = max(most, now)
    return most


def _check_key(hall: Hall, partition: str, cells: dict[str, bytes]) -> None:
    for name, value in cells.items():
        holders = msgpack.unpackb(value, strict_map_key=False)[3]
        if holders:
            hall.report("leaked", "I14", partition, f"{name} is held by {holders} at the end"[:300])


CHECK = GroupCheck(
    6,
    "flow control",
    ("runs", "keyed steps", "keys", "rates", "rated steps", "dedupe", "starts that came twice"),
    check,
)
