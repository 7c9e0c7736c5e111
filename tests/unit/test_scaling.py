from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.scaling import COMPUTED, PAGE, TABLES, with_tables
from benchmarks.scaling_inputs import KEPT, PARTS, Inputs, Part, Rate, keep, load, processor_times, rates_of
from benchmarks.scaling_measure import GroupCost, fixed_costs
from benchmarks.scaling_model import Layout, limits, shard_names, shares, simulate
from benchmarks.scaling_plan import Goal, plan

NOTHING = Part(0.0, 0.0)

FREE = Inputs(
    client=NOTHING, worker=NOTHING, store=NOTHING, broker=NOTHING, worker_us_per_group=0.0, store_us_per_group=0.0,
    group_us=0.0, commits_per_group=10.0, news_us=0.0, news_per_second=0.0, network=NOTHING, log=NOTHING,
    stored_bytes=0.0, worker_mib=0.0, client_mib=0.0, deleted_per_second=100.0, connections=5,
)  # fmt: skip
"""Nothing takes anything."""

SOME = replace(
    FREE, client=Part(400.0, 0.0), worker=Part(300.0, 200.0), store=Part(100.0, 50.0), broker=Part(150.0, 0.0),
    worker_us_per_group=50.0, store_us_per_group=50.0, group_us=500.0, network=Part(100.0, 10.0), worker_mib=64.0,
)  # fmt: skip

RUNS = 500


# --- what is known of queues


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_alone_takes_time_works_at_its_own_rate(name: str) -> None:
    inputs = replace(FREE, **{name: Part(100.0, 100.0)})
    found = simulate(inputs, Layout(steps=4, in_flight=50, shard_cores=1), runs=RUNS)
    assert found.steps_per_second == pytest.approx(4 / 500e-6, rel=0.03)
    assert found.saturated == name


def test_two_workers_that_alone_take_time_do_twice_as_much() -> None:
    inputs = replace(FREE, worker=Part(0.0, 100.0))
    one, two = (simulate(inputs, Layout(steps=4, in_flight=100, workers=each), runs=RUNS) for each in (1, 2))
    assert two.steps_per_second == pytest.approx(2 * one.steps_per_second, rel=0.05)


@pytest.mark.parametrize("in_flight", [1, 20, 200])
@pytest.mark.parametrize("machine_cores", [None, 2])
def test_what_is_in_flight_is_the_rate_times_the_time_a_run_takes(in_flight: int, machine_cores: int | None) -> None:
    layout = Layout(steps=3, in_flight=in_flight, machine_cores=machine_cores)
    found = simulate(SOME, layout, runs=2_000)
    assert found.in_flight == pytest.approx(in_flight, rel=1e-6)
    assert found.steps_per_second / 3 * found.latency_seconds == pytest.approx(in_flight, rel=0.1)


def test_one_run_at_a_time_takes_the_sum_of_all_it_passes() -> None:
    found = simulate(SOME, Layout(steps=3, in_flight=1), runs=2_000)
    groups = 5 * (50 + 50 + 500)  # a commit for the start and for each step, and the look at the result
    assert found.latency_seconds == pytest.approx((400 + 900 + 250 + 150 + groups) / 1e6, rel=0.03)
    assert found.saturated == "nothing"


@pytest.mark.parametrize("layout", [
    Layout(steps=3, in_flight=100), Layout(steps=10, in_flight=300, workers=3),
    Layout(steps=3, in_flight=300, clients=3, workers=4, queues=2, shards=2),
    Layout(steps=3, in_flight=100, machine_cores=2),
])  # fmt: skip
def test_no_rate_is_above_the_limit_of_any_part(layout: Layout) -> None:
    found = simulate(SOME, layout, runs=RUNS)
    assert found.steps_per_second <= 1.05 * min(limits(SOME, layout).values())


