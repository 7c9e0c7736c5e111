from __future__ import annotations

import json
import os
import sys
import threading
import zlib
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import waking
from benchmarks.__main__ import main, parser
from benchmarks.contest import chain_rounds, part_rounds, watching
from benchmarks.contest.chain_rounds import ChainRounds
from benchmarks.contest.client_process import ContestantError
from benchmarks.contest.command import as_data, plan_of, with_parts
from benchmarks.contest.figures import Reading, compare, machine_ratio, percentile, reading, readings
from benchmarks.contest.page import page_text
from benchmarks.contest.part_rounds import PartRounds
from benchmarks.contest.part_tables import part_table
from benchmarks.contest.parts import PART_NAMES, PARTS
from benchmarks.contest.plan import ALONE, CHAINS, OURS, PEERS, WORKLOADS, Measured, Plan, Servers, shuffled
from benchmarks.contest.plots import draw
from benchmarks.contest.sizing import sized, sized_idle, warm_up_runs
from benchmarks.contest.tables import (
    ahead_table,
    changes_text,
    contest_text,
    latency_table,
    more_workers_table,
    processor_table,
    rates_table,
    shares_of_limits_table,
    syncs_table,
)
from benchmarks.contest.watching import PREFECT, Moment, part_of
from benchmarks.peers.arena import Arena, asking_seconds
from benchmarks.peers.client import drive
from benchmarks.peers.payload import Order, advance_plain, check, new_order
from benchmarks.peers.tally import FOLDER_VARIABLE, Tally, counted
from floxide_amqp import RunStatus
from floxide_amqp.exceptions import ConfigurationError

RATE = {
    "workload": "3 steps, 100 in flight",
    "steps": 3,
    "runs": 200,
    "in_flight": 100,
    "repeated_steps": 0,
    "note_bytes": 0,
    "pause": 0.0,
}
IDLE = {"workload": "idle latency of 3 steps", "steps": 3, "runs": 20, "in_flight": 1, "repeated_steps": 0}


def facts(title: str, *, is_synced: bool, is_apart: bool = True) -> dict[str, Any]:
    return {
        "title": title, "setting": "a setting", "durability": "A reason.", "is_synced": is_synced,
        "is_apart": is_apart, "versions": {"package": "1.2.3"}, "manual": ["https://example.org/manual"],
    }  # fmt: skip


def fan_out(items: int, us_per_item: list[float]) -> dict[str, Any]:
    """What was measured of a fan-out."""
    figures = {"us_per_item": us_per_item, "client_peak_mib": [64.25] * len(us_per_item)}
    return {
        "part": "fan-out", "contestant": "ours-sqlite", "case": f"{items:,} items, folded", "size": items,
        "kind": "folded", "figures": figures,
    }  # fmt: skip


def planned(*arguments: str) -> Plan:
    """The plan of a command line."""
    return plan_of(parser().parse_args(["peers", *arguments]))


def contest(rates: list[float], relay: list[float]) -> dict[str, Any]:
    """The results of a contest of two, and of no more than a page needs."""
    processor = [{"client": 0.1, "workers": 0.2}] * len(rates)
    return {
        "machine": {"cores": 2}, "servers": {"RabbitMQ": "3.10.8"}, "failures": [],
        "plan": {"rounds": len(rates), "seconds": 3.0, "idle_runs": 20, "large_rounds": 1},
        "contestants": {
            "ours-postgresql": facts("floxide_amqp, PostgreSQL", is_synced=True),
            "celery": facts("Celery", is_synced=False),
        },
        "limits": {"relay, messages": relay, "grouped commit, PostgreSQL": [9_000.0, 11_000.0, 10_000.0]},
        "results": [
            RATE | {
                "contestant": "ours-postgresql", "workers": 1, "steps_per_second": rates,
                "processor_seconds": processor,
            },
            RATE | {
                "contestant": "celery", "workers": 1, "in_flight": 36, "steps_per_second": [132.1, 140.0, 129.0],
                "processor_seconds": processor,
            },
            IDLE | {"contestant": "celery", "workers": 1, "p50_ms": [9.0, 8.0, 7.0], "p99_ms": [20.0, 40.0, 30.0],
                    "processor_seconds": processor},
        ],
        "parts": [fan_out(100, [210.0, 200.0, 205.0]), fan_out(1_000, [190.0, 200.0, 195.0])],
        "syncs": [{"contestant": "celery", "workers": 1, "steps": 500, "wal_syncs": 0, "disk_flushes": 60}] * 2,
    }  # fmt: skip


