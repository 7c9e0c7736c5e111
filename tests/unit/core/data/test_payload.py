"""Payloads: what is carried, what is refused and with which sentence, and which member of a union a value is."""

from __future__ import annotations

import socket
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, RootModel, field_serializer
from typing_extensions import TypedDict

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.exceptions import CodecError, DefinitionError, PayloadMismatchError
from floxide_amqp.stores.encoding import decode_payload, encode_payload

T = TypeVar("T")
Name = NewType("Name", str)


@dataclass(frozen=True, slots=True)
class Approved:
    by: str
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    by: str
    amount: int = 0


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    tricks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


@dataclass
class Tree:
    children: list[Tree]


class Colour(Enum):
    RED = 1
    BLUE = "b"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    owner: Approved


class Row(TypedDict):
    x: int


class Line(TypedDict):
    y: int


class Model(BaseModel):
    x: int
    colour: Colour = Colour.RED


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int = Field(alias="theX")


class Excluding(BaseModel):
    x: int
    secret: str = Field(default="", exclude=True)


class Rewriting(BaseModel):
    x: int

    @field_serializer("x")
    def as_text(self, x: int) -> str:
        return str(x)


class Linking(BaseModel):
    url: HttpUrl


class Numbers(RootModel[list[int]]):
    pass


@dataclass
class WithInitVar:
    x: int
    scale: InitVar[int] = 1


@dataclass
class Computed:
    x: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = self.x * 2


@dataclass
class Picky:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x must not be negative")


def payload(annotation: Any) -> PayloadType:
    return PayloadType.of(annotation, where="the input of node charge")


def round_trip(annotation: Any, value: object) -> object:
    carried = payload(annotation)
    return carried.load(*carried.dump(value))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Approved, Approved("me", 3)),
        (Box[int], Box(1)),
        (Box[Approved], Box(Approved("me"))),
        (Box, Box([1, "a"])),
        (Tree, Tree([Tree([]), Tree([Tree([])])])),
        (Model, Model(x=1, colour=Colour.BLUE)),
        (Aliased, Aliased(theX=3)),
        (Rewriting, Rewriting(x=3)),
        (Linking, Linking(url=HttpUrl("http://localhost/x"))),
        (Numbers, Numbers([1, 2])),
        (Row, {"x": 1}),
        (Point, Point(1, Approved("me"))),
        (Colour, Colour.BLUE),
        (Level, Level.LOW),
        (Name, "n"),
        (Literal["a", 1], 1),
        (Path, Path("/tmp/x")),
        (None, None),
        (Optional[Approved], None),  # noqa: UP045  # the other spelling
        (int | None, 5),
        (dict[str, Any], {"a": [1, (2, {3})], "b": None}),
        (dict[int, tuple[int, ...]], {1: (1, 2)}),
        (dict[Colour, Path], {Colour.RED: Path("a")}),
        (Sequence[int], (1, 2)),
        (Sequence[int], [1, 2]),
        (Mapping[str, int], {"a": 1}),
        (tuple[()], ()),
        (tuple[int, Colour], (1, Colour.RED)),
        (Annotated[int, Field(gt=0)], 1),
        (object, {"a": 1}),
        (Computed, Computed(2)),
        (list[Approved | None], [Approved("me"), None]),
        (list[Literal["a"] | int], ["a", 1]),
        (date | datetime, date(2020, 1, 1)),
        (date | datetime, datetime(2020, 1, 1, tzinfo=UTC)),
        (list[date | datetime], [datetime(2020, 1, 1, tzinfo=UTC), date(2020, 1, 1)]),
        (bool | int, True),
        (list[bool | int], [True, 1]),
        (str | Path, Path("x")),
        (str | Colour, Colour.BLUE),
        (int | Decimal, Decimal(1)),
    ],
)
def test_a_value_comes_back_equal_and_of_its_own_class(annotation: Any, value: object) -> None:
    back = round_trip(annotation, value)
    assert (type(back), back) == (type(value), value)


def test_an_int_is_a_float_where_one_is_declared() -> None:
    assert round_trip(float, 3) == 3.0
    assert round_trip(list[float], [3]) == [3.0]


@pytest.mark.parametrize("value", [Approved("me", 1), Rejected("me", 1)])
def test_union_twins_are_told_apart_by_their_tag(value: object) -> None:
    assert type(round_trip(Approved | Rejected, value)) is type(value)


def test_a_tag_does_not_depend_on_the_union_around_it() -> None:
    assert payload(Approved).dump(Approved("me"))[0] == payload(Approved | Rejected).dump(Approved("me"))[0]


