from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import pytest

from floxide_amqp.core.context import Context
from floxide_amqp.core.node import Node, with_retry
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.transition import Hold, Next, NextAll
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

K = TypeVar("K")
V = TypeVar("V")


class Shop(Context):
    spent: int = 0


class Tag(Node[K, str], Generic[K]):
    def __init__(self, value: K) -> None:
        self.value = value

    async def process(self, ctx: WorkflowCtx[Any], input: K, /) -> str:
        return f"{self.value}: {input}"


@dataclass(frozen=True, slots=True)
class Scale(Node[float, float], queue="fast", timeout=3, retry=RetryPolicy(max_attempts=2)):
    factor: float

    async def process(self, ctx: WorkflowCtx[Shop], input: float, /) -> NextAll[float] | Hold:
        return NextAll([input * self.factor])


@dataclass(frozen=True, slots=True)
class Pair(Node[K, tuple[K, V]], Generic[K, V]):
    second: V

    def process(self, ctx: WorkflowCtx[Any], input: K, /) -> Next[tuple[K, V]]:
        return Next((input, self.second))


class Plain(Node):  # type: ignore[type-arg]
    queue = "slow"
    at_most_once = True

    async def process(self, ctx: WorkflowCtx[Shop], input: list[int], /) -> Next[int]:
        return Next(len(input))


@dataclass(frozen=True, slots=True)
class Labelled(Node[int, int]):
    name: str

    async def process(self, ctx: WorkflowCtx[Any], input: int, /) -> int:
        return input


async def test_a_node_class_knows_its_types_and_runs() -> None:
    scale = Scale(2.0)
    assert (scale.name, scale.input_type, scale.output_type) == ("Scale", float, float)
    assert scale.context_type is Shop
    assert scale.may_fan_out
    assert scale.may_hold
    assert scale.is_async
    assert await scale.invoke(WorkflowCtx.for_test(), 2.0) == NextAll([4.0])


def test_options_are_keywords_of_the_class_or_class_attributes() -> None:
    assert Scale(1.0).options.queue == "fast"
    assert Scale(1.0).options.timeout == timedelta(seconds=3)
    assert Scale(1.0).options.retry == RetryPolicy(max_attempts=2)
    assert Plain().options.queue == "slow"
    assert Plain().options.at_most_once


def test_a_class_without_type_arguments_is_read_from_process() -> None:
    assert (Plain().input_type, Plain().output_type, Plain().context_type) == (list[int], int, Shop)


async def test_a_generic_class_takes_its_types_in_brackets() -> None:
    tag = Tag[int](42)
    assert (tag.name, tag.input_type, tag.output_type) == ("Tag", int, str)
    assert await tag.invoke(WorkflowCtx.for_test(), 7) == "42: 7"
    assert isinstance(tag, Tag)
    assert type(tag).__name__ == "Tag[int]"


def test_a_frozen_slotted_generic_dataclass_takes_its_types_in_brackets() -> None:
    pair = Pair[int, str]("b")
    assert (pair.name, pair.input_type, pair.output_type) == ("Pair", int, tuple[int, str])
    assert not pair.is_async
    assert pair.invoke(WorkflowCtx.for_test(), 1) == Next((1, "b"))
    assert pair == Pair[int, str]("b")


def test_brackets_give_the_same_class_every_time() -> None:
    assert Tag[int] is Tag[int]
    assert Tag[int] is not Tag[str]


def test_a_generic_class_without_arguments_is_an_error_that_shows_the_brackets() -> None:
    with pytest.raises(DefinitionError) as caught:
        Tag(42)
    assert str(caught.value) == (
        "Tag(...) leaves K open, but the engine must know its types. Write Tag[int](…) with the types in brackets."
    )
    with pytest.raises(DefinitionError, match=r"Pair\(...\) leaves K, V open.*Write Pair\[K, V\]\(…\)"):
        Pair("b")