def test_a_reading_is_the_median_of_its_rounds_and_their_range() -> None:
    assert reading("x", "steps/s", [5.0, 1.0, 3.0]) == Reading("x", "steps/s", True, 3.0, 1.0, 5.0, 3)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_the_value_of_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([100, 110, 120], [115, 130, 140], "noise"),  # the ranges meet
        ([100, 110, 120], [121, 130, 140], "better"),
        ([121, 130, 140], [100, 110, 120], "worse"),
        ([100, 100, 100], [104, 104, 104], "noise"),  # too small, however narrow the ranges are
        ([100, 100, 100], [105, 105, 105], "better"),
        ([100, 100, 100], [140], "noise"),  # a single round has no range
        ([100, 100], [151, 160], "better"),
        ([151, 160, 170], [100], "worse"),
    ],
)
def test_a_change_is_one_where_the_ranges_have_nothing_in_common(
    old: list[float], new: list[float], verdict: str
) -> None:
    (change,) = compare([reading("rate", "steps/s", old)], [reading("rate", "steps/s", new)])
    assert change.verdict == verdict


def test_more_milliseconds_are_worse() -> None:
    old, new = reading("p50", "ms", [1.0], more_is_better=False), reading("p50", "ms", [2.0], more_is_better=False)
    assert [each.verdict for each in compare([old], [new])] == ["worse"]
    assert [each.verdict for each in compare([new], [old])] == ["better"]


def test_what_only_one_of_two_results_has_is_not_compared() -> None:
    assert compare([reading("gone", "ms", [1.0])], [reading("new", "ms", [1.0])]) == []


def test_the_machine_is_compared_by_the_raw_limits_alone() -> None:
    old = [reading("limit: a", "1/s", [100.0]), reading("limit: b", "1/s", [10.0]), reading("rate", "1/s", [1.0])]
    new = [reading("limit: a", "1/s", [50.0]), reading("limit: b", "1/s", [5.0]), reading("rate", "1/s", [9.0])]
    assert machine_ratio(compare(old, new)) == 0.5
    assert machine_ratio(compare(old[2:], new[2:])) is None


def test_the_command_compares_two_files_and_fails_where_something_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, slow = tmp_path / "fast.json", tmp_path / "slow.json"
    fast.write_text(json.dumps(contest([3000.0, 3100.0, 2900.0], [4000.0])))
    slow.write_text(json.dumps(contest([1000.0, 1100.0, 1050.0], [4000.0])))
    assert main(["compare", str(fast), str(slow)]) == 1
    printed = capsys.readouterr().out
    assert "| ours-postgresql, 1 worker, 3 steps, 100 in flight | steps/s | 3,000.0" in printed
    assert "| 0.35  | worse   |" in printed
    assert "raw limits are 1.00 times" in printed
    assert main(["compare", str(slow), str(fast)]) == 0
    assert main(["compare", str(fast), str(fast)]) == 0
    assert "10 figures compared, 10 of them within their noise" in capsys.readouterr().out


def test_the_command_says_what_it_cannot_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({"results": [{"name": "something else"}]}))
    assert main(["compare", str(empty), str(empty)]) == 2
    assert "holds no rounds that could be compared" in capsys.readouterr().err


def test_the_results_of_other_benchmarks_are_compared_by_their_ranges(tmp_path: Path) -> None:
    row = {
        "place": "in-process, sqlite",
        "case": "chain of 3, 1 run",
        "median_ms": 4.0,
        "least_ms": 3.0,
        "most_ms": 9.0,
        "rounds": 5,
    }
    path = tmp_path / "throughput.json"
    path.write_text(json.dumps({"results": [row]}))
    assert readings(path) == [Reading("in-process, sqlite, chain of 3, 1 run", "ms", False, 4.0, 3.0, 9.0, 5)]