def test_who_has_more_of_what_the_rate_ended_at_ends_at_the_next_part() -> None:
    layout, ended_at = Layout(steps=10, in_flight=600, concurrency=200, shard_cores=1), list[str]()
    more: dict[str, dict[str, int]] = {
        "worker": {"workers": 8}, "client": {"clients": 5}, "store": {"shards": 1, "shard_cores": 4}, "broker": {},
    }  # fmt: skip
    inputs = replace(SOME, group_us=0.0, client=Part(800.0, 0.0), broker=Part(450.0, 0.0))
    rates: list[float] = []
    while not ended_at or ended_at[-1] != "broker":
        found = simulate(inputs, layout, runs=RUNS)
        assert found.saturated not in ended_at
        ended_at.append(found.saturated)
        rates.append(found.steps_per_second)
        layout = replace(layout, **more[found.saturated])
    assert ended_at == ["worker", "client", "store", "broker"]
    assert rates == sorted(rates)


def test_on_one_machine_all_parts_share_its_cores() -> None:
    found = simulate(SOME, Layout(steps=3, in_flight=100, clients=2, workers=4, machine_cores=1), runs=RUNS)
    assert found.saturated == "machine"
    assert found.steps_per_second <= 3e6 / (400 + 900 + 250 + 150)


def test_groups_grow_with_what_is_in_flight_and_their_wait_costs_ever_less() -> None:
    inputs = replace(FREE, group_us=10_000.0, store=Part(10.0, 10.0))
    few, many = (simulate(inputs, Layout(steps=4, in_flight=each), runs=RUNS) for each in (1, 100))
    assert few.group == pytest.approx(1.0)
    assert many.group > 10
    assert many.steps_per_second > 20 * few.steps_per_second


def test_news_of_other_clients_runs_takes_time_from_workers() -> None:
    inputs = replace(FREE, worker=Part(0.0, 100.0), news_us=100.0, news_per_second=2_500.0)
    found = simulate(inputs, Layout(steps=4, in_flight=60, clients=3), runs=1_000)
    assert found.steps_per_second == pytest.approx(10_000 / 2, rel=0.05)


def test_the_server_with_most_slots_ends_the_rate_of_all() -> None:
    inputs, layout = replace(FREE, store=Part(0.0, 100.0)), Layout(steps=4, in_flight=400, shards=3, shard_cores=1)
    most = max(shares(shard_names(3)).values())
    assert most > 1 / 3
    assert limits(inputs, layout)["store"] == pytest.approx(10_000 / most)
    assert simulate(inputs, layout, runs=1_000).steps_per_second <= 1.1 * 10_000 / most


def test_the_slots_of_all_servers_are_all_slots() -> None:
    assert sum(shares(["a", "b", "c"]).values()) == 1.0


def test_the_same_seed_gives_the_same_outcome() -> None:
    layout = Layout(steps=3, in_flight=20, workers=2)
    assert simulate(SOME, layout, runs=200) == simulate(SOME, layout, runs=200)
    assert simulate(SOME, layout, runs=200, seed=2) != simulate(SOME, layout, runs=200)


# --- inputs


def contest() -> dict[str, Any]:
    """Chains of 3 and of 10 steps, of which each part takes 100 µs for a run and 20 for a step."""
    rows = [
        {
            "contestant": "ours-postgresql", "workers": 1, "workload": f"{steps} steps, {name} in flight",
            "steps": steps, "runs": runs, "in_flight": 100, "note_bytes": 0, "pause": 0.0,
            "steps_per_second": [900.0, 1_000.0],
            "processor_seconds": [dict.fromkeys(PARTS.values(), runs * (100 + 20 * steps) * factor / 1e6)],
        }
        for steps in (3, 10) for name, runs, factor in (("100", 100, 9.0), ("1,000", 1_000, 1.0))
    ]  # fmt: skip
    syncs = [{"contestant": "ours-postgresql", "workers": 1, "steps": 100, "wal_syncs": 10}]
    return {"machine": {"cores": 2, "load_before": 0.5}, "results": rows, "syncs": syncs}


def test_processor_times_are_fitted_to_the_longest_measurements_and_groups_taken_off() -> None:
    found = processor_times(contest(), replace(FREE, worker_us_per_group=50.0, store_us_per_group=1_000.0))
    assert {found[f"{name}_us_per_run"] for name in PARTS} == {100.0}
    assert [found[f"{name}_us_per_step"] for name in PARTS] == [20.0, 15.0, 0.0, 20.0]
    assert found["commits_per_group"] == 10.0