def test_a_class_may_fill_in_the_arguments_of_a_generic_one() -> None:
    class IntTag(Tag[int]):
        pass

    class Swapped(Pair[V, K]):
        pass

    assert (IntTag(1).name, IntTag(1).input_type) == ("IntTag", int)
    assert Swapped[str, int](1).output_type == tuple[str, int]


def test_a_class_that_forgets_the_arguments_of_a_generic_one_is_an_error() -> None:
    class Forgot(Tag):  # type: ignore[type-arg]
        pass

    with pytest.raises(DefinitionError, match=r"class Forgot leaves K open.*such as class Forgot\(Foo\[int\]\)"):
        _ = Forgot(1).input_type


def test_type_variables_in_the_return_annotation_are_filled_in() -> None:
    class Each(Node[list[K], K], Generic[K]):
        async def process(self, ctx: WorkflowCtx[Any], input: list[K], /) -> NextAll[K]:
            return NextAll(input)

    assert Each[int]().output_type is int
    assert Each[int]().may_fan_out


def test_a_dataclass_may_have_a_field_called_name() -> None:
    assert Labelled("first").name == "first"
    assert Labelled("first").named("second").name == "second"


def test_a_named_copy_keeps_fields_of_slotted_and_other_classes() -> None:
    scale, tag = Scale(2.0).named("s"), Tag[int](4).named("t")
    assert (scale.name, scale.factor) == ("s", 2.0)
    assert (tag.name, tag.value, type(tag)) == ("t", 4, Tag[int])
    again = tag.named("u")
    assert (again.name, again.value, tag.name) == ("u", 4, "t")


def test_with_retry_keeps_the_name_and_fields() -> None:
    changed = with_retry(Scale(2.0).named("s"), RetryPolicy(max_attempts=7))
    assert (changed.name, changed.factor, changed.options.queue) == ("s", 2.0, "fast")
    assert changed.options.retry == RetryPolicy(max_attempts=7)


def test_types_local_to_a_function_are_found() -> None:
    class Local: ...

    class Step(Node[Local, Local]):
        async def process(self, ctx: WorkflowCtx[LocalContext], input: Local, /) -> Next[Later]:
            return Next(Later())

    class LocalContext(Context):
        n: int = 0

    class Later(Local): ...

    assert Step().input_type is Local
    assert Step().context_type is LocalContext


def test_a_class_without_process_is_an_error() -> None:
    class Empty(Node[int, int]):
        pass

    with pytest.raises(DefinitionError, match=r"class Empty has no process method. Add: async def process"):
        _ = Empty().input_type


def test_a_class_that_does_not_say_its_types_is_an_error() -> None:
    class Vague(Node):  # type: ignore[type-arg]
        async def process(self, ctx, input, /):  # type: ignore[no-untyped-def]
            return input

    with pytest.raises(
        DefinitionError, match=r"does not say what it takes and returns. Give the base its types, class Vague\(Node"
    ):
        _ = Vague().input_type


def test_an_unknown_option_of_the_class_statement_is_an_error() -> None:
    with pytest.raises(DefinitionError, match=r"class Wrong: 'attempts' is no option of a node. The options are queue"):

        class Wrong(Node[int, int], attempts=3):
            pass


def test_a_field_with_the_name_of_an_option_is_an_error() -> None:
    @dataclass(frozen=True, slots=True)
    class Download(Node[str, str]):
        timeout: float  # type: ignore[misc]

        async def process(self, ctx: WorkflowCtx[Any], input: str, /) -> str:
            return input

    with pytest.raises(DefinitionError, match=r"Download.timeout is a field, but 'timeout' is an option"):
        _ = Download(3.0).options


@pytest.mark.parametrize("name", ["options", "when", "invoke"])
def test_a_field_that_hides_what_every_node_has_is_an_error(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"class Wrong defines '{name}', which every node has already."):
        type("Wrong", (Node,), {"__annotations__": {name: int}, "__module__": __name__})
