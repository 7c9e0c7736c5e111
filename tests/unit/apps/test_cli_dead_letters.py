"""`floxide dead-letters`: looking, requeueing and dropping from the command line, without a broker."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Floxide, Limits, RunStatus, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.runtime.dead_letters import DeadLetterDesk
from floxide_amqp.stores.record_codec import encode_envelope


@node
async def double(n: int) -> int:
    return 2 * n


class Doubles(Workflow[int, int]):
    start = double


class Letter:
    queue = "default"
    reason = "expired"
    count = 1

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def acknowledge(self) -> None: ...

    async def release(self) -> None: ...


class Shop:
    """An application on a file, with letters in its store, and the command line beside it."""

    def __init__(self, folder: Path, module: str) -> None:
        self.module = module
        self.app = Floxide(
            store=f"sqlite:///{folder}/runs.db", workflows=[Doubles], limits=Limits(dead_letters=0)
        )  # fmt: skip

    def __call__(self, *words: str, stdin: str = "") -> Result:
        name, *rest = words
        return CliRunner().invoke(command_line, ["dead-letters", name, f"{self.module}:app", *rest], input=stdin)

    async def make_store(self) -> None:
        async with self.app.orchestrator(with_worker=False):
            """Opening it is enough."""

    def listed(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self("list", "--json").stdout)
        return found

    def kept(self, *run_ids: str) -> list[str]:
        """Start runs whose messages the broker gives up on once too often; return their letters' ids."""
        return asyncio.run(self._kept(run_ids))

    async def _kept(self, run_ids: tuple[str, ...]) -> list[str]:
        async with self.app.orchestrator(with_worker=False) as orchestrator:
            desk = DeadLetterDesk(orchestrator.services, None, _nothing, lambda: True)
            for run_id in run_ids:
                await orchestrator.start(Doubles, 4, run_id=run_id)
                header = (await orchestrator.services.runs.load(RunId(run_id))).header
                envelope = Envelope(
                    run_id=header.run_id, item_id=header.start_item, node="double", workflow="Doubles", version="1",
                    queue="default", turn=1,
                )  # fmt: skip
                await desk.reconcile(Letter(encode_envelope(envelope)))
            return [each.letter_id for each in await orchestrator.dead_letters()]

    def garbage(self) -> None:
        asyncio.run(self._garbage())

    async def _garbage(self) -> None:
        async with self.app.orchestrator(with_worker=False) as orchestrator:
            await DeadLetterDesk(orchestrator.services, None, _nothing, lambda: True).reconcile(Letter(b"\xc1no\n"))

    def status(self, run_id: str) -> RunStatus:
        async def ask() -> RunStatus:
            async with self.app.orchestrator(with_worker=False) as orchestrator:
                return await orchestrator.status(run_id)

        return asyncio.run(ask())

    def result(self, run_id: str) -> int:
        async def work() -> int:
            async with self.app.orchestrator() as orchestrator:
                return await orchestrator.handle(Doubles, run_id).result(10)

        return asyncio.run(work())


async def _nothing(note: object) -> None:
    del note


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path, "letter_shop")
    module = ModuleType("letter_shop")
    module.app = made.app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "letter_shop", module)
    for name in ("FLOXIDE_BROKER", "FLOXIDE_STORE"):
        monkeypatch.delenv(name, raising=False)
    asyncio.run(made.make_store())
    return made


def test_no_letters_are_an_empty_table_and_an_empty_list(shop: Shop) -> None:
    assert shop("list").exit_code == 0
    assert shop.listed() == []


def test_letters_of_both_kinds_are_listed_with_what_happens_next(shop: Shop) -> None:
    (letter_id,) = shop.kept("run-1")
    shop.garbage()
    table = shop("list").stdout
    assert [word for word in table.split() if word in ("undelivered", "unreadable")] == ["undelivered", "unreadable"]
    assert table.count("waits for you") == 2
    assert "it waited too long" in table
    first, second = shop.listed()
    assert (first["letter_id"], first["run_id"], first["node"], first["count"]) == (letter_id, "run-1", "double", 1)
    assert (second["kind"], second["run_id"], second["bytes"]) == ("unreadable", None, 4)
    page = shop("list", "--limit", "1")
    assert f"--after '{letter_id}'" in page.stdout
    assert second["letter_id"] in shop("list", "--after", letter_id).stdout


def test_a_letter_is_shown_with_its_bytes(shop: Shop) -> None:
    (letter_id,) = shop.kept("run-1")
    shown = shop("show", letter_id).stdout
    assert "run-1" in shown
    assert "000000  " in shown
    facts = json.loads(shop("show", letter_id, "--json").stdout)
    assert b"run-1" in base64.b64decode(facts["body"])


def test_a_requeued_letter_lets_its_run_complete(shop: Shop) -> None:
    (letter_id,) = shop.kept("run-1")
    done = shop("requeue", letter_id)
    assert (done.exit_code, done.stdout) == (0, f"Letter {letter_id}: on its way again.\n")
    assert shop.listed() == []
    assert shop.result("run-1") == 8


def test_several_letters_are_requeued_whatever_becomes_of_one(shop: Shop) -> None:
    first, second = shop.kept("run-1", "run-2")
    done = shop("requeue", first, "nothing", second)
    assert done.exit_code == 4
    assert done.stdout.count("on its way again") == 2
    assert "There is no dead letter 'nothing' any more" in " ".join(done.stderr.split())
    assert shop.listed() == []


def test_dropping_without_a_terminal_needs_yes(shop: Shop) -> None:
    (letter_id,) = shop.kept("run-1")
    done = shop("drop", letter_id)
    assert done.exit_code == 2
    assert "give --yes" in done.stderr
    assert len(shop.listed()) == 1


def test_dropping_says_what_happens_to_the_item(shop: Shop) -> None:
    (letter_id,) = shop.kept("run-1")
    done = shop("drop", letter_id, "--yes")
    assert done.exit_code == 0
    assert "of run 'run-1' fails with DeadLetterError: its on_failure edge takes over, or the run fails." in done.stdout
    assert shop.status("run-1") is RunStatus.FAILED
    assert shop.listed() == []


@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("y\n", 0)])
def test_dropping_asks_on_a_terminal(shop: Shop, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    (letter_id,) = shop.kept("run-1")
    monkeypatch.setattr("floxide_amqp.apps.cli.dead_letters.is_terminal", lambda: True)
    done = shop("drop", letter_id, stdin=answer)
    assert done.exit_code == 0
    assert "Go on?" in done.stderr
    assert len(shop.listed()) == left


def test_an_unreadable_message_is_deleted_by_a_drop(shop: Shop) -> None:
    shop.garbage()
    (letter,) = shop.listed()
    done = shop("drop", str(letter["letter_id"]), "--yes")
    assert "The message is deleted; no item is known to wait for it." in done.stdout
    assert shop.listed() == []


@pytest.mark.parametrize("command", ["show", "requeue"])
def test_an_unknown_letter_is_one_sentence_and_exit_4(shop: Shop, command: str) -> None:
    done: Result = shop(command, "nothing")
    assert done.exit_code == 4
    assert "There is no dead letter 'nothing'" in " ".join(done.stderr.split())
