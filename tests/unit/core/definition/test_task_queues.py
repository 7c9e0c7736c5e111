"""Queues and labels: the effective task queue, whom it is for, and what workflows and nodes say of it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp import CompositeNode, Node, Priority, Workflow, WorkflowCtx, node
from floxide_amqp.core.task_queues import (
    MAX_LABELS_LENGTH,
    check_worker_labels,
    effective_queue,
    labels_needed,
    queue_in_words,
    queue_named,
    served_queues,
)
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.exceptions import ConfigurationError, DefinitionError

QUEUES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/!"), max_size=100)
LABELS = st.frozensets(st.text(string.ascii_letters + string.digits + "-_.:", min_size=1, max_size=8), max_size=4)


@node
async def plain(x: int) -> int:
    return x


@node(labels={"gpu", "eu"}, queue="pictures")
async def draw(x: int) -> int:
    return x


@node(labels=set())
async def anywhere(x: int) -> int:
    return x


@given(QUEUES, LABELS, QUEUES, LABELS)
def test_two_pairs_of_queue_and_labels_have_different_task_queues_that_can_be_taken_apart(
    queue: str, labels: frozenset[str], other_queue: str, other_labels: frozenset[str]
) -> None:
    name = effective_queue(queue, labels)
    is_same = (queue, labels) == (other_queue, other_labels)

    assert (name == effective_queue(other_queue, other_labels)) is is_same
    assert (queue_named(name), labels_needed(name)) == (queue, labels)


def test_the_longest_namespace_queue_and_labels_fit_into_a_name_of_the_broker() -> None:
    @node(queue="q" * 100, labels={"a" * (MAX_LABELS_LENGTH - 1)}, priority=Priority.HIGH)
    async def long(x: int) -> int:
        return x

    class Long(Workflow[int, int]):
        start = long

    name = Names("n" * 100).work_queue(Long.graph.nodes["long"].options.queue)

    assert len(name.encode()) <= 255
    assert "+21high/" in name


@pytest.mark.parametrize(
    ("queues", "labels", "only_labelled", "served"),
    [
        ((), frozenset[str](), False, ("default",)),
        ((), frozenset({"gpu"}), False, ("default", "default/gpu", "mail/gpu")),
        ((), frozenset({"gpu", "eu", "big"}), False, ("default", "default/eu/gpu", "default/gpu", "mail/gpu")),
        ((), frozenset({"gpu"}), True, ("default/gpu", "mail/gpu")),
        ((), None, False, ("default", "default/eu/gpu", "default/gpu", "mail/gpu")),
        (("mail",), frozenset({"gpu"}), False, ("mail/gpu",)),
        (("mail", "extra"), frozenset({"gpu"}), False, ("extra", "mail/gpu")),
        (("mail",), frozenset[str](), False, ()),
    ],
)
def test_a_worker_serves_the_task_queues_whose_labels_it_has(
    queues: tuple[str, ...], labels: frozenset[str] | None, only_labelled: bool, served: tuple[str, ...]
) -> None:
    used = ("default", "default/gpu", "default/eu/gpu", "mail/gpu")

    assert served_queues(used, queues=queues, labels=labels, only_labelled=only_labelled) == served


def test_a_node_has_its_own_labels_else_those_of_its_workflow() -> None:
    class Fast(Workflow[int, int], labels={"ssd"}, queue="bulk"):
        start = plain
        edges = (plain >> draw >> anywhere,)

    queues = {name: found.options.queue for name, found in Fast.graph.nodes.items()}

    assert queues == {"plain": "bulk/ssd", "draw": "pictures/eu/gpu", "anywhere": "bulk"}


def test_inner_nodes_of_a_composite_have_the_labels_nearest_to_them() -> None:
    class Inner(Workflow[int, int], labels={"ssd"}):
        start = plain
        edges = (plain >> draw,)

    class Bare(Workflow[int, int]):
        start = plain.named("bare")

    outer = CompositeNode(Inner)
    bare = CompositeNode(Bare).with_options(labels={"big"})

    class Outer(Workflow[int, int], labels={"slow"}):
        start = outer
        edges = (outer >> bare,)

    queues = {name: found.options.queue for name, found in Outer.graph.nodes.items()}

    assert queues == {"Inner/plain": "default/ssd", "Inner/draw": "pictures/eu/gpu", "Bare/bare": "default/big"}


def test_a_derived_workflow_and_a_node_class_say_labels_as_well() -> None:
    class Scale(Node[int, int], labels={"gpu"}):
        async def process(self, ctx: WorkflowCtx, input: int, /) -> int:
            return input

    class Parent(Workflow[int, int], labels={"ssd"}):
        pass

    scale = Scale()

    class Child(Parent):
        start = plain
        edges = (plain >> scale,)

    assert [found.options.queue for found in Child.graph.nodes.values()] == ["default/ssd", "default/gpu"]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("gpu", "labels='gpu' must be a set of words"),
        (7, "labels=7 must be a set of words"),
        ({"a b"}, "the label 'a b' must consist of letters, digits"),
        ({"a/b"}, "the label 'a/b' must consist of"),
        ({""}, "the label '' must consist of"),
        ({"-x"}, "begin with a letter or a digit"),
        ({3}, "the label 3 must consist of"),
        ({"x" * 48}, "too long for the name of a queue: at most 41 characters"),
    ],
)
def test_wrong_labels_are_an_error_where_they_are_written(labels: object, sentence: str) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        node(labels=labels)(plain.__wrapped__)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match=sentence):

        class Wrong(Workflow[int, int], labels=labels):  # type: ignore[arg-type]
            start = plain


def test_wrong_labels_of_a_worker_are_an_error_of_the_deployment() -> None:
    with pytest.raises(ConfigurationError, match="A worker: the label 'a b' must consist of"):
        check_worker_labels({"a b"})

    assert check_worker_labels(None) is None
    assert check_worker_labels({"x" * 99}) == {"x" * 99}, "no queue is named after a worker's labels"


def test_a_task_queue_in_words_names_its_labels() -> None:
    assert queue_in_words("mail") == "task queue 'mail'"
    assert queue_in_words("mail/gpu") == "task queue 'mail' with label gpu"
    assert queue_in_words("mail/eu/gpu") == "task queue 'mail' with labels eu, gpu"