def test_changes_are_told_with_the_worst_first_and_noise_only_where_it_is_asked_for() -> None:
    old = [reading(name, "1/s", [100.0]) for name in ("falls", "keeps", "rises")]
    new = [reading("falls", "1/s", [50.0]), reading("keeps", "1/s", [101.0]), reading("rises", "1/s", [200.0])]
    changes = compare(old, new)
    told = changes_text(changes)
    assert told.index("falls") < told.index("rises")
    assert "keeps" not in told
    assert "keeps" in changes_text(changes, everything=True)


def test_the_table_of_rates_marks_who_does_not_sync_and_who_had_fewer_in_flight() -> None:
    text = rates_table(contest([3000.0, 3100.0, 2900.0], [4000.0]), 1)
    assert "| floxide_amqp, PostgreSQL | 3,000 (2,900 to 3,100)" in text
    assert "| Celery *                 | 132 (129 to 140, 36 in flight)" in text


def test_the_table_of_latencies_has_medians_and_ranges() -> None:
    assert "8.0 (7.0 to 9.0) | 30.0 (20.0 to 40.0)" in latency_table(contest([1.0], [1.0]))


@pytest.mark.parametrize(
    ("relay", "row"),
    [
        ([4000.0], "10,000 | grouped commit | 30%"),  # 3 times 4,000 is more than the commits' 10,000
        ([2000.0], "6,000 | 3 times relay | 50%"),
    ],
)
def test_the_smaller_of_two_limits_is_what_a_rate_is_held_against(relay: list[float], row: str) -> None:
    assert row in " ".join(shares_of_limits_table(contest([3000.0], relay)).split())


def test_syncs_are_counted_for_each_thousand_steps() -> None:
    assert "| 1,000 | 0 " in " ".join(syncs_table(contest([1.0], [1.0])).split())
    assert "| 120 |" in " ".join(syncs_table(contest([1.0], [1.0])).split())


def test_the_processors_are_shared_out_among_the_steps_and_against_all_there_were() -> None:
    data = contest([3000.0], [1.0])  # 600 steps in 0.2 s, with 0.1 s and 0.2 s of two processors
    text = " ".join(processor_table(data | {"results": data["results"][:1]}, "3 steps, 100 in flight").split())
    assert "| client | workers | processors busy |" in text
    assert "| floxide_amqp, PostgreSQL | 1 | 167 | 333 | 75% |" in text


def test_the_page_is_made_of_the_results_alone(tmp_path: Path) -> None:
    data = contest([3000.0, 3100.0, 2900.0], [4000.0])
    text = page_text(data, tmp_path / "peers.json")
    assert text == page_text(json.loads(json.dumps(data)), tmp_path / "peers.json")
    assert "median of 3 rounds" in text
    assert "https://example.org/manual" in text
    assert "repeated ones: none" in text
    assert "there are as many as take\n  about 15 s, and fewer in flight" in text
    assert max(map(len, text.split("## Chains")[0].splitlines()[4:])) <= 120


@pytest.mark.parametrize(
    ("rate", "in_flight", "runs"),
    [
        (1000.0, 100, 3000),  # three seconds' worth
        (50.0, 100, 200),  # at least twice what shall be in flight
        (100.0, 1000, 1000),  # once where that takes more than four times as long
        (25.0, 1000, 1000),  # 40 s for all of them
        (20.0, 1000, 300),  # longer: five times as long as planned
        (0.1, 100, 10),
    ],
)
def test_the_number_of_runs_follows_from_a_rate(rate: float, in_flight: int, runs: int) -> None:
    assert sized(rate, 3.0, in_flight) == runs


@pytest.mark.parametrize(("seconds", "most", "runs"), [(0.005, 200, 200), (1.0, 200, 30), (9.0, 200, 20), (9.0, 5, 5)])
def test_the_number_of_idle_runs_follows_from_how_long_one_takes(seconds: float, most: int, runs: int) -> None:
    assert sized_idle(seconds, most) == runs


