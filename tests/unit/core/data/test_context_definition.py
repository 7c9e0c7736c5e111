"""What a context class may hold, and with which sentence it is refused when it is made."""

from __future__ import annotations

import copy
import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import pytest

from floxide_amqp.core.context import Context, NoContext, context_to_plain
from floxide_amqp.core.context_declaration import Fixed
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.reducers import Append, LastWrite, Max, Min, Sum, Union
from floxide_amqp.exceptions import CodecError, DefinitionError


@dataclass
class Bag:
    items: list[str]


class Address(Context):
    street: str = ""
    changes: Annotated[int, Sum()] = 0


class OrderContext(Context):
    customer: Fixed[str]
    log: EventLog[str] = EventLog()
    spent: Annotated[int, Sum()] = 0
    highest: Annotated[Decimal, Max()] = Decimal(0)
    lowest: Annotated[timedelta, Min()] = timedelta.max
    tags: Annotated[set[str], Union()] = set()
    lines: Annotated[list[Bag], Append()] = []
    note: str | None = None
    address: Address = Address()
    LIMIT: ClassVar[int] = 10


def test_fields_not_given_have_their_defaults() -> None:
    context = OrderContext(customer="c1")
    assert (context.customer, context.spent, context.note, list(context.log)) == ("c1", 0, None, [])
    assert context.address == Address()
    assert OrderContext.LIMIT == 10


def test_two_contexts_do_not_share_a_mutable_default() -> None:
    first, second = OrderContext(customer="a"), OrderContext(customer="b")
    first.tags.add("x")
    first.lines.append(Bag([]))
    first.log.append("x")
    first.address.street = "x"
    assert (second.tags, second.lines, list(second.log), second.address.street) == (set(), [], [], "")
    assert OrderContext(customer="c").tags == set()


def test_what_was_given_is_copied() -> None:
    bag = Bag(["a"])
    context = OrderContext(customer="a", lines=[bag])
    bag.items.append("b")
    assert context.lines == [Bag(["a"])]


def test_events_appended_before_the_start_follow_those_that_were_given() -> None:
    context = OrderContext(customer="a", log=EventLog(["x"]))
    context.log.append("y")
    assert context_to_plain(context)["log"] == [["initial:0", "str", "x"], ["initial:1", "str", "y"]]


def test_a_context_as_it_stands_is_what_a_run_starts_with() -> None:
    context = OrderContext(customer="a")
    context.spent += 3
    context.address.street = "Main"
    plain = context_to_plain(context)
    assert (plain["spent"], plain["address"]) == (["int", 3], {"street": ["str", "Main"], "changes": ["int", 0]})


def test_a_subclass_has_the_fields_of_its_base_and_may_redefine_them() -> None:
    class Big(OrderContext):
        extra: int = 1
        note: str | None = "big"

    big = Big(customer="a")
    assert (big.customer, big.extra, big.note) == ("a", 1, "big")


def test_types_defined_in_a_function_can_be_named() -> None:
    @dataclass
    class Mine:
        x: int

    class Local(Context):
        mine: Mine

    assert Local(mine=Mine(1)).mine == Mine(1)


def test_contexts_are_equal_by_their_fields() -> None:
    assert OrderContext(customer="a") == OrderContext(customer="a")
    assert OrderContext(customer="a") != OrderContext(customer="b")
    assert OrderContext(customer="a") != NoContext()


def test_a_context_prints_its_fields() -> None:
    assert repr(Address(street="Main")) == "Address(street='Main', changes=0)"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_context_can_be_duplicated_by_python_s_own_means(duplicate: Any) -> None:
    context = OrderContext(customer="a", log=EventLog(["x"]))
    twin = duplicate(context)
    twin.tags.add("mine")
    assert (twin.customer, list(twin.log), context.tags) == ("a", ["x"], set())


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, TypeError, "OrderContext() needs customer: no default"),
        ({"customer": "a", "spend": 1}, TypeError, "OrderContext() got spend; its fields are customer, log, spent"),
        ({"customer": 1}, CodecError, "OrderContext.customer must be str, but it is int"),
        ({"customer": "a", "log": ["x"]}, CodecError, "log is an EventLog[str], but got list"),
        (
            {"customer": "a", "log": EventLog([1])},
            CodecError,
            "An event of OrderContext.log must be str, but it is int",
        ),
        ({"customer": "a", "address": "Main"}, CodecError, "address is a Address, but got str"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        OrderContext(**arguments)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "act",
    [lambda c: setattr(c, "spend", 1), lambda c: c.spend, lambda c: delattr(c, "spent")],
    ids=["set", "get", "delete"],
)
def test_a_field_that_does_not_exist_or_is_deleted_is_an_error(act: Callable[[Any], None]) -> None:
    context = OrderContext(customer="a")
    with pytest.raises(AttributeError):
        act(context)


