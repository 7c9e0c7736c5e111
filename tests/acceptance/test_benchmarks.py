from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.flatness import tenths
from benchmarks.growth import Growth
from examples.wfformat.generated import generated_tasks, write_trace

ROOT = Path(__file__).parents[2]


def measure(*arguments: str) -> str:
    """Run the benchmarks in small, see that they leave no files, and return what they print."""
    before = sorted((ROOT / "benchmarks" / "results").glob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted((ROOT / "benchmarks" / "results").glob("*")) == before
    return done.stdout


def measure_as_data(*arguments: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(measure(*arguments, "--json"))["results"]
    return results


def test_the_benchmarks_run_in_small_and_check_their_outputs() -> None:
    printed = measure()
    assert "| in-process, sqlite | fan-out of 100" in printed
    assert "| in-process, memory | event log" in printed


def test_growth_counts_what_runs_take_and_what_their_deletion_leaves() -> None:
    (found,) = measure_as_data("growth", "--store", "sqlite")
    assert (found["runs"], found["steps"], found["failed"]) == (60, 180, 6)
    taken = [found[f"bytes_{moment}"]["values and entries"] for moment in ("empty", "left", "full")]
    assert taken == sorted(set(taken))
    assert found["bytes_left"]["file"] >= found["bytes_full"]["file"]
    assert found["bytes_full"]["pages in use"] > found["bytes_left"]["pages in use"]
    assert found["kinds"]["history"]["records"] == found["runs"]
    assert set(found["page_median_ms"]) == {"30", "60"}
    assert set(found["tenant_page_median_ms"]) == {"30", "60"}


def test_runs_are_woken_by_signals_and_by_timers_of_this_worker_and_of_another() -> None:
    signals, timers, left = measure_as_data("waking", "--store", "sqlite")
    assert [each["what"] for each in (signals, timers, left)] == ["signals", "timers", "timers of another worker"]
    assert signals["accepted_seconds"] <= signals["seconds"]
    assert all(0 < each["first_seconds"] <= each["seconds"] for each in (signals, timers, left))


def test_growth_is_counted_per_run_and_per_step() -> None:
    growth = Growth(
        store="sqlite", runs=10, tidying="", fill_seconds=1.0, empty={"file": 100}, full={"file": 9_999},
        tidied={"file": 3_100}, emptied={"file": 3_100}, left={"file": 600}, kinds={},
        page_ms={10: [3.0, 9.0, 3.0], 5: [2.0, 1.0, 2.0]}, tenant_page_ms={5: [4.0], 10: [5.0]}, prune_seconds=1.0,
    )  # fmt: skip
    plain = growth.plain()
    assert plain["bytes_per_run"] == {"file": 300}
    assert plain["bytes_per_step"] == {"file": 100}
    assert plain["bytes_left_per_run"] == {"file": 50}
    assert plain["page_ratio"] == pytest.approx(1.5)
    assert plain["tenant_page_ratio"] == pytest.approx(1.25)


def test_a_context_of_many_events_is_measured_with_snapshots_and_without() -> None:
    found = measure_as_data("context", "--store", "sqlite")
    assert [each["with_snapshots"] for each in found] == [True, False]
    assert [(each["events"], each["steps"]) for each in found] == [(400, 40)] * 2
    assert all(each["ratios"] == [each["last_by_first"]] for each in found)
    assert all(each["context_bytes"] > 400 * 50 for each in found)


def test_a_context_is_refused_whose_events_cannot_be_shared_out_among_its_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["context", "--events", "100", "--steps", "30"]) == 2
    assert "a multiple of --steps" in capsys.readouterr().err


def test_the_codecs_are_measured_for_each_size() -> None:
    printed = measure("codecs")
    assert "| 100 B " in printed
    assert "| 20,000 B " in printed


def test_a_tenth_costs_its_time_divided_by_its_steps() -> None:
    steady = [step * 0.001 for step in range(1001)]
    assert [round(cost) for cost in tenths(steady)] == [1000] * 10
    slowing = [step * step * 1e-6 for step in range(1001)]
    assert [round(cost) for cost in tenths(slowing)] == [100 + 200 * part for part in range(10)]


def test_a_fan_out_is_measured_in_one_process_and_with_its_worker_apart() -> None:
    embedded, apart = measure_as_data("fan-in", "--store", "sqlite", "--store", "redis", "--join", "folded")
    assert (embedded["items"], embedded["worker_mib"]) == (200, [])
    assert embedded["orchestrator"]["peak_mib"] >= embedded["orchestrator"]["idle_mib"] > 0
    (peak,), (idle,) = apart["worker_mib"], apart["worker_idle_mib"]
    assert peak >= idle > 0
    assert apart["orchestrator"]["peak_mib"] >= apart["orchestrator"]["idle_mib"] > 0


def test_a_graph_of_tasks_runs_each_once_and_in_order_on_rabbitmq(tmp_path: Path) -> None:
    write_trace(tmp_path / "mine.json", generated_tasks(20))
    generated, mine = measure_as_data("traces", str(tmp_path / "mine.json"), "--store", "redis", "--workers", "1")
    assert (generated["name"], generated["tasks"], generated["ended"]) == ("generated of 60", 60, 60)
    assert (mine["name"], mine["tasks"], mine["ended"]) == ("mine", 20, 20)


def test_a_contest_checks_its_outputs_and_prints_limits_and_syncs() -> None:
    printed = measure("peers")
    assert "| floxide_amqp, SQLite † |" in printed
    assert "| relay, messages " in printed
    assert "| relay through aiormq, messages " in printed
    assert "flushes of the disk, whole machine" in printed
    assert "Did not finish" not in printed
