"""`floxide store reshard` from the command line: what it asks for, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from floxide_amqp.apps.cli.main import app


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--to", "sqlite:///b.db"], "Name the servers the store is to have, each with its shard's name"),
        (["--to", "a=sqlite:///a.db b=memory://"], "Runs cannot move into memory"),
        (["--to", "a=sqlite:///a.db a=sqlite:///b.db"], "Each shard of a store needs a name of its own"),
        (["--to", "a=sqlite:///a.db b=sqlite:///a.db", "--store", "sqlite:///a.db"], "a server has two names"),
        (["--to", "a=sqlite:///a.db", "--store", "sqlite:///none.db"], "There is no store at"),
    ],
)
def test_servers_that_cannot_be_meant_are_refused(
    words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOXIDE_STORE", "sqlite:///a.db")
    (tmp_path / "a.db").touch()
    result = CliRunner().invoke(app, ["store", "reshard", *words])
    assert result.exit_code in (2, 3)
    assert problem in " ".join(result.stderr.split())
    assert [each.name for each in tmp_path.iterdir() if not each.name.startswith("a.db")] == []


def test_a_store_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOXIDE_STORE", raising=False)
    result = CliRunner().invoke(app, ["store", "reshard", "--to", "a=sqlite:///a.db"])
    assert result.exit_code == 2
    assert "Which store? Give --store, or set FLOXIDE_STORE." in " ".join(result.stderr.split())