def test_types_defined_in_a_function_are_carried_and_named_without_it() -> None:
    @dataclass
    class Outer:
        inner: Inner

    @dataclass
    class Inner:
        x: int

    assert round_trip(Outer, Outer(Inner(1))) == Outer(Inner(1))
    assert payload(Outer).dump(Outer(Inner(1)))[0] == "Outer"


def test_the_same_annotation_has_one_payload_type() -> None:
    assert payload(list[int]) is payload(list[int])


def test_literals_that_hash_alike_are_not_mixed_up() -> None:
    assert payload(list[Literal[0]]) is not payload(list[Literal[False]])


def test_what_a_reader_changes_in_free_form_data_does_not_reach_another_reader() -> None:
    carried = payload(dict[str, Any])
    tag, plain = carried.dump({"a": [1]})
    first: Any = carried.load(tag, plain)
    first["a"].append(2)
    assert carried.load(tag, plain) == {"a": [1]}


def test_what_a_producer_changes_later_does_not_reach_the_dump() -> None:
    value = {"a": [1]}
    _, plain = payload(dict[str, Any]).dump(value)
    value["a"].append(2)
    assert plain == {"a": [1]}


@pytest.mark.parametrize(
    ("annotation", "value", "expected", "got"),
    [
        (Approved | Rejected, 5, "Approved | Rejected", "int"),
        (Approved | Rejected, None, "Approved | Rejected", "None"),
        (Approved, None, "Approved", "None"),
        (int, "a", "int", "str"),
        (int, 1.0, "int", "float"),
        (int, None, "int", "None"),
        (float, True, "float", "bool"),
        (bool, 1, "bool", "int"),
        (str, b"a", "str", "bytes"),
        (Path, "a", "Path", "str"),
        (Colour, 1, "Colour", "int"),
        (Decimal, 1, "Decimal", "int"),
        (datetime, date(2020, 1, 1), "datetime", "date"),
        (list[int], (1,), "list[int]", "tuple"),
        (list[int], [None], "list[int]", "list"),
        (tuple[int, str], (1,), "tuple[int, str]", "tuple"),
        (dict[str, int], {"a": None}, "dict[str, int]", "dict"),
        (Row, {}, "Row", "dict"),
        (Row, {"x": 1, "z": 2}, "Row", "dict"),
        (list[Row], [{"x": 1, "z": 2}], "list[Row]", "list"),
        (Point, (1, 2), "Point", "tuple"),
        (Literal["a"], "b", "Literal['a']", "str"),
        (Annotated[int, Field(gt=0)], -1, "int", "int"),
        (Box[int], Box("x"), "Box[int]", "Box"),
        (Animal, Dog("rex", ["sit"]), "Animal", "Dog"),
        (list[Animal], [Dog("rex")], "list[Animal]", "list"),
        (set[int], {"a"}, "set[int]", "set"),
        (dict[str, Any], {"a": Approved("me")}, "dict[str, Any]", "dict"),
        (dict[str, Any], {"a": Colour.RED}, "dict[str, Any]", "dict"),
        (dict[str, Any], {Colour.RED: 1}, "dict[str, Any]", "dict"),
        (Any, {Path("a")}, "Any", "set"),
        (Any, object(), "plain data", "object"),
    ],
)
def test_a_value_that_would_not_come_back_is_refused_with_both_types(
    annotation: Any, value: object, expected: str, got: str
) -> None:
    with pytest.raises(PayloadMismatchError) as caught:
        payload(annotation).dump(value)
    assert str(caught.value).startswith(f"A value was to be stored as {expected}, but it is {got}")


def test_the_error_says_where_the_wrong_part_is_and_not_what_it_holds() -> None:
    with pytest.raises(CodecError) as caught:
        payload(Approved).dump(Approved("me", "card 4111"))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "A value was to be stored as Approved, but it is Approved: field 'amount', expected `int`, got str."
    )


def test_a_value_that_its_own_class_refuses_is_refused_before_it_is_stored() -> None:
    value = Picky(1)
    value.x = -1
    with pytest.raises(CodecError, match="x must not be negative"):
        payload(Picky).dump(value)


