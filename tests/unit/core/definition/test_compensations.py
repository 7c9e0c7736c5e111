"""What a compensation must be is checked when the workflow class is created."""

from __future__ import annotations

from typing import Any

import pytest

from floxide_amqp import (
    Cancelled,
    Compensation,
    CompositeNode,
    Context,
    DefinitionError,
    Hold,
    Next,
    NextAll,
    ReduceNode,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.compensation import is_undoing, undone_by


class State(Context):
    total: int = 0


class Other(Context):
    total: int = 0


@node
async def undo(of: Compensation[int, str]) -> None: ...


@node(compensation=undo)
async def do(x: int) -> str:
    return str(x)


@node
async def on_cancel_node(of: Cancelled) -> None: ...


def workflow(start_node: Any, *, takes: Any = int, returns: Any = str, on_cancel_with: Any = None) -> Any:
    class Made(Workflow[takes, returns, State]):  # type: ignore[misc, valid-type]
        start = start_node
        on_cancel = on_cancel_with

    return Made


def test_a_compensation_is_a_node_of_its_own_that_no_edge_leads_to() -> None:
    made = workflow(do, on_cancel_with=on_cancel_node).graph
    assert list(made.nodes) == ["do", "do#undo", "#on_cancel_node"]
    assert (made.has_compensations, made.on_cancel) == (True, "#on_cancel_node")
    assert [name for name in made.nodes if is_undoing(name)] == ["do#undo", "#on_cancel_node"]
    assert (undone_by("do#undo"), undone_by("#on_cancel_node")) == ("do", "")


def test_a_drawing_names_it_in_the_node_that_it_undoes() -> None:
    for drawing in (workflow(do).to_dot(), workflow(do).to_mermaid()):
        assert "undone by undo" in drawing
        assert "#undo" not in drawing


def test_a_step_of_an_inlined_workflow_keeps_its_compensation() -> None:
    class Inner(Workflow[int, str, State]):
        start = do

    made = workflow(CompositeNode(Inner)).graph
    assert list(made.nodes) == ["Inner/do", "Inner/do#undo"]


def test_one_compensation_may_undo_two_steps_of_the_same_types() -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([x])

    class Twice(Workflow[int, list[str], State]):
        start = split
        edges = (split >> (do, do.named("more")),)

    assert [name for name in Twice.graph.nodes if is_undoing(name)] == ["do#undo", "more#undo"]


def test_what_it_takes_must_be_what_the_step_takes_and_returns() -> None:
    wrong = do.with_options(compensation=undo_of(Compensation[str, str]))
    with pytest.raises(DefinitionError, match="node 'do' takes int, but its compensation 'undoing' expects str"):
        workflow(wrong)
    wrong = do.with_options(compensation=undo_of(Compensation[int, int]))
    with pytest.raises(DefinitionError, match=r"returns str, .* expects int. Let it take Compensation\[int, str\]"):
        workflow(wrong)
    with pytest.raises(DefinitionError, match=r"takes int. Let it take Compensation\[int, str\]"):
        workflow(do.with_options(compensation=undo_of(int)))


def undo_of(kind: Any) -> Any:
    @node
    async def undoing(of: kind) -> None: ...

    return undoing


def test_it_may_take_more_than_the_step_gives() -> None:
    workflow(do.with_options(compensation=undo_of(Compensation[int | str, str | None])))
    workflow(do.with_options(compensation=undo_of(Compensation[Any, Any])))


def test_it_neither_holds_nor_fans_out_nor_has_a_compensation_itself() -> None:
    @node
    async def holds(of: Compensation[int, str]) -> Hold | None:
        return None

    @node
    async def spreads(of: Compensation[int, str]) -> NextAll[int]:
        return NextAll([])

    for compensation, what in ((holds, "Hold"), (spreads, "NextAll")):
        with pytest.raises(DefinitionError, match=f"undoes, and may return {what}"):
            workflow(do.with_options(compensation=compensation))
    with pytest.raises(DefinitionError, match="has a compensation itself"):
        workflow(do.with_options(compensation=undo.with_options(compensation=undo)))


def test_a_step_that_fans_out_has_none() -> None:
    @node(compensation=undo)
    async def spread(x: int) -> Next[str] | NextAll[str]:
        return Next("")

    with pytest.raises(DefinitionError, match="may return NextAll and has a compensation"):
        workflow(spread, returns=list[str])


def test_a_fold_has_none() -> None:
    def add(total: int, value: int) -> int:
        return total + value

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([x])

    @node
    async def give_back(of: Compensation[list[int], int]) -> None: ...

    fold = ReduceNode(add, 0).with_options(compensation=give_back)
    with pytest.raises(DefinitionError, match=r"'add' folds what it gathers.*put what is to be undone into a node"):

        class Folding(Workflow[int, int]):
            start = split
            edges = (split >> gather(fold),)

    class Adding(Workflow[list[int], int]):  # not gathered, it is one step
        start = fold
        edges = ()

    assert "add#give_back" in Adding.graph.nodes


def test_it_reads_the_context_of_its_workflow() -> None:
    @node
    async def elsewhere(ctx: WorkflowCtx[Other], of: Compensation[int, str]) -> None: ...

    with pytest.raises(DefinitionError, match="its context is State, but node 'elsewhere' reads Other"):
        workflow(do.with_options(compensation=elsewhere))


def test_a_function_that_is_no_node_is_refused_where_it_is_given() -> None:
    async def plain(of: Compensation[int, str]) -> None: ...

    async def one_step(x: int) -> str:
        return str(x)

    with pytest.raises(DefinitionError, match="must be a node: put @node above the function that undoes"):
        node(compensation=plain)(one_step)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="must be a node"):
        do.with_options(compensation=plain)


def test_what_runs_first_when_a_run_is_cancelled_takes_cancelled() -> None:
    with pytest.raises(DefinitionError, match=r"on_cancel is node 'do', which takes int\. Let it take Cancelled"):
        workflow(do, on_cancel_with=do)
    with pytest.raises(DefinitionError, match="it must be a node that takes Cancelled"):
        workflow(do, on_cancel_with="clean up")


def test_a_compound_node_has_none() -> None:
    class Inner(Workflow[int, str, State]):
        start = do

    with pytest.raises(DefinitionError, match="stands for several nodes, so compensation cannot be set for it"):
        workflow(CompositeNode(Inner).with_options(compensation=undo))
