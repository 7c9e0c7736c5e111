"""The checks of the groups of the language are shown failing: what good runs left is corrupted in one way each."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgpack
import pytest
import pytest_asyncio

from tests.chaos.checker import check
from tests.chaos.checks import routing
from tests.chaos.checks.every import CHECKS
from tests.chaos.checks.flow import largest_at_once
from tests.chaos.corrupting import Corruption, entry, ledger, record, sql, told
from tests.chaos.finished import finish_orders
from tests.chaos.groups.floor import GROUPS
from tests.chaos.ledger import FOLDER

NOBODY = msgpack.packb([1, "x", "y"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the chaos leaves it, with each kind of deed of each group."""
    folder = tmp_path_factory.mktemp("finished")
    await finish_orders(folder, f"sqlite:///{folder}/runs.db", groups=True)
    return folder


def output(run: str, value: object) -> Corruption:
    """Let a run have come to something else."""
    return record("name=?", (f"in:{run}:",), "index_entries", (1, value))


def state(run: str, status: str) -> Corruption:
    return record("partition=? AND name='state'", (run,), "cells", (1, status))


def history_of(node: str) -> Corruption:
    """Take the ends of a node's items away."""

    def corrupt(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "runs.db")) as connection:
            rows = connection.execute("SELECT partition, position, value FROM log_entries WHERE name='h'").fetchall()
            gone = [key for *key, value in rows if msgpack.unpackb(value)[2] == node]
            assert gone
            connection.executemany("DELETE FROM log_entries WHERE partition=? AND position=? AND name='h'", gone)
            connection.commit()

    return corrupt


def without_note(run: str, what: str) -> Callable[[list[str]], list[str]]:
    """Lose the first of a run's notes of a kind."""

    def change(lines: list[str]) -> list[str]:
        found = next(line for line in lines if line.startswith(f"note:{what}\t{run}\t"))
        return [line for line in lines if line != found]

    return change


def noted(what: str, run: str, change: Callable[[list[list[str]]], None]) -> Callable[[list[str]], list[str]]:
    """Change the fields of a run's notes of a kind; the last field is the time."""

    def changed(lines: list[str]) -> list[str]:
        parts = [line.rstrip("\n").split("\t") for line in lines]
        change([each for each in parts if each[:2] == [f"note:{what}", run]])
        return ["\t".join(each) + "\n" for each in parts]

    return changed


def at_once(lines: list[list[str]]) -> None:
    for line in lines:
        line[6] = min(other[6] for other in lines)


def backwards(lines: list[list[str]]) -> None:
    keys = [line[4] for line in lines]
    for line, key in zip(lines, reversed(keys), strict=True):
        line[4] = key


def an_hour_earlier(lines: list[list[str]]) -> None:
    for line in lines:
        line[6] = str(int(line[6]) - 3_600_000)


def an_hour_later(lines: list[list[str]]) -> None:
    for line in lines:
        line[6] = str(int(line[6]) + 3_600_000)


def told_by_nothing(lines: list[str]) -> list[str]:
    told = next(line for line in lines if line.startswith("note:told\tcontrol-cancelled-2\t"))
    return [*lines, told.replace("control-cancelled-2", "control-kept-0")]


def extra_undone(lines: list[str]) -> list[str]:
    did = next(line for line in lines if line.startswith("note:did\tcontrol-kept-0\t"))
    return [*lines, did.replace("note:did", "note:undid")]


def more_turns(lines: list[str]) -> list[str]:
    turns = [line for line in lines if line.startswith("note:turn\tflow-rates-1\t")]
    return [*lines, *turns[:1] * 9]


def copied(like: str, change: Callable[[str], str], *, cells: str = "*") -> Corruption:
    """Let there be another run, like the first one whose id is like that."""

    def corrupt(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "runs.db")) as connection:
            query = "SELECT partition FROM cells WHERE partition GLOB ? AND name='header' ORDER BY partition"
            (run,) = connection.execute(query, (like,)).fetchone()
            columns = "INSERT INTO cells SELECT slot, ?, name, version, value FROM cells WHERE partition=?"
            assert connection.execute(columns, (change(run), run)).rowcount
            connection.commit()

    return corrupt


