from __future__ import annotations

import re

from floxide_amqp.core.compose import BatchNode
from floxide_amqp.core.node import node
from floxide_amqp.core.path import gather, repeat
from floxide_amqp.core.transition import NextAll
from floxide_amqp.core.workflow import WorkflowDefinition


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
  "pack" [label="pack\\nlist[str] -> str | None", shape=invtrapezium, style=solid];
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
  n2[\\"pack<br/>list[str] -&gt; str #124; None"/]
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


def test_every_node_and_edge_is_drawn() -> None:
    for text, arrow in ((Packing.to_dot(), r"->"), (Packing.to_mermaid(), r"-->|-\.->")):
        assert len(re.findall(rf"^  \S+ (?:{arrow})", text, re.MULTILINE)) == len(Packing.graph.edges) + 1


def test_every_statement_for_graphviz_is_complete() -> None:
    quoted = r'"(?:[^"\\]|\\.)*"'
    attributes = rf"\[\w+=(?:{quoted}|[\w.]+)(?:, \w+=(?:{quoted}|[\w.]+))*\]"
    statement = rf"  (?:rankdir=LR|(?:{quoted}|node|edge)(?: -> {quoted})?(?: {attributes})?);"
    for line in Packing.to_dot().splitlines()[1:-1]:
        assert re.fullmatch(statement, line), line