def nested_lists(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_value_nested_too_deeply_is_refused() -> None:
    value = nested_lists(100_000)
    with pytest.raises(CodecError, match=r"nested too deeply|recursion|depth"):
        payload(list[Any]).dump(value)


@pytest.mark.parametrize("depth", [100, 200, 250, 255, 256, 260, 300, 400, 900])
def test_whatever_depth_can_be_stored_can_be_read(depth: int) -> None:
    carried = payload(list[Any])
    try:
        data = encode_payload(carried, nested_lists(depth))
    except CodecError:
        return
    assert type(decode_payload(carried, data)) is list


def test_a_value_that_holds_itself_is_refused() -> None:
    tree = Tree([])
    tree.children.append(tree)
    with pytest.raises(CodecError):
        payload(Tree).dump(tree)


@pytest.mark.parametrize(
    ("annotation", "plain"), [(int, "x"), (Approved, {}), (Approved, 1), (list[int], {"a": 1}), (Picky, {"x": -1})]
)
def test_stored_data_of_another_type_is_refused_with_both_types(annotation: Any, plain: object) -> None:
    carried = payload(annotation)
    with pytest.raises(CodecError, match=r"Stored data was to be read as .*, but it is"):
        carried.load(carried.description, plain)


# --- tags from elsewhere


@dataclass(frozen=True)
class Express(Approved):
    speed: int = 0


@pytest.mark.parametrize(
    ("annotation", "tag", "plain", "expected"),
    [
        (float, "int", 1, 1.0),
        (Sequence[int], "list[int]", [1], [1]),
        (int | str, "Literal['a']", "a", "a"),
        (Approved | int, "Renamed", {"by": "me", "amount": 1}, Approved("me", 1)),
        (Approved | Model, "Old", {"x": 1}, Model(x=1)),
    ],
)
def test_an_unknown_tag_is_resolved_by_what_fits(annotation: Any, tag: str, plain: object, expected: object) -> None:
    assert payload(annotation).load(tag, plain) == expected


def test_an_unknown_tag_that_names_a_subclass_of_a_twin_is_that_twin() -> None:
    tag, plain = payload(Express).dump(Express("me"))
    assert payload(Rejected | Approved).load(tag, plain) == Approved("me")


def test_an_unknown_tag_that_fits_twins_is_refused_and_not_guessed() -> None:
    with pytest.raises(CodecError, match="its tag 'Old' is not known here, and the data fits Approved as well as Rej"):
        payload(Approved | Rejected).load("Old", {"by": "me"})


def test_an_unknown_tag_that_fits_nothing_is_refused() -> None:
    with pytest.raises(CodecError, match="its tag 'Old' is not known here, and no member fits"):
        payload(Approved | int).load("Old", "text")


# --- definition


@dataclass
class HoldsTwins:
    decision: Approved | Rejected


@dataclass
class HoldsTextOrColour:
    value: str | Colour


@dataclass
class Narrow:
    x: int


@dataclass
class Wide:
    x: int
    y: int = 0


@dataclass
class Cat:
    kind: Literal["cat"] = "cat"


@dataclass
class Cow:
    kind: Literal["cow"] = "cow"


@pytest.mark.parametrize(
    ("annotation", "problem", "cure"),
    [
        (socket.socket, "socket cannot be carried: it has no plain form", "hand live objects"),
        (list[socket.socket], "an element of it is socket", "hand live objects"),
        (Callable[[], int], "Callable", "use a dataclass"),
        (type[int], "type[int]", "use a dataclass"),
        (HoldsTwins, "a Approved cannot be told from a Rejected", "kind: Literal['a'] = 'a'"),
        (list[Approved | Rejected], "a Approved cannot be told from a Rejected", "kind: Literal"),
        (HoldsTextOrColour, "a str cannot be told from a Colour", "kind: Literal"),
        (list[str | Path], "a str cannot be told from a Path", "kind: Literal"),
        (list[Wide | Narrow], "a Wide cannot be told from a Narrow", "kind: Literal"),
        (list[int] | list[str], "since at run time both are list", "wrap each in a dataclass"),
        (Row | Line, "since at run time both are dict", "wrap each in a dataclass"),
        (Box[int] | Box[str], "since at run time both are Box", "wrap each in a dataclass"),
        (Excluding, "field 'secret' of Excluding is excluded", "drop exclude=True"),
        (WithInitVar, "field 'scale' of WithInitVar is an InitVar", "make it a field"),
    ],
)
def test_a_type_that_cannot_be_carried_is_refused_with_the_cure(annotation: Any, problem: str, cure: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        payload(annotation)
    sentence = str(caught.value)
    assert sentence.startswith("the input of node charge has the type ")
    assert problem in sentence
    assert cure in sentence


@pytest.mark.skipif("sys.version_info >= (3, 12)")
def test_a_typed_dict_of_typing_is_refused_where_pydantic_cannot_read_it() -> None:
    class Plain(typing.TypedDict):
        x: int

    with pytest.raises(DefinitionError, match="import TypedDict from typing_extensions"):
        payload(Plain)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (list[Cat | Cow], [Cat(), Cow()]),
        (list[Approved | Animal], [Approved("me"), Animal("rex")]),
        (list[Approved | int | None], [Approved("me"), 1, None]),
        (list[list[int] | list[str]], [[1], ["a"], []]),
        (list[list[Cat] | list[Cow]], [[Cat()], [Cow()]]),
        (list[tuple[int, Cat] | tuple[int, Cow]], [(1, Cat()), (1, Cow())]),
        (list[dict[str, Cat] | dict[str, Cow]], [{"a": Cat()}, {"a": Cow()}]),
        (list[tuple[Cat] | tuple[Cat, Cat]], [(Cat(),), (Cat(), Cat())]),
    ],
)
def test_nested_members_that_differ_once_stored_are_carried(annotation: Any, values: list[object]) -> None:
    assert round_trip(annotation, values) == values