@pytest.mark.parametrize(
    ("runs", "in_flight", "before"), [(3000, 1000, 300), (3000, 100, 100), (50, 100, 10), (200, 0, 1)]
)
def test_a_tenth_of_the_runs_go_before_the_clock(runs: int, in_flight: int, before: int) -> None:
    assert warm_up_runs(runs, in_flight) == before


def test_each_round_has_an_order_of_its_own_which_is_the_same_every_time() -> None:
    orders = [shuffled(PEERS, number) for number in range(6)]
    assert all(sorted(order) == sorted(PEERS) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert orders == [shuffled(PEERS, number) for number in range(6)]


def test_who_runs_steps_in_the_clients_process_is_measured_with_one_number_of_workers_only() -> None:
    plan = Plan(contestants=(*OURS, *PEERS), workers=[1, 2], rounds=1, seconds=1.0, idle_runs=1, limit_messages=1)
    counts = [workers for name, workers in plan.entries() if name in ALONE]
    assert counts == [1] * len(ALONE)
    assert len(plan.entries()) == 2 * len((*OURS, *PEERS)) - len(ALONE)


def test_a_payload_is_of_about_300_bytes_and_differs_from_every_other() -> None:
    sizes = {len(new_order(number).model_dump_json()) for number in (1, 50, 123_456)}
    assert all(270 <= size <= 340 for size in sizes)
    assert len({new_order(number).model_dump_json() for number in range(500)}) == 500


def test_a_payload_is_as_much_larger_as_is_asked_for() -> None:
    small, large = (len(new_order(5, note_bytes).model_dump_json()) for note_bytes in (0, 65536))
    assert large - small == 65536


def test_a_large_payload_does_not_compress_and_is_the_same_for_the_same_number() -> None:
    note = new_order(5, 65536).note
    assert len(zlib.compress(note.encode())) > 0.74 * len(note)  # base64 has six bits of eight
    assert note == new_order(5, 65536).note
    assert note != new_order(6, 65536).note


def test_a_wrong_output_is_told_and_so_is_a_missing_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    data = new_order(7).model_dump()
    for _ in range(3):
        data = advance_plain(data)
    check(new_order(7), 3, Order.model_validate(data))
    with pytest.raises(AssertionError, match=r"number=7.* instead of .*number=8"):
        check(new_order(8), 3, Order.model_validate(data))
    with pytest.raises(AssertionError, match="a run of 4 steps gave"):
        check(new_order(7), 4, Order.model_validate(data))


def test_the_steps_of_each_process_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert counted(tmp_path) == {}
    tally = Tally()
    for _ in range(3):
        tally.add_one()
    assert counted(tmp_path) == {os.getpid(): 3}


class Counting:
    """A contestant of the other kind, whose runs are over at once."""

    facts: Any = None

    def __init__(self, client_threads: int = 1) -> None:
        self.client_threads = client_threads
        self.in_flight = 0
        self.flying = 0
        self.most = 0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def start(self, order: Order, steps: int) -> Order:
        self.flying += 1
        self.most = max(self.most, self.flying)
        return order.model_copy(update={"advanced": steps})

    def result(self, started: Order) -> Order:
        self.flying -= 1
        return started


@pytest.mark.parametrize(("in_flight", "most"), [(1, 1), (4, 4), (100, 20)])
async def test_so_many_runs_are_kept_in_flight(in_flight: int, most: int) -> None:
    contestant = Counting()
    outputs = await drive(contestant, [new_order(number) for number in range(20)], 3, in_flight)
    assert [output.number for output in outputs] == list(range(20))
    assert (contestant.most, contestant.flying) == (most, 0)


class Meeting(Counting):
    """One whose first runs are over only once every thread has started one."""

    def __init__(self, client_threads: int) -> None:
        super().__init__(client_threads)
        self.all_here = threading.Barrier(client_threads, timeout=30)
        self.of_thread = threading.local()
        self.numbers: dict[int, list[int]] = {}

    def start(self, order: Order, steps: int) -> Order:
        self.numbers.setdefault(threading.get_ident(), []).append(order.number)
        return order.model_copy(update={"advanced": steps})

    def result(self, started: Order) -> Order:
        if not hasattr(self.of_thread, "has_met"):
            self.all_here.wait()
            self.of_thread.has_met = True
        return started


async def test_each_thread_of_a_client_has_its_share_and_the_outputs_are_in_order() -> None:
    contestant = Meeting(3)
    with ThreadPoolExecutor(3) as threads:
        outputs = await drive(contestant, [new_order(number) for number in range(20)], 3, 9, threads)
    assert [output.number for output in outputs] == list(range(20))
    assert sorted(map(len, contestant.numbers.values())) == [6, 7, 7]


@pytest.mark.parametrize(("in_flight", "told"), [(1, 1), (10, 10), (1000, 20)])
async def test_who_asks_for_results_is_told_how_many_runs_there_can_be_in_flight(in_flight: int, told: int) -> None:
    contestant = Counting()
    await drive(contestant, [new_order(number) for number in range(20)], 3, in_flight)
    assert contestant.in_flight == told


def test_results_are_asked_for_so_much_less_often_the_more_there_are() -> None:
    assert [asking_seconds(count) for count in (1, 10, 1000)] == [0.001, 0.005, 0.5]


class Listing:
    """Lists three runs that wait, one of which is on its way when it is first asked for those that are."""

    def __init__(self) -> None:
        self.asked: list[RunStatus] = []

    async def list_runs(self, *, status: RunStatus, **_: object) -> Any:
        self.asked.append(status)
        found = {RunStatus.WAITING: 3, RunStatus.PENDING: 1 if len(self.asked) == 1 else 0}
        return SimpleNamespace(runs=[None] * found.get(status, 0), next_cursor="")


async def test_runs_that_wait_are_counted_only_once_none_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        assert seconds >= 0.5

    monkeypatch.setattr(waking.asyncio, "sleep", sleep)
    client: Any = Listing()
    await waking.until_held(client, "Waiting", 3)
    assert client.asked == [RunStatus.PENDING, RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING]


class AnsweringClient:
    """A client that answers at once; its facts are those of a contestant with another form for steps that wait."""

    pid = 1
    facts = facts("Celery", is_synced=False) | {"has_waiting_form": True}

    def __init__(self, asked: list[Mapping[str, Any]]) -> None:
        self.asked = asked

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        self.asked.append(question)
        took = [0.01] * question["runs"] if question["kind"] == "idle" else 1.0
        return {"seconds": took, "processor_seconds": 0.125, "bodies": question["runs"] * question["steps"]}


class Stores(Servers):
    """Servers whose databases are names."""

    @contextmanager
    def database(self) -> Generator[str]:
        yield "database"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, list[Mapping[str, Any]]]]:
    """The clients that are opened: whether for steps that wait, and what each is asked."""
    opened: list[tuple[bool, list[Mapping[str, Any]]]] = []

    @contextmanager
    def client_process(name: str, python: Path, arena: Arena) -> Generator[AnsweringClient]:
        opened.append((arena.is_waiting, []))
        yield AnsweringClient(opened[-1][1])

    def look(*_: object) -> Moment:
        return Moment(wal_syncs=0, flushes=0, processor={"workers": 1.0})

    monkeypatch.setattr(chain_rounds, "client_process", client_process)
    monkeypatch.setattr(chain_rounds, "look", look)
    return opened


