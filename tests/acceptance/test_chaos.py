"""Half a minute of chaos on real parts, with at least one fault of every kind; `make chaos` does it for ten minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.rabbitmq_servers import find_scripts
from tests.chaos.plan import FULL_SECONDS, KINDS, make_plan
from tests.chaos.stores import SQLITE

ROOT = Path(__file__).parents[2]
SMOKE_SECONDS = 280
LEAST_RUNS = 50


@pytest.mark.xdist_group("own_rabbitmq")
@pytest.mark.timeout(SMOKE_SECONDS + 10)
@pytest.mark.fault(2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 19, 25, 29, 30, 35, 36, 44, 48, 51)
def test_every_run_ends_rightly_whatever_is_killed_cut_wiped_or_filled() -> None:
    try:
        find_scripts()
    except ConfigurationError as error:
        pytest.skip(f"needs a RabbitMQ that may be killed: {error}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--smoke", "--seed", "7"], cwd=ROOT, capture_output=True, text=True,
        timeout=SMOKE_SECONDS, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "lost 0 · duplicated transitions 0 · wrong results 0 · leaked 0" in told
    assert "never injected" not in told
    runs = re.search(r"^runs: ([\d,]+)", done.stdout, re.MULTILINE)
    assert runs is not None, told
    assert int(runs.group(1).replace(",", "")) >= LEAST_RUNS


def test_the_plan_of_ten_minutes_has_two_hundred_faults_and_each_kind_three_times() -> None:
    plan = make_plan(1, FULL_SECONDS)
    counts = [sum(fault.kind == kind.name for fault in plan) for kind in KINDS[SQLITE]]
    assert len(plan) >= 200
    assert min(counts) >= 3
    assert make_plan(1, FULL_SECONDS) == plan
    assert make_plan(2, FULL_SECONDS) != plan
