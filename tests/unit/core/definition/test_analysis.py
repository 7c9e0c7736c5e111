from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.analysis import (
    UNREACHED,
    between,
    dominators,
    find_cycle,
    predecessors,
    region,
    reverse_postorder,
    topological_ranks,
)

Graph = list[list[int]]


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool = False) -> Graph:
    size = draw(st.integers(1, 9))
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    edges: Graph = [[] for _ in range(size)]
    for a, b in draw(st.lists(pairs, max_size=20)):
        if not acyclic:
            edges[a].append(b)
        elif a != b:
            edges[min(a, b)].append(max(a, b))
    return edges


def reach(edges: Graph, start: int, without: int = -1) -> set[int]:
    seen: set[int] = set()
    todo = [start]
    while todo:
        vertex = todo.pop()
        if vertex not in seen and vertex != without:
            seen.add(vertex)
            todo += edges[vertex]
    return seen


@given(graphs())
def test_a_dominator_is_a_vertex_without_which_nothing_is_reached(edges: Graph) -> None:
    nearest = dominators(edges, 0)
    reached = reach(edges, 0)
    for vertex in range(len(edges)):
        above = {d for d in reached if d != vertex and vertex not in reach(edges, 0, without=d)}
        walked: set[int] = set()
        current = nearest[vertex]
        while current != UNREACHED:
            walked.add(current)
            current = nearest[current]
        assert walked == (above if vertex in reached else set())


@given(graphs())
def test_reverse_postorder_has_each_reachable_vertex_once(edges: Graph) -> None:
    order = reverse_postorder(edges, 0)
    assert order[0] == 0
    assert len(order) == len(set(order))
    assert set(order) == reach(edges, 0)


@given(graphs(acyclic=True))
def test_ranks_and_reverse_postorder_follow_the_edges_of_a_graph_without_cycles(edges: Graph) -> None:
    ranks = topological_ranks(edges)
    order = {vertex: position for position, vertex in enumerate(reverse_postorder(edges, 0))}
    for source, targets in enumerate(edges):
        for target in targets:
            assert ranks[source] < ranks[target]
            if source in order:
                assert order[source] < order[target]


@given(graphs())
def test_a_cycle_is_found_where_there_is_one_and_is_one(edges: Graph) -> None:
    cycle = find_cycle(edges)
    exists = any(v in reach(edges, target) for v in range(len(edges)) for target in edges[v])
    assert bool(cycle) == exists
    for position, vertex in enumerate(cycle):
        assert cycle[(position + 1) % len(cycle)] in edges[vertex]


@given(graphs(acyclic=True), st.data())
def test_between_is_what_lies_on_the_ways_from_head_to_tail(edges: Graph, data: st.DataObject) -> None:
    head = data.draw(st.integers(0, len(edges) - 1))
    tail = data.draw(st.integers(0, len(edges) - 1))
    expected = {v for v in reach(edges, head) if tail in reach(edges, v)}
    assert between(edges, predecessors(edges), topological_ranks(edges), head, tail) == expected


@given(graphs(), st.data())
def test_a_region_is_what_is_reached_without_the_stop(edges: Graph, data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, len(edges) - 1))
    found = region(edges, edges[0], stop)
    assert len(found) == len(set(found))
    assert set(found) == set().union(*(reach(edges, first, without=stop) for first in edges[0]), set())