def test_steps_that_wait_are_measured_in_a_client_of_their_own_where_a_contestant_has_a_form_for_them(
    asked: list[tuple[bool, list[Mapping[str, Any]]]],
) -> None:
    server: Any = Unused()
    measured = Measured()
    rounds = ChainRounds(planned("--only", "celery", "--workers", "1"), Stores(server, server, server), measured, str)
    rounds.hold(0)
    rounds.hold(1)
    assert [is_waiting for is_waiting, _ in asked] == [False, True, False, True]
    for is_waiting, questions in asked:
        assert {bool(each.get("pause")) for each in questions} == {is_waiting}
    assert {name for _, _, name in measured.rows} == {each.name for each in WORKLOADS}
    assert not measured.failures


def test_runs_go_before_the_clock_and_the_client_tells_its_own_processor_time(
    asked: list[tuple[bool, list[Mapping[str, Any]]]],
) -> None:
    server: Any = Unused()
    measured = Measured()
    plan = replace(planned("--only", "celery", "--workers", "1"), workloads=WORKLOADS[:1])
    rounds = ChainRounds(plan, Stores(server, server, server), measured, str)
    rounds.hold(0)
    rounds.hold(1)
    (_, sizing), (_, taken) = asked
    (row,) = measured.rows.values()
    assert [each["runs"] for each in taken] == [warm_up_runs(row["runs"], 100), row["runs"]]
    assert row["processor_seconds"] == [{"client": 0.12}]
    assert row["steps_per_second"] == [3.0 * row["runs"]]
    assert measured.syncs[0]["steps"] == 3 * sum(each["runs"] for each in taken)
    assert sizing


