"""What runs are found by is right after every commit, whatever befalls those who set it."""

from __future__ import annotations

from floxide_amqp import NextAll, Workflow, WorkflowCtx, gather, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import Delete, Leave, Put, Write
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.attributes import attribute_writes, encode_attributes
from floxide_amqp.testing.simulation.attribute_watch import AttributeWatch
from floxide_amqp.testing.simulation.endings import Ending
from floxide_amqp.testing.simulation.own_workflows import simulate

RUN = RunId("run")
ENTRY = run_list_keys.run_entry(7, RUN)


@node
async def divide(ctx: WorkflowCtx, width: int) -> NextAll[int]:
    ctx.set_attribute("stage", "divided")
    return NextAll(range(width))


@node
async def mark(ctx: WorkflowCtx, number: int) -> int:
    ctx.set_attribute(f"part-{number}", True)
    ctx.set_attribute("last", number)
    return number


@node
async def add_up(ctx: WorkflowCtx, numbers: list[int]) -> int:
    ctx.set_attribute("stage", None)
    return sum(numbers)


class Marks(Workflow[int, int]):
    start = divide
    edges = (divide >> mark >> gather(add_up),)


def added_up(ending: Ending[int]) -> None:
    assert ending.results == [sum(range(run.input)) for run in ending.runs]


def test_steps_that_set_attributes_of_one_run_at_once_leave_it_under_those_it_has() -> None:
    totals = simulate(Marks, 3, 8, check=added_up, seeds=range(25))
    assert (totals.seeds, totals.completed) == (25, 50)
    assert totals.faults["crash"] > 5


def watched(*batches: list[Write]) -> list[str]:
    violations: list[str] = []
    watch = AttributeWatch(violations.append)
    for batch in batches:
        watch.batch_applied([batch])
    return violations


def test_a_run_that_is_listed_as_its_record_says_is_right() -> None:
    first, then = {"a": 1, "b": "x"}, {"a": 2, "c": True}
    assert watched(attribute_writes(RUN, ENTRY, {}, first), attribute_writes(RUN, ENTRY, first, then)) == []


def test_a_run_that_stays_in_a_list_whose_attribute_it_lost_is_noticed() -> None:
    first = {"a": 1}
    forgotten = [each for each in attribute_writes(RUN, ENTRY, first, {"a": 2}) if not isinstance(each, Leave)]
    (violation,) = watched(attribute_writes(RUN, ENTRY, {}, first), forgotten)
    assert violation.startswith("I12: run run has ['runs.attribute:a:n2'] and is listed under")


def test_a_run_that_is_in_no_list_of_its_attribute_is_noticed() -> None:
    (violation,) = watched([Put(keys.attributes(RUN), encode_attributes({"a": 1}))])
    assert violation.startswith("I12")


def test_a_run_that_is_deleted_and_stays_listed_is_noticed() -> None:
    (violation,) = watched(attribute_writes(RUN, ENTRY, {}, {"a": 1}), [Delete(keys.header(RUN))])
    assert violation.startswith("I12")
