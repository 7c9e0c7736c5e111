"""Half a minute of chaos on real parts, with at least one fault of every kind; `make chaos` does it for ten minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.postgresql_servers import find_programs
from floxide_amqp.testing.rabbitmq_servers import find_scripts
from floxide_amqp.testing.redis_servers import find_program
from tests.chaos.plan import FULL_SECONDS, KINDS, make_plan
from tests.chaos.stores import KINDS_OF_STORE

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 1_500
"""A smoke takes a minute and a half. On a machine ten times slower it is still to end, and not to be broken off."""

LEAST_RUNS = 32
"""What the client starts before it waits for the first answer: however slow, so many runs there are."""


def chaos(*arguments: str) -> str:
    """Return what a chaos said that found nothing violated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


def ended_rightly(told: str) -> int:
    """Return of how many runs that is said."""
    assert "lost 0 · duplicated transitions 0 · wrong results 0 · leaked 0" in told
    assert "never injected" not in told
    assert "never exercised" not in told
    runs = re.search(r"^runs: ([\d,]+)", told, re.MULTILINE)
    assert runs is not None, told
    return int(runs.group(1).replace(",", ""))


@pytest.mark.long
@pytest.mark.timeout(PATIENCE_SECONDS + 10)
@pytest.mark.fault(2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 19, 25, 29, 30, 35, 36, 44, 48, 51)
def test_every_run_ends_rightly_whatever_is_killed_cut_wiped_or_filled() -> None:
    try:
        find_scripts()
    except ConfigurationError as error:
        pytest.skip(f"needs a RabbitMQ that may be killed: {error}")
    assert ended_rightly(chaos("--smoke", "--seed", "7")) >= LEAST_RUNS


FINDERS: dict[str, Callable[[], object]] = {"postgresql": find_programs, "redis": find_program}

STORE_VARIABLE = "FLOXIDE_CHAOS_STORE"
"""Says which of these it is; without it they take turns, day by day. ``make chaos STORE=redis SMOKE=1`` takes any."""


@pytest.mark.long
@pytest.mark.timeout(PATIENCE_SECONDS + 10)
@pytest.mark.fault(25, 28, 30)
def test_every_run_ends_rightly_whatever_is_done_to_the_server_of_its_store() -> None:
    store = os.environ.get(STORE_VARIABLE) or [*FINDERS][datetime.now(UTC).toordinal() % len(FINDERS)]
    try:
        find_scripts()
        FINDERS[store]()
    except ConfigurationError as error:
        pytest.skip(f"needs servers that may be killed: {error}")
    told = chaos(
        "--store", store, "--tracks", "store", "store-links", "--duration", "10", "--workers", "2", "--seed", "7"
    )
    assert ended_rightly(told) >= LEAST_RUNS
    kinds = {kind.name for kind in KINDS[store] if kind.track.startswith("store")}
    done = re.findall(r"^\[ *[\d.]+ s\] ([a-z-]+) +due|^not possible here: ([a-z-]+)", told, re.MULTILINE)
    assert kinds == {injected or impossible for injected, impossible in done}


@pytest.mark.parametrize("store", KINDS_OF_STORE)
def test_the_plan_of_ten_minutes_has_two_hundred_faults_and_each_kind_three_times(store: str) -> None:
    plan = make_plan(1, FULL_SECONDS, store)
    counts = [sum(fault.kind == kind.name for fault in plan) for kind in KINDS[store]]
    assert len(plan) >= 200
    assert min(counts) >= 3
    assert make_plan(1, FULL_SECONDS, store) == plan
    assert make_plan(2, FULL_SECONDS, store) != plan
