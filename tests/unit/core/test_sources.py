"""What messages' runs are called: no two keys alike, however long and strange, and never too long."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.ids import MAX_RUN_ID_LENGTH
from floxide_amqp.core.run_ids import check_run_id
from floxide_amqp.core.sources import MAX_SOURCE_NAME, MessageKey, SourceMessage, check_source_name, source_run_id
from floxide_amqp.exceptions import DefinitionError, UnusableMessageError

KEYS = st.text(min_size=1, max_size=300) | st.text("~abc \n", min_size=1, max_size=40)


@dataclass(frozen=True)
class Order:
    id: object


@dataclass(frozen=True)
class Placed:
    order: Order


@given(st.lists(KEYS, unique=True, max_size=20), st.text("abc-", min_size=1, max_size=MAX_SOURCE_NAME))
def test_no_two_keys_have_the_same_run_and_each_can_be_a_runs_id(given_keys: list[str], source: str) -> None:
    ids = [source_run_id(source, key) for key in given_keys]
    assert len(set(ids)) == len(given_keys)
    for run_id in ids:
        check_run_id(run_id)
        assert len(run_id) <= MAX_RUN_ID_LENGTH


@given(KEYS, st.text("abc-", min_size=1, max_size=10), st.text("abc-", min_size=1, max_size=10))
def test_no_two_sources_have_the_same_run(key: str, one: str, another: str) -> None:
    assert (source_run_id(one, key) == source_run_id(another, key)) == (one == another)


def test_a_plain_key_can_be_read_in_the_runs_id_and_a_digest_cannot_be_made_up() -> None:
    assert source_run_id("orders", "order-17") == "orders:order-17"
    long = source_run_id("orders", "x" * 300)
    assert long.startswith("orders:~")
    assert source_run_id("orders", long.removeprefix("orders:")) != long


def test_keys_come_from_where_they_are_said_to() -> None:
    message = SourceMessage(body=b"{}", message_id="m1", headers={"number": 7, "uuid": UUID(int=1)})
    value = Placed(Order("17"))
    assert MessageKey.message_id().of(message, value) == "m1"
    assert MessageKey.header("number").of(message, value) == "7"
    assert MessageKey.header("uuid").of(message, value) == str(UUID(int=1))
    assert MessageKey.field("order.id").of(message, value) == "17"
    assert MessageKey.field("order.id").of(message, {"order": {"id": 17}}) == "17"
    assert len(MessageKey.body().of(message, value)) == 32


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (MessageKey.message_id(), "It has no message_id"),
        (MessageKey.header("x"), "Its header 'x', by which its run would be called, is missing or empty"),
        (MessageKey.header("flag"), "is a bool"),
        (MessageKey.header("empty"), "is missing or empty"),
        (MessageKey.field("order.id"), "is a list"),
        (MessageKey.field("order.other"), "is missing or empty"),
    ],
)
def test_a_message_without_its_key_says_which(key: MessageKey, problem: str) -> None:
    message = SourceMessage(body=b"", headers={"flag": True, "empty": ""})
    with pytest.raises(UnusableMessageError, match=problem):
        key.of(message, Placed(Order([])))


def test_a_key_needs_a_name() -> None:
    with pytest.raises(DefinitionError, match=r"MessageKey.header\(...\) needs the name of a header"):
        MessageKey.header("")


@pytest.mark.parametrize("name", ["", " orders", "a:b", "x" * 101, "a\nb"])
def test_a_name_that_cannot_be_one_says_so(name: str) -> None:
    with pytest.raises(DefinitionError, match="A source cannot be called"):
        check_source_name(name)
