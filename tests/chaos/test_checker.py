"""The checker of the chaos is shown failing: a good store is corrupted on purpose, in one way at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import pytest_asyncio

from floxide_amqp import Limits
from tests.chaos.checker import check
from tests.chaos.corrupting import (
    Corruption,
    entry,
    evidence,
    late_body,
    ledger,
    other_key,
    record,
    sql,
    told,
)
from tests.chaos.finished import FINISHED, FLAKY_RUN, RUN, finish_orders
from tests.chaos.store_reader import SqliteTables, StoreReader


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the chaos leaves it, in which all is well."""
    folder = tmp_path_factory.mktemp("finished")
    await finish_orders(folder, f"sqlite:///{folder}/runs.db")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def finished_with_snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with contexts of which there are snapshots and whose logs begin later."""
    folder = tmp_path_factory.mktemp("finished")
    await finish_orders(folder, f"sqlite:///{folder}/runs.db", Limits(context_snapshot=2))
    return folder


RUN_LOG = "partition=? AND name=?"
QUEUE = {"name": "chaos.work.default", "messages_ready": 0, "messages_unacknowledged": 0}

CORRUPTIONS: dict[str, tuple[Corruption, str, str]] = {
    "an item's completion is gone": (
        sql(f"DELETE FROM log_entries WHERE {RUN_LOG} AND position=3", RUN, "h"), "lost", "I2",
    ),
    "an item ended twice": (
        sql(f"INSERT INTO log_entries SELECT slot, partition, name, 999, value FROM log_entries WHERE {RUN_LOG} "
            "AND position=3", RUN, "h"), "duplicated", "I2",
    ),
    "a completed item is pending again": (
        record("partition=? AND name GLOB 'i:*'", (RUN,), "cells", (4, 0)), "duplicated", "I2",
    ),
    "an item is missing": (
        sql("DELETE FROM cells WHERE partition=? AND name=(SELECT max(name) FROM cells WHERE partition=? AND "
            "name GLOB 'i:*')", RUN, RUN), "lost", "I5",
    ),
    "a run is still running": (record(RUN_LOG, (RUN, "state"), "cells", (1, "running")), "lost", "I1"),
    "a run failed": (record(RUN_LOG, (RUN, "state"), "cells", (1, "failed")), "wrong", "I1"),
    "a run was cancelled that nobody cancelled": (
        record(RUN_LOG, (RUN, "state"), "cells", (1, "cancelled")), "wrong", "I1",
    ),
    "a run is gone": (sql("DELETE FROM cells WHERE partition=?", RUN), "lost", "I1"),
    "a result is another": (
        record("name=?", (f"in:{RUN}:",), "index_entries", (1, {"number": 0})), "wrong", "I5",
    ),
    "a result came twice": (
        sql("INSERT INTO index_entries SELECT name, entry || 'x', slot, value FROM index_entries WHERE name=?",
            f"in:{RUN}:"), "duplicated", "I5",
    ),
    "a result is missing": (sql("DELETE FROM index_entries WHERE name=?", f"in:{RUN}:"), "lost", "I5"),
    "the join lacks an arrival": (
        sql("DELETE FROM index_entries WHERE name GLOB ? AND entry GLOB '00000001*'", f"in:{RUN}:*"), "lost", "I4",
    ),
    "the join has an arrival twice": (
        sql("INSERT INTO index_entries SELECT name, entry || 'x', slot, value FROM index_entries WHERE name GLOB ? "
            "AND entry GLOB '00000001*'", f"in:{RUN}:*"), "duplicated", "I4",
    ),
    "the arrivals of the join stand in another order": (
        sql("UPDATE index_entries SET entry='9' || entry WHERE name GLOB ? AND entry GLOB '00000000*'", f"in:{RUN}:*"),
        "lost", "I4",
    ),
    "a change of the context is gone": (
        sql(f"DELETE FROM log_entries WHERE {RUN_LOG} AND position=1", RUN, "x"), "wrong", "I5",
    ),
    "a change of the context counts twice": (
        sql(f"INSERT INTO log_entries SELECT slot, partition, name, 999, value FROM log_entries WHERE {RUN_LOG} "
            "AND position=1", RUN, "x"), "wrong", "I5",
    ),
    "a failed attempt counts twice": (
        sql(f"INSERT INTO log_entries SELECT slot, partition, name, 999, value FROM log_entries WHERE {RUN_LOG} "
            "AND position=0", FLAKY_RUN, "e"), "duplicated", "I6",
    ),
    "a failed attempt is gone": (sql(f"DELETE FROM log_entries WHERE {RUN_LOG}", FLAKY_RUN, "e"), "lost", "I6"),
    "a completion was counted twice": (
        sql("UPDATE counters SET value=value+1 WHERE partition=? AND name='c:completed'", RUN), "duplicated", "I3",
    ),
    "an item is counted live": (
        sql("UPDATE counters SET value=1 WHERE partition=? AND name='c:live'", RUN), "leaked", "I3",
    ),
    "a scope is not empty": (
        sql("UPDATE counters SET value=1 WHERE partition=? AND name GLOB 'n:?*'", RUN), "leaked", "I3",
    ),
    "an item is listed live": (entry(f"live:{RUN}", "x"), "leaked", "I3"),
    "a stale owner entry is left": (entry("owned:w9"), "leaked", "I9"),
    "a timer is left": (entry("timers"), "leaked", "I9"),
    "a message entry is left": (entry("messages:default"), "leaked", "I9"),
    "a parked entry is left": (entry("parked:default:Orders:1"), "leaked", "I9"),
    "an ended run is listed as running": (entry("runs.status:running", f"0:{RUN}"), "wrong", "I3"),
    "a run is not found by what it is": (
        sql("DELETE FROM index_entries WHERE name='runs.attribute:stage:sshipped' AND entry GLOB ?", f"*:{RUN}"),
        "lost", "I12",
    ),
    "a run is found by what it was": (entry("runs.attribute:stage:saccepted", f"0:{RUN}"), "leaked", "I12"),
    "the quarantine has what nobody sent": (
        lambda folder: (entry("quarantine")(folder), evidence(garbage=["c1"])(folder))[0], "lost", "I10",
    ),
    "a body is missing from the side ledger": (ledger(lambda lines: lines[2:]), "wrong", "I2"),
    "a body began long after the end of its run": (ledger(late_body), "wrong", "I7"),
    "a body was given another idempotency key": (ledger(other_key), "wrong", "I6"),
    "a body ran for an item the store does not know": (
        ledger(lambda lines: [*lines, f"begin\t{RUN}\tx\tprice\t{RUN}:x\t1\t1\n"]), "lost", "I1",
    ),
    "a client started a run the store does not know": (told("started order-999999"), "lost", "I1"),
    "a client was told another result": (told(f'result {RUN} {{"number": 0}}'), "wrong", "I5"),
    "a client was told that it cancelled a run that completed": (told(f"cancelled {RUN}"), "wrong", "I7"),
    "a message is left in a queue": (
        evidence(queues_quiet=[{**QUEUE, "messages_ready": 1}]), "leaked", "I9",
    ),
    "a message was never acknowledged": (
        evidence(queues_after=[{**QUEUE, "messages_unacknowledged": 1}]), "leaked", "I9",
    ),
    "a dead worker's queue is left": (
        evidence(queues_after=[{**QUEUE, "name": "chaos.control.w0.x"}]), "leaked", "I9",
    ),
    "a worker's descriptors have grown": (
        evidence(reports={"w0": {"descriptors": 40, "tasks": 10, "threads": 5, "resident_kib": 60_000}}),
        "leaked", "I9",
    ),
    "a worker's tasks have grown": (
        evidence(reports={"w0": {"descriptors": 20, "tasks": 40, "threads": 5, "resident_kib": 60_000}}),
        "leaked", "I9",
    ),
    "a worker's memory has grown": (
        evidence(reports={"w0": {"descriptors": 20, "tasks": 10, "threads": 5, "resident_kib": 900_000}}),
        "leaked", "I9",
    ),
    "a worker told to stop failed": (evidence(exits={"w0": 1}), "wrong", "I9"),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
async def test_the_checker_finds_nothing_where_all_is_well(finished: Path) -> None:
    findings = check(finished)
    assert [str(violation) for violation in findings.violations] == []
    assert findings.runs == {"completed": len(FINISHED)}
    assert findings.joins == len(FINISHED)
    assert findings.heard == len(FINISHED)
    assert findings.retries > 0
    assert findings.bodies >= findings.items > 0


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_the_checker_reports_what_was_corrupted_on_purpose(finished: Path, tmp_path: Path, name: str) -> None:
    corrupt, kind, invariant = CORRUPTIONS[name]
    folder = tmp_path / "corrupted"
    shutil.copytree(finished, folder)
    corrupt(folder)
    found = {(violation.kind, violation.invariant) for violation in check(folder).violations}
    assert (kind, invariant) in found


@pytest.mark.asyncio(loop_scope="module")
async def test_contexts_with_snapshots_are_merged_in_each_way(finished_with_snapshots: Path) -> None:
    runs = list(StoreReader(SqliteTables(finished_with_snapshots / "runs.db")).runs())
    assert any(run.context.deltas and run.context.deltas[0][0] > 0 for run in runs)
    assert any(len(list(run.context.ways())) == 2 for run in runs)
    assert any(run.context.segments for run in runs)
    assert [str(violation) for violation in check(finished_with_snapshots).violations] == []


CHANGES_TWICE = " + ".join(f"4 * sign(instr(value, CAST('{name}' AS BLOB)))" for name in ("picked", "quantity"))
CHANGES_TWICE += " + sign(instr(value, CAST('packed' AS BLOB)))"
"""Tells changes that make a difference when they are made again from those that do not."""

WITHOUT = f"DELETE FROM {{}} WHERE {RUN_LOG}"
IN_SNAPSHOTS: dict[str, Corruption] = {
    "a segment is gone": sql(WITHOUT.format("cells"), RUN, "xc:0"),
    "the older snapshot is gone": sql(
        "DELETE FROM cells WHERE partition=? AND name IN ('xs', 'xt') AND value=(SELECT min(value) FROM cells "
        "WHERE partition=? AND name IN ('xs', 'xt'))", RUN, RUN,
    ),
    "the changes after the snapshots are gone": sql(WITHOUT.format("log_entries"), RUN, "x"),
    "a change counts twice": sql(
        f"INSERT INTO log_entries SELECT slot, partition, name, 999, value FROM log_entries WHERE {RUN_LOG} "
        f"ORDER BY {CHANGES_TWICE} DESC, position LIMIT 1", RUN, "x",
    ),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", IN_SNAPSHOTS)
async def test_what_was_corrupted_of_snapshots_is_reported(
    finished_with_snapshots: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "corrupted"
    shutil.copytree(finished_with_snapshots, folder)
    IN_SNAPSHOTS[name](folder)
    found = {(violation.kind, violation.invariant) for violation in check(folder).violations}
    assert ("wrong", "I5") in found