def second_later(run: str, *, seconds: int = 0, text: str = "") -> str:
    """The id of an occurrence some seconds later, or between two."""
    from datetime import datetime, timedelta

    name, _, moment = run.partition("@")
    later = datetime.fromisoformat(moment) + timedelta(seconds=seconds)
    return f"{name}@{later:%Y-%m-%dT%H:%M:%S}{text}Z"


def held_key(folder: Path) -> None:
    state = msgpack.packb([1, 2, 0, [["1", "x", "flow-keys-0"]], 0, b""])
    sql("INSERT INTO cells SELECT slot, ' limit:desk/desk-9', 'limit', 1, ? FROM cells WHERE slot>=0 LIMIT 1", state)(
        folder
    )


def without_runs(folder: Path, prefix: str) -> None:
    """Take everything away that there is of some runs."""
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        for table in ("cells", "counters", "log_entries"):
            connection.execute(f"DELETE FROM {table} WHERE partition GLOB ?", (f"{prefix}-*",))
        connection.execute("DELETE FROM index_entries WHERE name GLOB ?", (f"*:{prefix}-*",))
        connection.commit()


def without_its_label(folder: Path) -> None:
    """Let a step with a label have begun on a worker that lacks it."""
    (path,) = (folder / FOLDER).glob("w2-*.log")
    lines = [line for line in path.read_text().splitlines(keepends=True) if "\trender\t" in line]
    assert lines
    (folder / FOLDER / "w1-1.log").write_text(lines[0])


BEAT = "beat@2*"
EVENTS = [["RunStarted", "", "1"], ["RunEnded", "", "2"]]

