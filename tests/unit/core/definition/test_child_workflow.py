"""What a child workflow is as a node, and what is refused when it is made."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import (
    ChildWorkflow,
    DefinitionError,
    NextAll,
    OnClose,
    RetryPolicy,
    Workflow,
    node,
    with_retry,
)
from floxide_amqp.core.child_workflow import children_of
from floxide_amqp.runtime.registry import Registry


@node
async def double(n: int) -> int:
    return 2 * n


@node
async def shown(n: int) -> str:
    return str(n)


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


class Doubles(Workflow[int, int], version="3"):
    start = double


class Parent(Workflow[int, str]):
    start = ChildWorkflow(Doubles)
    edges = (start >> shown,)


class Grandparent(Workflow[int, str]):
    start = ChildWorkflow(Parent)
    edges = (start,)


def test_it_is_a_node_of_its_workflows_types() -> None:
    child = ChildWorkflow(Doubles)
    assert (child.name, child.input_type, child.output_type) == ("Doubles", int, int)
    assert ChildWorkflow(Doubles, name="again").name == "again"
    assert ChildWorkflow(Doubles, wait=False).output_type is str


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, OnClose.CANCEL),
        ({"wait": False}, OnClose.ABANDON),
        ({"on_close": OnClose.ABANDON}, OnClose.ABANDON),
        ({"wait": False, "on_close": OnClose.CANCEL}, OnClose.CANCEL),
    ],
)
def test_one_that_is_waited_for_ends_with_its_parent_by_default(options: dict[str, Any], expected: OnClose) -> None:
    assert ChildWorkflow(Doubles, **options).on_close is expected


def test_it_can_have_a_retry_policy_and_a_time() -> None:
    policy = RetryPolicy(max_attempts=3)
    child = with_retry(ChildWorkflow(Doubles, timeout=90), policy)
    assert child.options.retry == policy
    assert child.child_timeout == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: ChildWorkflow(double), "takes a workflow class that has a start"),  # type: ignore[call-overload]
        (lambda: ChildWorkflow(Doubles, timeout=-1), r"ChildWorkflow\(Doubles\): timeout=-1 must be"),
        (lambda: ChildWorkflow(Doubles, on_close="cancel"), r"on_close='cancel' must be OnClose.CANCEL"),  # type: ignore[call-overload]
        (lambda: ChildWorkflow(Doubles, name="a/b"), "a/b"),
        (lambda: ChildWorkflow(Doubles).with_options(timeout=3), r"timeout cannot be set .*ChildWorkflow\(\.\.\."),
        (lambda: ChildWorkflow(Doubles).with_options(at_most_once=True), "at_most_once cannot be set"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_child_is_refused(make: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        make()


def test_a_workflow_with_several_outputs_is_refused() -> None:
    class Spread(Workflow[int, list[int]]):
        start = spread
        edges = (spread >> double,)

    with pytest.raises(DefinitionError, match=r"may end more than once.*gather"):
        ChildWorkflow(Spread)


def test_the_same_child_twice_in_one_graph_is_one_node_and_another_needs_a_name() -> None:
    class Twice(Workflow[int, int]):
        start = ChildWorkflow(Doubles)
        edges = (ChildWorkflow(Doubles) >> ChildWorkflow(Doubles, name="second"),)

    assert list(Twice.graph.nodes) == ["Doubles", "second"]
    with pytest.raises(DefinitionError, match=r"Two different nodes are called 'Doubles'"):

        class Clash(Workflow[int, str]):
            start = ChildWorkflow(Doubles)
            edges = (start >> ChildWorkflow(Doubles, wait=False),)


def test_who_runs_a_workflow_can_run_its_children() -> None:
    registry = Registry([Grandparent])
    assert registry.names() == ("Doubles@3", "Grandparent@1", "Parent@1")
    assert [child.name for child in children_of(Grandparent.graph)] == ["Parent"]
    assert Grandparent.graph.has_children
    assert not Doubles.graph.has_children


@pytest.mark.asyncio
async def test_a_workflow_with_children_runs_in_process() -> None:
    assert await Grandparent.run(4) == "8"
