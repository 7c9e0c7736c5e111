"""`floxide limits` on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Concurrency, Floxide, RateLimit, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line


@node(
    concurrency=Concurrency("account", limit=5, key=lambda n: n),
    rate=RateLimit("mail-api", 100, per=1, key=lambda n: n),
)
async def charge(n: int) -> int:
    return n


class Charging(Workflow[int, int]):
    start = charge


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    module = ModuleType("limit_shop")
    module.app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Charging])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limit_shop", module)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command_line, arguments)

    assert run("start", "limit_shop:app", "--input", "7", "--watch").exit_code == 0
    return run


def test_a_limit_is_set_shown_and_taken_back(floxide: Callable[..., Result]) -> None:
    told = floxide("limits", "set", "limit_shop:app", "account", "2", "--key", "7")
    assert told.output == "2 steps of account/7 may be at work at once.\n"
    (found,) = json.loads(floxide("limits", "list", "limit_shop:app", "--json").output)
    assert (found["name"], found["key"], found["limit"], found["is_set"]) == ("account", "7", 2, True)
    assert "account  7    2    yes" in floxide("limits", "list", "limit_shop:app").output
    told = floxide("limits", "set", "limit_shop:app", "account", "0", "--key", "7")
    assert told.output == "5 steps of account/7 may be at work at once.\n"


def test_a_rate_is_set_shown_and_taken_back(floxide: Callable[..., Result]) -> None:
    told = floxide("limits", "set", "limit_shop:app", "mail-api", "50", "--key", "7", "--per", "2.5", "--burst", "3")
    assert told.output == "50 bodies of mail-api/7 may start per 2.5 s.\n"
    (found,) = json.loads(floxide("limits", "list", "limit_shop:app", "--rates", "--json").output)
    assert (found["name"], found["key"], found["limit"], found["burst"]) == ("mail-api", "7", 50, 3)
    assert "mail-api  7    50      2.5 s  3      yes" in floxide("limits", "list", "limit_shop:app", "--rates").output
    told = floxide("limits", "set", "limit_shop:app", "mail-api", "0", "--key", "7", "--per", "1")
    assert told.output == "Bodies of mail-api/7 start at the rate that the code says.\n"
    assert "from 100 ms" in floxide("limits", "set", "limit_shop:app", "mail-api", "1", "--per", "0.01").output


def test_a_limit_that_cannot_be_one_is_refused(floxide: Callable[..., Result]) -> None:
    assert "from 1 to 1000" in floxide("limits", "set", "limit_shop:app", "account", "5000").output