CORRUPTIONS: dict[str, tuple[Corruption, str, str]] = {
    # 1 joins
    "a join gave something else": (output("joins-all-0", ["9", "9"]), "wrong", "I5"),
    "a race was won by nobody who ran": (output("joins-first-4", 7), "wrong", "I5"),
    "a join never ran": (history_of("both"), "lost", "I4"),
    "those who came too late in a race are forgotten": (history_of("run"), "lost", "I4"),
    "a fold left elements out": (history_of("count"), "lost", "I4"),
    # 2 hold and signals
    "a ballot counted twice": (output("signals-twice-2", [0, 1, 1]), "duplicated", "I13"),
    "an accepted signal is unknown": (
        sql("DELETE FROM cells WHERE partition='signals-early-1' AND name='sm:a'"), "lost", "I13",
    ),
    "the same signal was new twice": (told('signalled signals-twice-2 ["ballot-1", true]'), "duplicated", "I13"),
    "an item still waits for a signal": (entry("in:signals-waiting-0:waits", "approval/1:x"), "leaked", "I9"),
    "a run did not hear its signal": (output("signals-waiting-0", "nothing"), "wrong", "I5"),
    # 3 timers and schedules
    "a run went on too early": (ledger(noted("on", "timers-for-1", an_hour_earlier), "w2"), "wrong", "I16"),
    "a run began before its time": (
        record("partition='timers-delayed-3' AND name='header'", (), "cells", (12, 10**13)), "wrong", "I16",
    ),
    "a run outlived its deadline": (state("timers-deadline-4", "completed"), "wrong", "I1"),
    "an occurrence has no run": (copied(BEAT, lambda run: second_later(run, seconds=9)), "lost", "I16"),
    "there is a run between two occurrences": (copied(BEAT, lambda run: second_later(run, text=".500")),
        "duplicated", "I16"),
    "a schedule started more than there is": (
        told('schedule beat {"started": 99, "skipped": 0, "missed": 0}'), "lost", "I16",
    ),
    # 4 children
    "a child that should be cancelled is not": (
        record("name='state' AND partition GLOB 'child-*' AND instr(value, CAST('cancelled' AS BLOB))", (), "cells",
               (1, "completed")), "wrong", "I1",
    ),
    "a child is gone": (sql("DELETE FROM cells WHERE partition GLOB 'child-*'"), "lost", "I17"),
    "a parent does not know its child": (
        sql("DELETE FROM cells WHERE partition='children-waited-0' AND name GLOB 'k:*'"), "lost", "I17",
    ),
    "a child was started twice": (copied("child-*", lambda run: f"{run}0"), "duplicated", "I17"),
    # 5 control
    "a step was never undone": (ledger(without_note("control-failed-1", "undid"), "w2"), "lost", "I18"),
    "steps were undone in their order": (ledger(noted("undid", "control-failed-1", backwards), "w2"), "wrong", "I18"),
    "a step of a completed run was undone": (ledger(extra_undone, "w2"), "wrong", "I18"),
    "a step was undone while its body was at work": (
        ledger(noted("left", "control-cancelled-2", an_hour_later), "w2"), "wrong", "I18",
    ),
    "a step began when it was undone already": (
        ledger(noted("did", "control-cancelled-2", an_hour_later), "w2"), "wrong", "I18",
    ),
    "nobody was told that a run is cancelled": (
        ledger(without_note("control-cancelled-2", "told"), "w2"), "lost", "I18",
    ),
    "somebody was told so when all was undone": (
        ledger(noted("told", "control-cancelled-2", an_hour_later), "w2"), "wrong", "I18",
    ),
    "somebody was told that a run is cancelled which was not": (ledger(told_by_nothing, "w2"), "wrong", "I18"),
    "somebody is still to be told that a run was cancelled": (
        entry("in:control-cancelled-2:begun", "!cancel"), "leaked", "I9",
    ),
    "a step is still to be undone": (entry("in:control-failed-1:begun", "x"), "leaked", "I9"),
    "what was done by hand is not in the audit log": (
        sql("DELETE FROM log_entries WHERE partition='control-given-8' AND name='a'"), "wrong", "I18",
    ),
    "a fork is of another run": (
        record("partition='control-fork-6' AND name='header'", (), "cells", (13, ["x", "y"])), "wrong", "I18",
    ),
    # 6 flow control
    "three held a key at once": (ledger(noted("enter", "flow-keys-0", at_once), "w2"), "duplicated", "I14"),
    "a key is held for ever": (held_key, "leaked", "I14"),
    "a run still has a ticket": (entry("in:flow-keys-0:tickets", "x"), "leaked", "I14"),
    "somebody still waits for a key": (entry("in: limit:desk/desk-0:tickets", "x"), "leaked", "I14"),
    "more steps began in a second than may": (
        ledger(more_turns, "w2"), "duplicated", "I15",
    ),
    "two starts with one key were two runs": (
        copied("flow-dedupe-2", lambda run: run.replace("dedupe", "again")), "duplicated", "I16",
    ),
    # 7 routing
    "a step ran where its label is not": (
        without_its_label, "wrong", "I21",
    ),
    "a step that was to have a process of its own ran in its worker": (
        output("routing-process-1", [2, 1]), "wrong", "I5",
    ),
    # 8 versions
    "a run of a version ended by the code of another": (output("versions-pinned-0", "0 by 2"), "wrong", "I5"),
    "a run that was raised came to something else": (output("versions-raised-2", "2 by 3"), "wrong", "I5"),
    # 9 attributes, queries, events
    "a run is not found by what it became": (
        sql("DELETE FROM index_entries WHERE name='runs.attribute:stage:scertified' AND entry GLOB '*search-found-1'"),
        "lost", "I12",
    ),
    "a run is found by a mark that it does not have": (
        sql("UPDATE index_entries SET name='runs.attribute:mark:n4' WHERE name LIKE 'runs.attribute:mark:%'"
            " AND entry GLOB '*search-followed-0'"), "lost", "I12",
    ),
    "a list left a run out": (told("listed search-found-1 []"), "wrong", "I12"),
    "a view showed what is not so": (told('viewed search-found-1 ["running", {}]'), "wrong", "I12"),
    "a stream of events left some out": (told(f"events search-followed-0 {json.dumps(EVENTS)}"), "lost", "I19"),
    "a stream of events never ended": (told(f"events search-followed-0 {json.dumps(EVENTS[:1])}"), "wrong", "I19"),
    # 10 sources
    "a run was started by a message that nobody sent": (
        copied("intake:*", lambda run: f"{run}9"), "duplicated", "I20",
    ),
    "a source's run made something else of its message": (output("intake:sources-queue-0", "x"), "wrong", "I5"),
    "a run of a single message made something else of it": (output("intake:sources-once-2", "x"), "wrong", "I5"),
    "an unusable message is gone": (sql("DELETE FROM index_entries WHERE name='quarantine'"), "lost", "I10"),
    # 11 synchronous client
    "a client in a thread was told another result": (told('output sync-thread-0 "nothing"'), "wrong", "I5"),
    "a client in a thread heard no end": (told('events sync-thread-0 ["RunStarted"]'), "wrong", "I19"),
    # all of them
    "a letter is not delivered": (entry("letters", "00000000000001:x"), "leaked", "I9"),
    "a run has a letter that nobody delivers": (entry("in:joins-all-0:posted", "x"), "leaked", "I9"),
    "a client broke": (told("broken joins-1 KeyError: 'x'"), "wrong", "I1"),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_is_reported_of_groups_where_all_is_well_and_each_is_counted(finished: Path) -> None:
    findings = check(finished)
    assert [str(violation) for violation in findings.violations] == []
    assert findings.uncovered == []
    told = list(findings.table())
    assert len(told) == len(CHECKS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_what_was_corrupted_of_a_group_is_reported(finished: Path, tmp_path: Path, name: str) -> None:
    corrupt, kind, invariant = CORRUPTIONS[name]
    folder = tmp_path / "corrupted"
    shutil.copytree(finished, folder)
    corrupt(folder)
    found = {(violation.kind, violation.invariant) for violation in check(folder).violations}
    assert (kind, invariant) in found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", [each.number for each in CHECKS])
async def test_a_group_of_which_nothing_is_left_is_named(finished: Path, tmp_path: Path, number: int) -> None:
    (group,) = [each for each in CHECKS if each.number == number]
    prefix = "intake:sources" if number == 10 else next(each.name for each in GROUPS.values() if each.number == number)
    folder = tmp_path / "corrupted"
    shutil.copytree(finished, folder)
    without_runs(folder, prefix)
    assert f"{group.name}: runs" in check(folder).uncovered


@pytest.mark.asyncio(loop_scope="module")
async def test_a_process_that_outlives_its_worker_is_reported(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corrupted"
    shutil.copytree(finished, folder)
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "cmdline").write_bytes(b"python\0-m\0floxide_amqp.runtime")
    monkeypatch.setattr(routing, "PROCESSES", tmp_path)
    output("routing-process-1", [33, 77])(folder)
    found = [str(violation) for violation in check(folder).violations]
    assert found == ["leaked (I9) routing-process-1: process 77 of its step is left"]


def test_every_group_that_is_exercised_is_checked() -> None:
    assert sorted(group.number for group in GROUPS.values()) == [check.number for check in CHECKS]


@pytest.mark.parametrize(
    ("stays", "most"), [([], 0), ([(1, 3), (3, 5)], 1), ([(1, 4), (3, 5), (2, 3)], 2), ([(1, 9), (2, 9), (3, 9)], 3)]
)
def test_how_many_were_there_at_once(stays: list[tuple[int, int]], most: int) -> None:
    assert largest_at_once(stays) == most
