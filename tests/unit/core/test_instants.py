"""Times of the store as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from floxide_amqp.core.instants import at


def test_an_instant_is_told_to_the_millisecond_in_utc() -> None:
    assert at(1_782_864_000_007) == datetime(2026, 7, 1, 0, 0, 0, 7_000, tzinfo=UTC)


FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(("ms", "end"), [(10**16, LAST), (10**30, LAST), (-(10**16), FIRST), (-(10**30), FIRST)])
def test_an_instant_beyond_the_calendar_is_its_end(ms: int, end: datetime) -> None:
    assert at(ms) == end