@pytest.mark.parametrize(("failing", "rounds_left"), [(1, 2), (2, 0)])
def test_who_fails_is_tried_again_at_once_and_left_out_if_that_fails_too(
    asked: list[tuple[bool, list[Mapping[str, Any]]]],
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
    rounds_left: int,
) -> None:
    opened = chain_rounds.client_process
    errors = iter([ContestantError("it is ill")] * failing)

    @contextmanager
    def client_process(name: str, python: Path, arena: Arena) -> Generator[Any]:
        for error in errors:
            raise error
        with opened(name, python, arena) as client:
            yield client

    monkeypatch.setattr(chain_rounds, "client_process", client_process)
    server: Any = Unused()
    measured = Measured()
    rounds = ChainRounds(planned("--only", "taskiq", "--workers", "1"), Stores(server, server, server), measured, str)
    for number in range(3):
        rounds.hold(number)
    assert [each["error"] for each in measured.failures] == ["it is ill"] * failing
    assert {len(row["processor_seconds"]) for row in measured.rows.values()} == ({rounds_left} - {0})


def test_a_contestant_that_never_finished_a_workload_has_no_row_and_is_named() -> None:
    plan = Plan(contestants=["celery"], workers=[1], rounds=1, seconds=1.0, idle_runs=1, limit_messages=1)
    unfinished = RATE | {"contestant": "celery", "workers": 1, "steps_per_second": [], "processor_seconds": []}
    failure = {"contestant": "celery", "workers": 1, "round": 1, "error": "it is ill\nand more"}
    measured = Measured(
        facts={"celery": facts("Celery", is_synced=False)}, rows={("celery", 1, str(RATE["workload"])): unfinished},
        limits={"relay, messages": [4000.0]}, failures=[failure],
    )  # fmt: skip
    data = as_data(plan, {"cores": 2}, measured)
    assert data["results"] == []
    assert "celery, 1 worker, round 1: it is ill\n" in contest_text(data) + "\n"


def test_results_are_in_the_order_of_the_plan_whatever_that_of_the_rounds_was() -> None:
    plan = Plan(contestants=list(PEERS), workers=[1, 2], rounds=1, seconds=1.0, idle_runs=1, limit_messages=1)
    keys = [(name, workers, each.name) for workers in (1, 2) for name in PEERS for each in WORKLOADS]
    rows = {
        key: {"contestant": key[0], "workers": key[1], "workload": key[2], "processor_seconds": [{}]} for key in keys
    }
    of_rounds = {key: rows[key] for key in shuffled(keys, 1)}
    told = {name: facts(name, is_synced=True) for name in shuffled(PEERS, 2)}
    data = as_data(plan, {"cores": 2}, Measured(facts=told, rows=of_rounds))
    assert [(row["contestant"], row["workers"], row["workload"]) for row in data["results"]] == keys
    assert list(data["contestants"]) == list(PEERS)


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("python -m prefect server start --port 4200", PREFECT),
        ("python -m uvicorn prefect.server.api.server:create_app --factory", PREFECT),
        ("python -m celery --app benchmarks.peers.celery worker", "workers"),
        ("python -m benchmarks.peers.client prefect", "workers"),
    ],
)
def test_the_server_of_prefect_is_no_worker(command: str, part: str) -> None:
    assert part_of(command.split()) == part