def test_two_classes_of_one_name_in_a_union_are_refused() -> None:
    other: Any = dataclass(type("Approved", (), {"__annotations__": {"z": int}}))
    with pytest.raises(DefinitionError, match="both have the same name"):
        payload(Approved | other)


# --- JSON


def test_json_text_is_read_as_the_type() -> None:
    assert payload(Approved).parse_json('{"by": "me", "amount": 2}') == Approved("me", 2)


@pytest.mark.parametrize("text", ["{", "[1]", '{"by": 1}', b"\xff"])
def test_json_text_that_does_not_fit_is_refused(text: str | bytes) -> None:
    with pytest.raises(CodecError, match="but it is JSON text"):
        payload(Approved).parse_json(text)


class Payment(BaseModel):
    card: str = "none"
    amount: int = Field(default=0, alias="sum")


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    card: str = "none"


class Dimensions(TypedDict, total=False):
    width: int


@dataclass
class Parcel:
    payment: Payment = field(default_factory=Payment)
    sizes: list[Dimensions] = field(default_factory=list[Dimensions])
    by: dict[str, Approved | Animal] = field(default_factory=dict[str, Approved | Animal])


@pytest.mark.parametrize(
    ("annotation", "text", "sentence"),
    [
        (Approved, '{"by": "x", "amuont": 1}', "amuont: Approved has no field of this name, did you mean 'amount'?"),
        (Approved, '{"by": "x", "zzz": 1}', "zzz: Approved has no field of this name, it has by, amount"),
        (Approved, '{"yb": "x"}', "by: field required; yb: Approved has no field of this name, it has by, amount"),
        (Approved, '{"by": 1, "amount": "x"}', "by: input should be a valid string; amount: input should be"),
        (list[Approved], '[{"by": "x"}, {"by": "x", "a": 1}]', "1.a: Approved has no field"),
        (Parcel, '{"payment": {"crad": "x"}}', "payment.crad: Payment has no field of this name, did you mean 'card'?"),
        (Parcel, '{"sizes": [{"widht": 1}]}', "sizes.0.widht: Dimensions has no field of this name, did you mean"),
        (Parcel, '{"by": {"a": {"name": "x", "by": "y"}}}', "has no field of this name, it has"),
        (Approved | None, '{"by": "x", "amuont": 1}', "did you mean 'amount'"),
        (tuple[int, Approved], '[1, {"by": "x", "amuont": 1}]', "1.amuont: "),
    ],
)  # fmt: skip
def test_a_misspelt_key_of_json_text_is_named_with_the_closest_one(annotation: Any, text: str, sentence: str) -> None:
    with pytest.raises(CodecError) as caught:
        payload(annotation).parse_json(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Payment, '{"sum": 1}'),
        (Loose, '{"crad": 1}'),
        (dict[str, int], '{"anything": 1}'),
        (Any, '{"anything": {"goes": 1}}'),
        (Parcel, '{"by": {"a": {"by": "y"}, "b": {"name": "x"}}, "sizes": [{}, {"width": 1}]}'),
        (Approved | Animal, '{"name": "x"}'),
    ],
)
def test_keys_that_mean_something_are_taken(annotation: Any, text: str) -> None:
    payload(annotation).parse_json(text)


def test_of_very_many_problems_the_first_are_named() -> None:
    with pytest.raises(CodecError, match=r"; and 80 more"):
        payload(list[int]).parse_json(str(["x"] * 100).replace("'", '"'))


def test_a_value_is_written_as_json_for_people() -> None:
    assert payload(Approved | Rejected).to_json(Rejected("me")) == b'{\n  "by": "me",\n  "amount": 0\n}'
