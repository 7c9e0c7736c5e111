from __future__ import annotations

import re
from typing import Any

import pytest

from floxide_amqp.core.child_workflow import ChildWorkflow
from floxide_amqp.core.compose import BatchNode
from floxide_amqp.core.edge_joins import all_of, all_of_each, any_of, n_of
from floxide_amqp.core.entering import first, gather, repeat
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.function_node import node
from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.path import Path
from floxide_amqp.core.rates import RateLimit
from floxide_amqp.core.reduce_node import ReduceNode
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.transition import Hold, NextAll
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.core.workflow_ctx import WorkflowCtx


@node
async def split(order: str) -> NextAll[str]:
    return NextAll([order])


@node
async def pick(item: str) -> str:
    return item


@node
async def pack(items: list[str]) -> str | None:
    return items[0]


@node
async def excuse(item: str) -> None:
    return None


class Packing(WorkflowDefinition[str, str | None]):
    start = split
    edges = (
        split >> pick >> gather(pack),
        pick.on_failure(ValueError) >> excuse,
        pack.when(str) >> repeat(split, max_iterations=2),
        pack.when(None),
    )


DOT = """\
digraph "Packing" {
  rankdir=LR;
  node [shape=box, style=rounded, fontname="Helvetica"];
  edge [fontname="Helvetica", fontsize=10];
  "<start>" [shape=circle, style=filled, fillcolor=black, label="", width=0.2];
  "<start>" -> "split" [label="str"];
  "split" [label="split\\nstr -> str", shape=house, style=solid];
  "pick" [label="pick\\nstr -> str"];
  "pack" [label="pack\\nlist[str] -> str | None\\ngather", shape=invtrapezium, style=solid];
  "excuse" [label="excuse\\nstr -> None"];
  "split" -> "pick";
  "pick" -> "pack";
  "pick" -> "excuse" [label="on_failure(ValueError)", style=dashed, color=red];
  "pack" -> "split" [label="str, repeat up to 2", style=dotted];
}
"""

MERMAID = """\
flowchart LR
  start(( ))
  start -->|"str"| n0
  n0[/"split<br/>str -&gt; str"\\]
  n1("pick<br/>str -&gt; str")
  n2[\\"pack<br/>list[str] -&gt; str #124; None<br/>gather"/]
  n3("excuse<br/>str -&gt; None")
  n0 --> n1
  n1 --> n2
  n1 -.->|"on_failure(ValueError)"| n3
  n2 -.->|"str, repeat up to 2"| n0
"""


def test_the_graph_is_drawn_for_graphviz() -> None:
    assert Packing.to_dot() == DOT


def test_the_graph_is_drawn_for_mermaid() -> None:
    assert Packing.to_mermaid() == MERMAID


def test_a_bound_on_elements_in_flight_is_drawn() -> None:
    class Batch(WorkflowDefinition[list[str], list[str]]):
        start = BatchNode(pick, max_in_flight=3)

    assert '"pick_batch/split" [label="pick_batch/split\\nlist[str] -> str\\nat most 3 at a time", ' in Batch.to_dot()
    assert "at most 3 at a time" in Batch.to_mermaid()


def test_names_that_would_break_the_syntax_are_escaped() -> None:
    odd = pick.named('a "quoted" \\ name | & ]<b;')

    class Odd(WorkflowDefinition[str, str], name='"Odd"'):
        start = odd
        edges = (odd >> pick,)

    assert 'digraph "\\"Odd\\"" {' in Odd.to_dot()
    assert '"a \\"quoted\\" \\\\ name | & ]<b;" -> "pick";' in Odd.to_dot()
    assert 'n0("a #quot;quoted#quot; \\ name #124; &amp; ]&lt;b;<br/>str -&gt; str")' in Odd.to_mermaid()


@node
async def begin(x: int) -> int:
    return x


@node
async def left(x: int) -> int:
    return x


@node
async def right(x: int) -> int:
    return x


@node
async def both(given: tuple[int, int]) -> int:
    return sum(given)


@node
async def maybe_both(given: tuple[int | None, int | None]) -> int:
    return sum(filter(None, given))


@node
async def total(given: list[int]) -> int:
    return sum(given)


@node
async def total_or_not(given: list[int | FailureInfo]) -> int:
    return len(given)


@node
async def spread(x: int) -> NextAll[int]:
    return NextAll([x])


def add(so_far: int, x: int) -> int:
    return so_far + x


