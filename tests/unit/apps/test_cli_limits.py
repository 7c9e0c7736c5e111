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


@node(rate=RateLimit("batch", 10, per=1))
async def read(n: int) -> int:
    return n


class Reading(Workflow[int, int], concurrency=Concurrency("batch", limit=3)):
    start = read


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    module = ModuleType("limit_shop")
    module.app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Charging, Reading])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limit_shop", module)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command_line, arguments)

    assert run("start", "limit_shop:app", "Charging", "--input", "7", "--watch").exit_code == 0
    return run


def test_a_limit_is_set_shown_and_taken_back(floxide: Callable[..., Result]) -> None:
    told = floxide("limits", "set", "limit_shop:app", "account", "2", "--key", "7")
    assert told.output == "2 may hold account/7 at once.\n"
    (found,) = json.loads(floxide("limits", "list", "limit_shop:app", "--json").output)
    assert (found["name"], found["key"], found["limit"], found["is_set"]) == ("account", "7", 2, True)
    assert "account  7    2    yes" in floxide("limits", "list", "limit_shop:app").output
    told = floxide("limits", "set", "limit_shop:app", "account", "0", "--key", "7")
    assert told.output == "5 may hold account/7 at once.\n"


def test_a_rate_is_set_shown_and_taken_back(floxide: Callable[..., Result]) -> None:
    told = floxide("limits", "set", "limit_shop:app", "mail-api", "50", "--key", "7", "--per", "2.5", "--burst", "3")
    assert told.output == "50 bodies of mail-api/7 may start per 2.5 s.\n"
    (found,) = json.loads(floxide("limits", "list", "limit_shop:app", "--rates", "--json").output)
    assert (found["name"], found["key"], found["limit"], found["burst"]) == ("mail-api", "7", 50, 3)
    assert "mail-api  7    50      2.5 s  3      yes" in floxide("limits", "list", "limit_shop:app", "--rates").output
    told = floxide("limits", "set", "limit_shop:app", "mail-api", "0", "--key", "7", "--per", "1")
    assert told.output == "Bodies of mail-api/7 start at the rate that the code says.\n"
    assert "from 100 ms" in floxide("limits", "set", "limit_shop:app", "mail-api", "1", "--per", "0.01").output


def test_a_limit_of_runs_goes_before_a_rate_of_the_same_name(floxide: Callable[..., Result]) -> None:
    assert floxide("limits", "set", "limit_shop:app", "batch", "2").output == "2 may hold batch/ at once.\n"
    told = floxide("limits", "set", "limit_shop:app", "batch", "2", "--per", "1").output
    assert told == "2 bodies of batch/ may start per 1 s.\n"


def test_a_limit_that_cannot_be_one_is_refused(floxide: Callable[..., Result]) -> None:
    assert "from 1 to 1000" in floxide("limits", "set", "limit_shop:app", "account", "5000").output


def test_a_limit_of_a_rate_is_set_without_its_time_which_stays(floxide: Callable[..., Result]) -> None:
    told = floxide("limits", "set", "limit_shop:app", "mail-api", "50", "--key", "7")
    assert told.output == "50 bodies of mail-api/7 may start per 1 s.\n"
    told = floxide("limits", "set", "limit_shop:app", "mail-api", "0", "--key", "7")
    assert told.output == "Bodies of mail-api/7 start at the rate that the code says.\n"
    (found,) = json.loads(floxide("limits", "list", "limit_shop:app", "--json").output)
    assert found["name"] == "account"


def test_a_page_says_how_the_list_goes_on(floxide: Callable[..., Result]) -> None:
    shown = floxide("limits", "list", "limit_shop:app", "--limit", "1").output
    assert "There may be more: go on with --after 'account/7'." in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("acount", "2"), "Nothing in limit_shop:app has a limit 'acount'; it has: account, batch, mail-api."),
        (("account", "2"), "Limit 'account' has a key for each step or run, and this sets the empty one alone"),
        (("batch", "2", "--key", "7"), "All that limit 'batch' is for share one key, which is not '7'"),
        (("mail-api", "2", "--per", "1"), "Limit 'mail-api' has a key for each step or run"),
        (("account", "2", "--key", "7"), ""),
        (("batch", "2"), ""),
    ],
)
def test_a_limit_that_nobody_will_ask_for_is_set_with_a_warning(
    floxide: Callable[..., Result], arguments: tuple[str, ...], told: str
) -> None:
    answer = floxide("limits", "set", "limit_shop:app", *arguments)
    assert answer.exit_code == 0
    warning = " ".join(answer.stderr.split())
    assert warning.startswith(f"floxide: {told}") if told else not warning
