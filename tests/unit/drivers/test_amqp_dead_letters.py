"""What is read out of a dead letter's headers, which anybody may have written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.drivers.amqp.dead_letters import AmqpDeadLetterQueue, read_death
from floxide_amqp.exceptions import ConfigurationError

DEATH: dict[str, Any] = {
    "count": 2, "reason": "delivery_limit", "queue": "shop.work.default", "exchange": "shop.work",
    "routing-keys": ["default"], "time": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_the_latest_death_says_queue_reason_and_count() -> None:
    before = DEATH | {"reason": "expired", "count": 7}
    assert read_death({"x-death": [DEATH, before], "other": 1}) == ("default", "delivery_limit", 2)


@pytest.mark.parametrize(
    ("headers", "death"),
    [
        (None, ("", "", 0)),
        ({}, ("", "", 0)),
        ({"x-death": []}, ("", "", 0)),
        ({"x-death": "often"}, ("", "", 0)),
        ({"x-death": [b"bytes"]}, ("", "", 0)),
        ({"x-death": [DEATH | {"routing-keys": []}]}, ("", "delivery_limit", 2)),
        ({"x-death": [DEATH | {"routing-keys": [7]}]}, ("", "delivery_limit", 2)),
        ({"x-death": [DEATH | {"count": -1}]}, ("default", "delivery_limit", 0)),
        ({"x-death": [DEATH | {"reason": 3, "count": "x"}]}, ("default", "", 0)),
    ],
)
def test_what_is_missing_or_odd_is_left_out(headers: object, death: tuple[str, str, int]) -> None:
    assert read_death(headers) == death


@given(st.fixed_dictionaries({"x-death": PLAIN}) | PLAIN)
def test_no_header_breaks_the_reader(headers: object) -> None:
    queue, reason, count = read_death(headers)
    assert isinstance(queue, str)
    assert isinstance(reason, str)
    assert isinstance(count, int)


def test_a_wrong_place_is_told_at_once_and_nothing_connects() -> None:
    with pytest.raises(ConfigurationError, match="not a broker URL"):
        AmqpDeadLetterQueue("http://somewhere")
    with pytest.raises(ValueError, match="at least 1"):
        AmqpDeadLetterQueue("amqp://localhost").read(prefetch=0)
