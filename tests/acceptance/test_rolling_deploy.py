"""Workers of a new version take over from those of the old one, one by one: no run fails, none is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from floxide_amqp.testing.services import URL_VARIABLE

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_a_rolling_deploy_raises_runs_in_flight_to_the_new_version(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, rabbitmq_url)
    arguments = ["--store", "sqlite", "--policy", "auto_upgrade", "--runs", "6", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "examples.rolling_deploy", *arguments], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 completed" in done.stdout
    assert "violations              0" in done.stdout
