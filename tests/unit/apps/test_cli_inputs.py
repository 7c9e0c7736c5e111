from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import pytest

from floxide_amqp import Append, Context, EventLog, Fixed, Sum, Workflow, node
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.inputs import parse_context, parse_input, read_json


@dataclass(frozen=True)
class Order:
    item: str
    quantity: int
    due: date | None = None


class Address(Context):
    street: str = ""


class Account(Context):
    customer: Fixed[str]
    address: Address = Address()
    log: EventLog[Order] = EventLog()
    days: Annotated[list[date], Append()] = []
    spent: Annotated[int, Sum()] = 0


class Nothing(Context):
    pass


@node
async def take(order: Order) -> str:
    return order.item


@node
async def tick(nothing: None) -> str:
    return "tick"


@node
async def either(order: Order | str) -> str:
    return "x"


class Shop(Workflow[Order, str]):
    start = take


class Ticking(Workflow[None, str]):
    start = tick


class Either(Workflow[Order | str, str]):
    start = either


def test_json_text_becomes_the_type_of_the_workflow() -> None:
    given = '{"item": "pen", "quantity": 2, "due": "2030-01-02"}'
    assert parse_input(Shop.graph, given) == Order("pen", 2, date(2030, 1, 2))


def test_a_union_takes_the_member_that_fits() -> None:
    assert parse_input(Either.graph, '"pen"') == "pen"
    assert parse_input(Either.graph, '{"item": "pen", "quantity": 2}') == Order("pen", 2)


def test_a_workflow_that_takes_nothing_needs_no_input() -> None:
    assert parse_input(Ticking.graph, None) is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "Workflow 'Shop' takes Order: give it with --input, as JSON, "),
        ("", "--input is '', which is neither JSON nor a file."),
        ("{", "--input is not JSON: expecting property name enclosed in double quotes (line 1, column 2)."),
        ("[" * 100_000, "--input is not JSON: it is nested too deeply."),
        ("pen", "--input is 'pen', which is neither JSON nor a file. Give JSON (a text needs quotes of its own: "),
        ("a" * 5000, "--input is 'aaa"),
        ("two.json", "The file two.json of --input is not JSON: extra data (line 2, column 1)."),
        ("empty.json", "The file empty.json of --input is not JSON: it is empty."),
        ("latin.json", "The file latin.json of --input cannot be read: "),
        ("-", "What --input read from standard input is not JSON: it is empty."),
        ('"pen"', "The input of workflow 'Shop' must be Order, and what was given is not: "),
        ('{"item": "pen"}', "The input of workflow 'Shop' must be Order, and what was given is not: quantity: "),
    ],
)  # fmt: skip
def test_a_wrong_input_says_what_it_should_be(
    given: str | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    (tmp_path / "two.json").write_text("1\n2")
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    with pytest.raises(UsageError) as caught:
        parse_input(Shop.graph, given)
    assert str(caught.value).startswith(sentence)


def test_a_number_is_json_even_where_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "5").write_text("6")
    assert read_json("5", "--input") == "5"
    assert read_json("./5", "--input") == "6"


def test_a_context_is_read_field_by_field_with_their_types() -> None:
    given = {
        "customer": "Ada",
        "address": {"street": "Main"},
        "log": [{"item": "pen", "quantity": 1}],
        "days": ["2030-01-02"],
    }
    context: Any = parse_context(Account, json.dumps(given))
    assert (context.customer, context.address.street, context.spent) == ("Ada", "Main", 0)
    assert list(context.log) == [Order("pen", 1)]
    assert context.days == [date(2030, 1, 2)]


def test_a_context_that_is_not_given_is_left_to_the_defaults() -> None:
    assert parse_context(Address, None) is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "The workflow has the context Account, whose customer must be given: --context '{\"customer\": …}'."),
        ("[]", "Account is a context: write a JSON object with its fields, not an array."),
        ("{}", "The context does not fit: Account() needs customer: no default."),
        ('{"name": 1}', "Account has no field 'name'; its fields are: customer, address, log, days, spent."),
        ('{"customer": 1}', "Account.customer must be str, and what was given is not: "),
        ('{"customer": "a", "address": 1}', "Account.address is a context: write a JSON object"),
        ('{"customer": "a", "address": {"street": 1}}', "Account.address.street must be str"),
        ('{"customer": "a", "log": "x"}', "Account.log is an event log: write a JSON array with"),
        ('{"customer": "a", "log": [1]}', "Account.log must be Order"),
    ],
)  # fmt: skip
def test_a_wrong_context_says_what_it_should_be(given: str | None, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_context(Account, given)
    assert str(caught.value).startswith(sentence)


def test_a_context_for_a_workflow_that_has_none_is_refused() -> None:
    with pytest.raises(UsageError, match="The workflow has no context; leave --context out"):
        parse_context(Nothing, "{}")