def test_results_without_two_lengths_of_chains_are_refused() -> None:
    data = contest()
    data["results"] = [row for row in data["results"] if row["steps"] == 3]
    with pytest.raises(ValueError, match="no chains of two lengths"):
        processor_times(data, FREE)


def test_the_rates_of_plain_chains_are_taken() -> None:
    rates = rates_of(contest())
    assert rates[0] == Rate(workers=1, steps=3, in_flight=100, cores=2, load=0.5, rates=(900.0, 1_000.0))
    assert [rate.median for rate in rates] == [950.0] * 4


def test_what_is_fixed_about_a_group_follows_from_a_small_and_a_large_one() -> None:
    found = fixed_costs(GroupCost(1_000.0, 200.0, 300.0), GroupCost(3_450.0, 690.0, 790.0))
    assert found == {"group_us": 470, "worker_us_per_group": 190, "store_us_per_group": 290}


def test_new_values_are_kept_beside_the_others(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    path.write_text(KEPT.read_text(encoding="utf-8"), encoding="utf-8")
    before = load(path)
    rates = [Rate(workers=2, steps=3, in_flight=9, cores=4, load=0.1, rates=(1.0,))]
    keep({"group_us": 123.0}, "measured elsewhere", rates, path)
    after = load(path)
    assert after.inputs == replace(before.inputs, group_us=123.0)
    assert after.note == "measured elsewhere"
    assert after.rates == rates


def test_a_file_that_lacks_an_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = tmp_path / "scaling.json", json.loads(KEPT.read_text(encoding="utf-8"))
    del data["inputs"]["group_us"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert main(["scaling", "--inputs", str(path)]) == 2
    assert "does not have all inputs" in capsys.readouterr().err


# --- the arithmetic


def test_the_cores_of_a_rate_are_what_its_runs_take_at_the_planned_use() -> None:
    need = plan(SOME, Goal(steps_per_second=100_000.0, steps=10, use=0.5))
    assert need.runs_per_second == 10_000.0
    assert need.cores["broker"] == pytest.approx(10_000 * 150e-6 / 0.5)
    assert need.cores["worker"] == pytest.approx(10_000 * (300 + 10 * (200 + 50 / 10)) * 1e-6 / 0.5)
    assert need.workers >= need.cores["worker"]
    assert need.network == 10_000 * 200.0
    assert need.deleting_shards == 100


def test_twice_the_rate_takes_twice_the_cores() -> None:
    one, two = (plan(SOME, Goal(steps_per_second=each, steps=10)) for each in (50_000.0, 100_000.0))
    assert two.cores == pytest.approx({name: 2 * cores for name, cores in one.cores.items()})


def test_no_cell_has_more_than_its_servers_take() -> None:
    goal = Goal(steps_per_second=1_000_000.0, steps=10)
    need = plan(SOME, goal)
    assert need.cells > 1
    assert SOME.connections * (need.workers + need.clients) / need.cells <= goal.most_connections
    assert need.shards / need.cells <= goal.most_shards
    assert need.queues / need.cells <= goal.broker_cores
    busiest = max(shares(shard_names(need.shards // need.cells)).values())
    assert need.cores["store"] / need.cells * busiest <= goal.shard_cores


# --- the command and the page


def test_the_command_predicts_a_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaling", "--steps", "3", "--in-flight", "20", "--machine-cores", "2"]) == 0
    printed = capsys.readouterr().out
    assert "steps/s, a run takes" in printed
    assert {line.partition(":")[0] for line in printed.splitlines()[1:]} == {*PARTS, "machine"}


def test_the_page_has_the_tables_that_follow_from_the_inputs() -> None:
    text, kept = PAGE.read_text(encoding="utf-8"), load()
    assert all(f"<!-- {name}: python -m benchmarks scaling -->" in text for name in TABLES)
    assert with_tables(text, kept, COMPUTED) == text, "make it anew: python -m benchmarks scaling --page"


def test_each_input_names_what_measures_it() -> None:
    assert all(load().sources.values())
