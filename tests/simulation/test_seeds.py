"""Random workflows under random faults: each seed one story, two hundred of them, and every kind of fault in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from floxide_amqp.runtime.settings import Retention
from floxide_amqp.testing.simulation.faults import KINDS
from floxide_amqp.testing.simulation.parallel import play_without_collecting
from floxide_amqp.testing.simulation.plan import Plan
from floxide_amqp.testing.simulation.report import describe_failure
from floxide_amqp.testing.simulation.seeds import Played, play_seed

SEEDS = int(os.environ.get("FLOXIDE_SIMULATION_SEEDS", "200"))
BLOCK = 20
ENOUGH = 60
"""Seeds within which each kind of fault must have happened in each of its ways."""

fault = pytest.mark.fault

WAYS = [
    pytest.param("crash", ["crash"], marks=fault(2)),
    pytest.param("crash at await", ["crash"], marks=fault(1, 2)),
    pytest.param("crash at call", ["crash at read"], marks=fault(1)),
    pytest.param("crash at call", ["crash at commit", "crash at scan", "crash at publish"], marks=fault(2)),
    pytest.param("crash at call", ["crash at committed"], marks=fault(3)),
    pytest.param("crash at call", ["crash at published", "crash at ack"], marks=fault(4)),
    pytest.param("crash in body", ["crash in body", "crash"], marks=fault(2, 3)),
    pytest.param("crash all", ["crash"], marks=fault(2)),
    pytest.param("stop", ["graceful stop"], marks=fault(44)),
    pytest.param("freeze", ["zombie", "freeze"], marks=fault(6)),
    pytest.param("hang", ["hung loop"], marks=fault(39)),
    pytest.param("namesake", ["namesake", "name refused", "name lost"], marks=fault(6)),
    pytest.param("worker clock", ["worker's clock jumped"], marks=fault(33)),
    pytest.param("store away", ["store out of reach"], marks=fault(25)),
    pytest.param("store slow", ["slow store"], marks=fault(26)),
    pytest.param("store refuses", ["store refused"], marks=fault(25)),
    pytest.param("lost replies", ["lost reply"], marks=fault(27)),
    pytest.param("store full", ["full disk"], marks=fault(30)),
    pytest.param("store clock", ["store's clock jumped"], marks=fault(34)),
    pytest.param("store crash", ["lost tail"], marks=fault(31)),
    pytest.param("cut from store", ["cut from the store", "store out of reach"], marks=fault(28)),
    pytest.param("cut from broker", ["cut from the broker"], marks=fault(29)),
    pytest.param("broker restart", ["broker restart"], marks=fault(7)),
    pytest.param("broker wiped", ["broker wiped"], marks=fault(8)),
    pytest.param("purge", ["purge"], marks=fault(9)),
    pytest.param("disconnect", ["disconnect"], marks=fault(11)),
    pytest.param("blocked", ["publisher waits"], marks=fault(14)),
    pytest.param("bad messages", ["returned", "refused", "lost confirm", "dropped"], marks=fault(15)),
    pytest.param("bad messages", ["duplicated"], marks=fault(17)),
    pytest.param("bad messages", ["reordered"], marks=fault(18)),
    pytest.param("bad messages", ["delayed"], marks=fault(19)),
    pytest.param("dead letters", ["given up", "came back too often", "letter kept"], marks=fault(21)),
    pytest.param("bad hints", ["lost hint", "late hint", "repeated hint", "hint gap"], marks=fault(49)),
    pytest.param("garbage", ["garbage"], marks=fault(35)),
]


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_whatever_happens_to_random_workflows_each_run_ends_as_it_should(first: int) -> None:
    _check(play_without_collecting(seed) for seed in range(first, min(first + BLOCK, SEEDS)))


@pytest.mark.parametrize(("kind", "ways"), WAYS)
def test_each_kind_of_fault_happens_and_harms_no_run(kind: str, ways: list[str]) -> None:
    happened: Counter[str] = Counter()
    for seed in range(ENOUGH):
        played = play_seed(seed, kinds=[kind])
        _check([played])
        happened += played.faults
        if all(happened[way] for way in ways):
            return
    pytest.fail(f"{[way for way in ways if not happened[way]]} never happened in {ENOUGH} seeds")


def test_every_kind_of_fault_is_among_those_that_must_happen() -> None:
    assert {str(way.values[0]) for way in WAYS} == set(KINDS)


@pytest.mark.fault(48)
def test_storms_of_pauses_resumes_and_cancels_leave_each_run_in_one_end() -> None:
    def storm(plan: Plan) -> Plan:
        return replace(plan, steering=25, may_cancel=True, seconds=6.0)

    happened: Counter[str] = Counter()
    for seed in range(25):
        played = play_seed(seed, change=storm, kinds=["bad messages", "bad hints"])
        _check([played])
        happened += played.faults
    assert happened["pause"] >= 30
    assert happened["cancel"] >= 5


@pytest.mark.fault(50, 51)
def test_orchestrators_that_die_while_they_start_the_same_runs_start_each_once() -> None:
    def crowd(plan: Plan) -> Plan:
        return replace(plan, clients=3, client_deaths=3, runs=3)

    happened: Counter[str] = Counter()
    for seed in range(15):
        played = play_seed(seed, change=crowd, kinds=[])
        _check([played])
        happened += played.faults
    assert happened["crash at committed"] >= 1
    assert happened["conflicting start"] >= 1


def test_runs_that_are_deleted_while_others_go_on_leave_nothing_but_that_they_were() -> None:
    def deletes(plan: Plan) -> Plan:
        retention = Retention(completed=0.5, cancelled=0.5)
        return replace(plan, runs=3, clients=2, settings=replace(plan.settings, retention=retention))

    happened: Counter[str] = Counter()
    for seed in range(30):
        played = play_seed(seed, change=deletes)
        _check([played])
        happened += played.faults
    assert happened["run pruned beside others"] >= 10
    assert happened["run pruned"] >= 10


def _check(seeds: Iterable[Played]) -> None:
    failed = [describe_failure(played) for played in seeds if played.violations]
    assert not failed, "\n".join(failed)