def test_it_is_told_how_the_schedulers_of_the_broker_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ["/usr/lib/erlang/beam.smp", "-W", "w", "-sbwt", "none", "-sbwtdcpu", "none", "-sbwt", "none", "--"]
    commands = {1: ["python", "-m", "benchmarks"], 2: broker}
    monkeypatch.setattr(watching, "descendants", lambda _: list(commands))
    monkeypatch.setattr(watching, "arguments_of", commands.__getitem__)
    assert watching.erlang_flags() == "+sbwt none, +sbwtdcpu none"


def test_plots_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'floxide-amqp\[bench\]'"):
        draw(contest([1.0], [1.0]), tmp_path, "peers")
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_a_part_has_each_case_with_its_median_and_range_from_small_to_large() -> None:
    data = contest([1.0], [1.0])
    text = part_table(data | {"parts": data["parts"][::-1]}, PARTS[0])
    small, large = text.splitlines()[2:]
    assert "| SQLite †         | 100 items, folded   | 205 (200 to 210) |" in small
    assert "| 1,000 items, folded | 195 (190 to 200) |" in large
    assert "64.2 (64.2 to 64.2)" in small


def test_the_page_and_the_printed_text_have_every_part_that_was_measured(tmp_path: Path) -> None:
    data = contest([3000.0, 3100.0, 2900.0], [4000.0])
    page = page_text(data, tmp_path / "peers.json")
    assert PARTS[0].said in page.replace("\n", " ")
    assert part_table(data, PARTS[0]) in page
    assert part_table(data, PARTS[0]) in contest_text(data)
    assert PARTS[1].said not in page.replace("\n", " ")


def test_parts_of_a_contest_of_their_own_are_put_beside_the_chains_and_said_to_be(tmp_path: Path) -> None:
    chains, parts = contest([3000.0, 3100.0, 2900.0], [4000.0]) | {"parts": []}, contest([1.0] * 7, [1.0])
    assert "in the same rounds;\n  cases of 100,000 in 1 of them" in page_text(chains, tmp_path / "peers.json")
    both = with_parts(chains, parts)
    page = page_text(both, tmp_path / "peers.json")
    assert "in 7 rounds of their own on the same machine;\n  cases of 100,000 in 1 of them" in page
    assert part_table(both, PARTS[0]) in page
    assert max(map(len, page.split("## Chains")[0].splitlines()[4:])) <= 120


def test_parts_alone_make_a_text_without_tables_of_chains() -> None:
    data = contest([1.0], [1.0]) | {"results": [], "syncs": [], "limits": {}}
    assert "fan-out and join" in contest_text(data)
    assert "raw limit" not in contest_text(data)


def test_more_microseconds_of_a_part_are_worse(tmp_path: Path) -> None:
    data = contest([1.0], [1.0])
    slower = data | {"parts": [fan_out(100, [400.0, 410.0, 420.0])]}
    for name, each in (("old", data), ("new", slower)):
        (tmp_path / name).write_text(json.dumps(each))
    changes = compare(readings(tmp_path / "old"), readings(tmp_path / "new"))
    worse = [(change.name, change.unit) for change in changes if change.verdict == "worse"]
    assert worse == [("fan-out, ours-sqlite, 100 items, folded: us_per_item", "µs")]


def test_ours_is_held_against_the_best_of_the_others_in_each_workload() -> None:
    data = contest([3000.0, 3100.0, 2900.0], [4000.0])
    slow = data["results"][1] | {"contestant": "taskiq", "steps_per_second": [1.0]}
    data["contestants"]["taskiq"] = facts("Taskiq", is_synced=False)
    text = " ".join(ahead_table(data | {"results": [*data["results"], slow]}).split())
    assert "| 3 steps, 100 in flight | Celery * | 132 | 22.7 times |" in text
    assert ahead_table(data | {"results": data["results"][:1]}) == ""