def define(annotation: Any, **default: Any) -> type[Context]:
    return type("Wrong", (Context,), {"__annotations__": {"field": annotation}, "__module__": __name__, **default})


class NotAReducer:
    pass


@pytest.mark.parametrize(
    ("annotation", "default", "sentence"),
    [
        (Annotated[str, Sum()], {}, "Wrong.field is str, but Sum() adds numbers. Give it the type int, float, Decimal"),
        (Annotated[bool, Sum()], {}, "Wrong.field is bool, but Sum() adds numbers"),
        (Annotated[list[int], Max()], {}, "Wrong.field is list[int], but Max() compares. Give it the type a number"),
        (Annotated[int | None, Min()], {}, "Wrong.field is int | None, but Min() compares"),
        (Annotated[list[int], Union()], {}, "but Union() collects members. Give it the type set[...] or frozenset"),
        (Annotated[tuple[int, str], Append()], {}, "but Append() adds elements. Give it the type list[...]"),
        (Annotated[int, Sum], {}, "Wrong.field names the reducer class Sum. Make one: Sum()."),
        (Annotated[int, Sum(), Max()], {}, "Wrong.field has 2 reducers. Keep one."),
        (socket.socket, {}, "Wrong.field has the type socket: socket cannot be carried"),
        (EventLog[socket.socket], {}, "the events of Wrong.field has the type socket"),
        (list[Address], {}, "Wrong.field has the type list[Address]: an element of it is Address"),
        (int, {"field": "x"}, "The default of Wrong.field is not of the field's type: A value was to be"),
        (int, {"_hidden": 1}, "Wrong._hidden has a value but no annotation"),
        (int, {"other": 1}, "Wrong.other has a value but no annotation. Write other: int = …"),
        ("Unknown", {}, "Wrong uses the name 'Unknown' in an annotation, and it is not known"),
    ],
)
def test_a_wrong_field_is_refused_when_the_class_is_made(annotation: Any, default: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        define(annotation, **default)
    assert sentence in str(caught.value)


def test_a_field_whose_name_hides_is_refused() -> None:
    with pytest.raises(DefinitionError, match="starts with an underscore"):
        type("Wrong", (Context,), {"__annotations__": {"_field": int}})


@pytest.mark.parametrize("name", ["__init__", "view"])
def test_methods_are_no_fields(name: str) -> None:
    assert type("Fine", (Context,), {name: lambda self: None}).__context_fields__ == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[float, Sum()],
        Annotated[timedelta, Sum()],
        Annotated[str, Max()],
        Annotated[frozenset[int], Union()],
        Annotated[tuple[int, ...], Append()],
        Annotated[int, LastWrite()],
        Annotated[int, NotAReducer()],
        Fixed[list[int]],
    ],
)
def test_a_right_field_is_accepted(annotation: Any) -> None:
    assert list(define(annotation).__context_fields__) == ["field"]


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (
            list[str],
            (
                "Wrong.field is list[str] without a reducer, so that of what several nodes add to it at the same time "
                "only the last write would be kept. Say how it is merged: Append(), a reducer of your own, an EventLog"
                "[...] instead, or LastWrite() if the last write shall win. Write field: "
                "Annotated[list[str], Append()] = []."
            ),
        ),
        (set[int], "Union(), a reducer of your own, or LastWrite() if the last write shall win."),
        (frozenset[int], "Write field: Annotated[frozenset[int], Union()] = frozenset()."),
        (dict[str, int], "a reducer of your own, or LastWrite() if the last write shall win. Write field: Annotated"),
        (list[str] | None, "Write field: Annotated[list[str] | None, LastWrite()] = …."),
        (Annotated[list[str], NotAReducer()], "Wrong.field is list[str] without a reducer"),
    ],
)
def test_a_collection_must_say_how_it_is_merged(annotation: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        define(annotation)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[list[str], LastWrite()],
        Annotated[dict[str, int], LastWrite()],
        Annotated[list[str], Append()],
        Fixed[dict[str, int]],
        EventLog[list[str]],
        tuple[str, ...],
        str,
        int | None,
    ],
)
def test_what_says_how_it_is_merged_and_what_is_replaced_as_a_whole_is_accepted(annotation: Any) -> None:
    assert list(define(annotation).__context_fields__) == ["field"]