@pytest.mark.parametrize(
    ("join", "caption"),
    [
        (all_of(left, right) >> both, "all_of 2 edges"),
        (all_of(left, right, missing="skip") >> maybe_both, "all_of 2 edges, missing=skip"),
        (all_of_each([left, right]) >> total, "all_of 2 edges"),
        (any_of(left, right) >> begin.named("either"), "any_of 2 edges"),
        (n_of(1, left, right) >> total, "1 of 2 edges"),
        (n_of(2, left, right, missing="skip") >> total, "all_of 2 edges, missing=skip"),
    ],
)
def test_a_join_of_edges_is_drawn_with_its_kind(join: Path[Any, int], caption: str) -> None:
    class Joined(WorkflowDefinition[int, int]):
        start = begin
        edges = (begin >> (left, right), join)

    assert f'\\n{caption}", shape=invhouse, style=solid];' in Joined.to_dot()
    assert re.search(rf'n3{{{{".*<br/>{caption}"}}}}', Joined.to_mermaid())


@pytest.mark.parametrize(
    ("closing", "caption"),
    [
        (gather(total), "gather"),
        (gather(total, at_most=3), "gather, at_most=3"),
        (gather(total_or_not, errors="collect"), "gather, errors=collect"),
        (gather(total_or_not, errors="collect", at_most=2), "gather, at_most=2, errors=collect"),
        (gather(ReduceNode(add, 0)), "reduce"),
        (first(left), "first"),
    ],
)
def test_what_closes_a_fan_out_is_drawn_with_how_it_does(closing: Path[int, int], caption: str) -> None:
    class Gathered(WorkflowDefinition[int, int]):
        start = spread
        edges = (spread >> right >> closing,)

    assert f'\\n{caption}", shape=invtrapezium, style=solid];' in Gathered.to_dot()
    assert f'<br/>{caption}"/]' in Gathered.to_mermaid()


def test_holds_timeouts_keys_and_children_are_drawn() -> None:
    @node(timeout=30, concurrency=Concurrency("scales", limit=2))
    async def weigh(x: int) -> int:
        return x

    @node(concurrency=Concurrency("account", limit=5, key=lambda x: x))
    async def ask(ctx: WorkflowCtx, x: int) -> int | Hold:
        return x if ctx.timed_out else Hold(until=Signal("answer", int), timeout=5)

    class Inner(WorkflowDefinition[int, int]):
        start = begin

    class Outer(WorkflowDefinition[int, int | str]):
        start = weigh
        edges = (
            weigh >> ask >> ChildWorkflow(Inner, timeout=90),
            ask.on_timeout >> ChildWorkflow(Inner, wait=False, name="aside"),
        )

    dot, mermaid = Outer.to_dot(), Outer.to_mermaid()
    assert '"weigh" [label="weigh\\nint -> int\\ntimeout 0:00:30\\n2 at a time of scales"];' in dot
    assert '"ask" [label="ask\\nint -> int\\nmay hold\\n5 at a time per account"];' in dot
    assert '"Inner" [label="Inner\\nint -> int\\nrun of Inner, timeout 0:01:30", peripheries=2];' in dot
    assert '"aside" [label="aside\\nint -> str\\nrun of Inner, not waited for", peripheries=2];' in dot
    assert '"ask" -> "aside" [label="on_timeout", style=dashed, color=red];' in dot
    assert 'n2[["Inner<br/>int -&gt; int<br/>run of Inner, timeout 0:01:30"]]' in mermaid
    assert 'n1 -.->|"on_timeout"| n3' in mermaid


def test_rates_and_labels_are_drawn() -> None:
    @node(rate=RateLimit("mail", 100, per=1), labels={"gpu", "eu"})
    async def send(x: int) -> int:
        return x

    class Sending(WorkflowDefinition[int, int]):
        start = send

    assert '"send" [label="send\\nint -> int\\n100 in 0:00:01 of mail\\nneeds eu, gpu"];' in Sending.to_dot()


def test_every_node_and_edge_is_drawn() -> None:
    for text, arrow in ((Packing.to_dot(), r"->"), (Packing.to_mermaid(), r"-->|-\.->")):
        assert len(re.findall(rf"^  \S+ (?:{arrow})", text, re.MULTILINE)) == len(Packing.graph.edges) + 1


def test_every_statement_for_graphviz_is_complete() -> None:
    quoted = r'"(?:[^"\\]|\\.)*"'
    attributes = rf"\[\w+=(?:{quoted}|[\w.]+)(?:, \w+=(?:{quoted}|[\w.]+))*\]"
    statement = rf"  (?:rankdir=LR|(?:{quoted}|node|edge)(?: -> {quoted})?(?: {attributes})?);"
    for line in Packing.to_dot().splitlines()[1:-1]:
        assert re.fullmatch(statement, line), line