def test_two_workers_are_held_against_one_for_those_that_have_two() -> None:
    data = contest([3000.0, 3100.0, 2900.0], [4000.0])
    assert more_workers_table(data) == ""
    two = data["results"][0] | {"workers": 2, "steps_per_second": [4500.0]}
    text = more_workers_table(data | {"results": [*data["results"], two]})
    assert "2 workers by 1 worker" in text
    assert "| floxide_amqp, PostgreSQL | 1.50 " in text
    assert "Celery" not in text


def test_parts_are_chosen_and_left_out_by_name() -> None:
    assert planned().parts == [CHAINS, *PART_NAMES]
    assert planned("--without", "chains", "--without", "waiting").parts == [
        each for each in PART_NAMES if each != "waiting"
    ]
    assert planned("--part", "context").parts == ["context"]
    assert planned("--part", "context").entries() == []
    assert planned("--only", "celery", "--only", "ours-redis").part_contestants == ["ours-redis"]
    assert list(planned().part_contestants) == list(OURS)


def test_a_case_has_its_size_in_words() -> None:
    fan, starts = PARTS[0], PARTS[PART_NAMES.index("starts")]
    assert fan.named(10_000, "folded") == "10,000 items, folded"
    assert starts.named(1, "") == "1 run"
    assert max(size for size, _ in fan.cases(with_large=False)) == 10_000
    assert max(size for size, _ in fan.cases(with_large=True)) == 100_000


class Unused:
    """A server that nobody may ask for anything but its address."""

    url = "server://"

    def command(self, *words: str) -> None: ...


def test_a_case_that_fails_is_told_and_left_out_and_all_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int, str]] = []

    def measure_once(part: Any, broker: str, name: str, store: str, location: str, size: int, kind: str) -> Any:
        asked.append((part.name, store, size, kind))
        if (store, size, kind) == ("redis", 1_000, "folded"):
            raise RuntimeError("it is ill")
        return {"us_per_item": 200.0 + len(asked), "worker_peak_mib": 70.0}

    monkeypatch.setattr(part_rounds, "measure_once", measure_once)
    server: Any = Unused()
    measured, told = Measured(), list[str]()
    plan = planned("--part", "fan-out", "--only", "ours-redis", "--only", "ours-sqlite", "--large-rounds", "1")
    rounds = PartRounds(plan, Servers(server, server, server), measured, told.append)
    rounds.hold(1)
    assert len(asked) == 2 * 2 * 4
    rounds.hold(2)
    assert len(asked) == 2 * 2 * 4 + 2 * 2 * 3 - 1
    assert [(each["contestant"], each["case"]) for each in measured.failures] == [
        ("ours-redis", "fan-out: 1,000 items, folded")
    ]
    assert any("it is ill" in line for line in told)
    counts = {key: len(row["figures"]["us_per_item"]) for key, row in measured.parts.items()}
    assert counts["fan-out", "ours-sqlite", "100,000 items, gathered"] == 1
    assert counts["fan-out", "ours-redis", "10,000 items, folded"] == 2
    assert ("fan-out", "ours-redis", "1,000 items, folded") not in counts


def test_what_needs_a_worker_apart_is_not_measured_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure_once(part: Any, *_: object) -> Any:
        asked.append(part.name)
        return {}

    monkeypatch.setattr(part_rounds, "measure_once", measure_once)
    server: Any = Unused()
    PartRounds(planned("--smoke", "--only", "ours-sqlite"), Servers(server, server, server), Measured(), str).hold(1)
    assert asked == ["fan-out", "context"]


def test_a_smoke_run_measures_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def measure_once(part: Any, broker: str, name: str, store: str, *_: object) -> Any:
        asked.append((part.name, store))
        return {}

    monkeypatch.setattr(part_rounds, "measure_once", measure_once)
    server: Any = Unused()
    PartRounds(planned("--smoke"), Servers(server, server, server), Measured(), str).hold(1)
    assert asked == [
        ("fan-out", "sqlite"), ("context", "sqlite"), ("starts", "redis"), ("waiting", "redis"), ("recovery", "redis")
    ]  # fmt: skip
