"""When occurrences are: intervals, cron expressions, and nights that have an hour twice or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from floxide_amqp import ConfigurationError, DefinitionError, Schedule, Workflow, node
from floxide_amqp.core.schedules import Timing
from floxide_amqp.runtime import occurrences
from floxide_amqp.runtime.occurrences import Cron, Intervals

BERLIN = ZoneInfo("Europe/Berlin")


@node
async def write(name: str) -> str:
    return name


class Report(Workflow[str, str]):
    start = write


def ms(*when: int, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    year, month, day, hour, minute = when
    return round(datetime(year, month, day, hour, minute, tzinfo=zone, fold=fold).timestamp() * 1000)


def following(timing: Timing, at_ms: int, count: int) -> list[str]:
    """The next occurrences on Berlin's clocks, with their distance from UTC."""
    found: list[str] = []
    for _ in range(count):
        at_ms = timing.after(at_ms)
        found.append(datetime.fromtimestamp(at_ms / 1000, tz=BERLIN).strftime("%d %H:%M %z"))
    return found


def test_intervals_count_from_1970_so_that_every_process_comes_to_the_same() -> None:
    hourly = Intervals(3_600_000)
    assert hourly.after(0) == 3_600_000
    assert hourly.after(3_599_999) == 3_600_000
    assert hourly.after(3_600_000) == 7_200_000


def test_a_cron_expression_goes_by_the_clocks_of_its_zone() -> None:
    weekdays = Cron("0 9 * * MON-FRI", "Europe/Berlin")
    assert following(weekdays, ms(2026, 3, 26, 9, 0), 3) == ["27 09:00 +0100", "30 09:00 +0200", "31 09:00 +0200"]


def test_a_time_that_a_night_does_not_have_is_right_after_it_and_once() -> None:
    nightly = Cron("30 2 * * *", "Europe/Berlin")  # on 29 March 2026 02:00 is followed by 03:00
    assert following(nightly, ms(2026, 3, 28, 12, 0), 2) == ["29 03:00 +0200", "30 02:30 +0200"]


def test_a_time_that_a_night_has_twice_is_taken_the_first_time_alone() -> None:
    nightly = Cron("30 2 * * *", "Europe/Berlin")  # on 25 October 2026 03:00 is followed by 02:00
    assert following(nightly, ms(2026, 10, 24, 12, 0), 2) == ["25 02:30 +0200", "26 02:30 +0100"]
    between = ms(2026, 10, 25, 2, 10, fold=1)
    assert following(nightly, between, 1) == ["26 02:30 +0100"]


def test_every_half_hour_goes_by_the_time_that_passes_in_such_nights() -> None:
    often = Cron("*/30 * * * *", "Europe/Berlin")
    assert following(often, ms(2026, 3, 29, 1, 15), 3) == ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]
    at = ms(2026, 10, 25, 1, 45)
    assert following(often, at, 5) == [
        "25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100", "25 03:00 +0100"
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "0 */3 * * *", "15 1,2,3 * * *"])
def test_occurrences_of_two_years_follow_each_other_whatever_moment_they_are_looked_for_from(
    zone: str, expression: str
) -> None:
    timing = Cron(expression, zone)
    for change in (
        datetime(2026, 3, 7, tzinfo=UTC),
        datetime(2026, 10, 24, tzinfo=UTC),
        datetime(2026, 10, 3, tzinfo=UTC),
    ):
        at_ms = round(change.timestamp() * 1000)
        end_ms = at_ms + 3 * 86_400_000
        found: list[int] = []
        while (at_ms := timing.after(at_ms)) < end_ms:
            assert not found or at_ms > found[-1]
            found.append(at_ms)
        assert len(found) >= 2
        start_ms = round(change.timestamp() * 1000)
        for look in range(start_ms, end_ms, 3_600_000):  # no look misses one or finds one that others do not
            expected = next((each for each in found if each > look), None)
            assert expected is None or timing.after(look) == expected


def test_an_expression_without_occurrences_ends() -> None:
    assert Cron("0 0 1 1 *", "UTC").after(occurrences.LAST_MS) == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "either every"),
        ({"every": 60, "cron": "* * * * *"}, "either every"),
        ({"every": 0.5}, "less than a second"),
        ({"every": float("nan")}, "every=nan"),
        ({"every": timedelta(days=10_000)}, "3650 days"),
        ({"every": 60, "timezone": "Europe/Berlin"}, "goes with cron"),
        ({"every": 60, "jitter": -1}, "jitter=-1"),
        ({"every": 60, "catch_up": float("inf")}, "catch_up=inf"),
        ({"every": 60, "overlap": "sometimes"}, "skip, queue, cancel_previous, allow"),
        ({"cron": "61 * * * *"}, "no cron expression"),
        ({"cron": "nonsense"}, "no cron expression"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_where_it_is_written(options: dict[str, object], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        Schedule("report", Report, "x", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " x", "x" * 101, "a\nb"])
def test_a_name_is_printable_and_short(name: str) -> None:
    with pytest.raises(DefinitionError, match="name of a schedule"):
        Schedule(name, Report, "x", every=60)


def test_an_unknown_zone_and_a_missing_extra_are_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="pip install tzdata"):
        Schedule("report", Report, "x", cron="* * * * *", timezone="Mars/Olympus")
    monkeypatch.setattr(occurrences, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'floxide-amqp\[schedules\]'"):
        Schedule("report", Report, "x", cron="* * * * *")
    Schedule("report", Report, "x", every=60)
