"""The `floxide` command as a user meets it: real processes, what they print, how they end."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import Message

ROOT = Path(__file__).parents[2]

SHOP = """
import asyncio
import os
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from floxide_amqp import Context, EventLog, Fixed, Floxide, NextAll, Sum, Timeouts, Workflow, WorkflowCtx, gather, node


@dataclass(frozen=True)
class Order:
    item: str
    quantity: int
    due: date | None = None


class Account(Context):
    customer: Fixed[str]
    log: EventLog[str] = EventLog()
    spent: Annotated[int, Sum()] = 0


@node
async def price(ctx: WorkflowCtx[Account], order: Order) -> Order:
    ctx.state.spent += order.quantity
    return order


@node
async def confirm(ctx: WorkflowCtx[Account], order: Order) -> str:
    when = order.due.isoformat() if order.due else "any day"
    return f"{ctx.state.customer}: {ctx.state.spent} of {order.item}, {when}"


class Shop(Workflow[Order, str, Account]):
    start = price
    edges = (price >> confirm,)


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(list(range(n)))


@node
async def double(n: int) -> int:
    return 2 * n


@node
async def total(numbers: list[int]) -> int:
    return sum(numbers)


class Doubles(Workflow[int, int]):
    start = spread
    edges = (spread >> double >> gather(total),)


@node
async def wait(ctx: WorkflowCtx, folder: str) -> str:
    Path(folder, "began").touch()
    while not Path(folder, "go").exists():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            Path(folder, "interrupted").touch()
            raise
    return "done"


@node
async def after(text: str) -> str:
    return text + " and over"


class Waiting(Workflow[str, str]):
    start = wait
    edges = (wait >> after,)


@node
def hang(folder: str) -> str:
    Path(folder, "began").touch()
    time.sleep(600)
    return "never"


class Hanging(Workflow[str, str]):
    start = hang


@node
async def open_when(folder: str) -> str:
    if not Path(folder, "go").exists():
        raise ValueError("the shop is closed")
    return "open"


class Opening(Workflow[str, str]):
    start = open_when


app = Floxide(
    os.environ.get("SHOP_BROKER"), store=os.environ.get("SHOP_STORE"), namespace=os.environ.get("SHOP_NAMESPACE", "x"),
    workflows=[Shop, Doubles, Waiting, Hanging, Opening], timeouts=Timeouts(probe=0.5),
)
single = Floxide(workflows=[Doubles])
hasty = Floxide(store=os.environ.get("SHOP_STORE"), workflows=[Hanging], timeouts=Timeouts(drain=0.2, cancel_grace=0.2))
number = 7


def make() -> Floxide:
    return app
"""

ORDER = '{"item": "pen", "quantity": 2}'
ADA = '{"customer": "Ada"}'


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What was said, whatever the wrapping."""
        return " ".join(self.err.split())


@dataclass
class Started:
    """A process that goes on, to look at and to signal."""

    process: subprocess.Popen[str]
    stderr: IO[str]
    path: Path
    running: list[Started] = field(default_factory=list)

    async def until(self, is_so: Callable[[], bool], seconds: float = 90) -> None:
        async with asyncio.timeout(seconds):
            while not is_so():
                if self.process.poll() is not None:
                    raise AssertionError(f"it ended with {self.process.returncode}: {self.path.read_text()}")
                await asyncio.sleep(0.02)

    async def end(self, seconds: float = 90) -> Outcome:
        out, _ = await asyncio.to_thread(self.process.communicate, timeout=seconds)
        return Outcome(self.process.returncode, out, self.path.read_text())

    def logged(self) -> list[dict[str, Any]]:
        lines = self.path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def has_logged(self, event: str) -> Callable[[], bool]:
        return lambda: any(line["event"] == event for line in self.logged())


@dataclass
class Floxide:
    """The command in a folder with shop.py."""

    folder: Path
    environment: dict[str, str]
    started: list[Started] = field(default_factory=list)

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        """Do it in this process, which spares most of a second that another takes to start."""
        root = logging.getLogger()
        handlers, modules = root.handlers[:], set(sys.modules)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "path", sys.path[:])
            for name in os.environ.keys() - self.environment.keys():
                patch.delenv(name)
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            try:
                done = CliRunner().invoke(command_line, arguments, input=stdin)
            finally:
                root.handlers[:] = handlers
                for name in sys.modules.keys() - modules:  # the application is read anew each time
                    if Path(sys.modules[name].__dict__.get("__file__") or "/").is_relative_to(self.folder):
                        del sys.modules[name]
        assert isinstance(done.exception, SystemExit | None), done.exc_info
        assert "Traceback" not in done.stderr or "--debug" in arguments, done.stderr
        return Outcome(done.exit_code, done.stdout, done.stderr)

    def process(self, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        """Do it in a process of its own, as users do; also while an event loop runs here."""
        done = subprocess.run(
            [sys.executable, "-m", "floxide_amqp.apps.cli", *arguments], cwd=self.folder, input=stdin, text=True,
            env=self.environment | environment, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr or "--debug" in arguments, done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def begin(self, *arguments: str, **environment: str) -> Started:
        path = self.folder / f"stderr-{len(self.started)}"
        stderr = path.open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "floxide_amqp.apps.cli", *arguments], cwd=self.folder, text=True,
            env=self.environment | environment, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.started.append(Started(process, stderr, path))
        return self.started[-1]


@pytest.fixture
def floxide(tmp_path: Path) -> Iterator[Floxide]:
    (tmp_path / "shop.py").write_text(SHOP)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOXIDE_", "SHOP_"))}
    one = Floxide(tmp_path, kept | {"PYTHONPATH": str(ROOT)})
    yield one
    for started in one.started:
        if started.process.poll() is None:
            started.process.kill()
        started.process.communicate()
        started.stderr.close()


@pytest.fixture
def stored(floxide: Floxide, tmp_path: Path) -> Floxide:
    """The command with an application on an SQLite file and without a broker."""
    floxide.environment["SHOP_STORE"] = f"sqlite:///{tmp_path}/runs.db"
    return floxide


# --- run


def test_run_prints_the_output_as_json_on_standard_output(floxide: Floxide) -> None:
    done = floxide.process("run", "shop:app", "Shop", "--input", ORDER, "--context", ADA)
    assert (done.code, done.out, done.err) == (0, '"Ada: 2 of pen, any day"\n', "")


def test_run_takes_a_workflow_class_and_an_application_with_a_single_one(floxide: Floxide) -> None:
    assert floxide("run", "shop:Doubles", "--input", "4").out == "12\n"
    assert floxide("run", "shop:single", "--input", "4").out == "12\n"


def test_an_input_comes_from_a_file_or_from_standard_input_and_dates_from_text(floxide: Floxide) -> None:
    order = '{"item": "ink", "quantity": 3, "due": "2030-01-02"}'
    (floxide.folder / "order.json").write_text(order)
    expected = '"Ada: 3 of ink, 2030-01-02"\n'
    assert floxide.process("run", "shop:Shop", "--input", "order.json", "--context", ADA).out == expected
    assert floxide.process("run", "shop:Shop", "--input", "-", "--context", ADA, stdin=order).out == expected


def test_a_failed_run_exits_with_1_and_says_which_node_raised_what(floxide: Floxide) -> None:
    done = floxide.process("run", "shop:Opening", "--input", json.dumps(str(floxide.folder)), "--log-level", "error")
    assert done.code == 1
    assert "node 'open_when'" in done.words
    assert "was tried once and raised ValueError: the shop is closed. Fix the cause" in done.words


def test_a_run_that_takes_too_long_exits_with_5(floxide: Floxide) -> None:
    done = floxide("run", "shop:Waiting", "--input", json.dumps(str(floxide.folder)), "--timeout", "1")
    assert (done.code, done.out) == (5, "")
    assert "did not end within 1 s and was given up; nothing of it is kept" in done.words
    began = (floxide.folder / "began").exists()  # which a second need not be enough for
    assert (floxide.folder / "interrupted").exists() == began


async def test_ctrl_c_ends_a_run_with_130(floxide: Floxide) -> None:
    started = floxide.begin("run", "shop:Waiting", "--input", json.dumps(str(floxide.folder)))
    await started.until((floxide.folder / "began").exists)
    started.process.send_signal(signal.SIGINT)
    assert (await started.end()).code == 130


async def test_a_thread_that_does_not_end_keeps_no_process_from_ending(stored: Floxide) -> None:
    here = json.dumps(str(stored.folder))
    started = stored.begin("run", "shop:hasty", "--input", here, "--run-id", "h1", "--log-format", "json")
    await started.until((stored.folder / "began").exists)
    started.process.send_signal(signal.SIGTERM)
    ended = await started.end()
    assert ended.code == 143
    assert "Run 'h1' stays in the store; the same command with --run-id h1 goes on with it." in ended.words
    assert "A node's thread is still at work and is left behind." in ended.words


def test_run_on_a_store_goes_on_with_the_same_id_and_tells_a_conflict(stored: Floxide) -> None:
    first = stored("run", "shop:app", "Doubles", "--input", "5", "--run-id", "d1")
    assert (first.code, first.out) == (0, "20\n")
    assert stored("run", "shop:app", "Doubles", "--input", "5", "--run-id", "d1").out == "20\n"
    other = stored("run", "shop:app", "Doubles", "--input", "6", "--run-id", "d1")
    assert other.code == 4
    assert other.words.startswith("floxide: Run 'd1' exists already and was started with another input.")


# --- wrong input

WRONG_INPUTS = [
    (("Nope", "-i", "1"), "There is no workflow 'Nope' here. This application has: Doubles, Hanging, Opening, Shop"),
    (("Shop", "-i", '{"item":'), "--input is not JSON: expecting value (line 1, column 9)."),
    (
        ("Shop", "-i", '{"item": "pen", "quantity": "many"}', "-c", ADA),
        "The input of workflow 'Shop' must be Order, and what was given is not: quantity: input should be a valid",
    ),
    (("Doubles", "-i", "1", "--run-id", " "), "' ' cannot be a run id"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG_INPUTS)
def test_a_wrong_input_is_one_paragraph_and_exit_2(floxide: Floxide, arguments: tuple[str, ...], sentence: str) -> None:
    done = floxide("run", "shop:app", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.words.startswith(f"floxide: {sentence}")
    assert "\n\n" not in done.err


def test_a_reference_that_leads_nowhere_is_one_paragraph_and_exit_2(floxide: Floxide) -> None:
    done = floxide("run", "shopp:app", "--input", "1")
    assert (done.code, done.out) == (2, "")
    assert done.words.startswith(f"floxide: There is no module 'shopp' in {floxide.folder} or on Python's path.")


def test_debug_adds_the_traceback(floxide: Floxide) -> None:
    (floxide.folder / "raising.py").write_text("1 / 0")
    done = floxide.process("run", "raising:app", "--debug")
    assert done.code == 2
    assert "ZeroDivisionError: division by zero" in done.err
    assert "Traceback" in done.err


def test_commands_for_others_refuse_an_application_in_memory(floxide: Floxide) -> None:
    done = floxide("status", "shop:app", "x")
    assert done.code == 3
    assert "shop:app keeps its runs in memory, where only its own process sees them." in done.words


@pytest.mark.parametrize("command", ["status", "cancel", "errors"])
def test_an_unknown_run_id_exits_with_4(stored: Floxide, command: str) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2")
    done = stored(command, "shop:app", "order-99")
    assert done.code == 4
    assert done.words.startswith("floxide: There is no run 'order-99' in this store.")


def test_a_store_url_nobody_understands_exits_with_3(floxide: Floxide) -> None:
    done = floxide("status", "shop:app", "x", "--store", "mysql://localhost")
    assert done.code == 3
    assert "is not the URL of a store this release has. Use sqlite:///relative/path.db" in done.words


def test_an_unreachable_broker_exits_with_3_and_hides_the_password(stored: Floxide) -> None:
    done = stored(
        "start", "shop:app", "Doubles", "-i", "1", "--broker", "amqp://me:secret@127.0.0.1:1/", "--connect-timeout", "1"
    )
    assert done.code == 3
    assert done.words.startswith("floxide: Connecting failed: the broker at amqp://me:***@127.0.0.1:1/ is unavailable")
    assert "secret" not in done.err


# --- one store, no broker


def test_start_watch_brings_a_worker_along_where_there_is_no_broker(stored: Floxide) -> None:
    done = stored.process("start", "shop:app", "Doubles", "-i", "5", "--run-id", "d1", "--watch")
    assert (done.code, done.out) == (0, "20\n")
    assert done.err.splitlines()[-1] == "Doubles d1  completed  7 done"


def test_a_run_is_started_listed_shown_and_told_from_another(stored: Floxide) -> None:
    assert stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1").out == "d1\n"
    assert stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1").code == 0
    conflict = stored("start", "shop:app", "Doubles", "-i", "3", "--run-id", "d1")
    assert conflict.code == 4
    assert "Run 'd1' exists already and was started with another input." in conflict.words
    shown = json.loads(stored("status", "shop:app", "d1", "--json").out)
    assert shown["run"]["status"] == "pending"
    assert shown["metrics"]["live_items"] == 1
    stored("run", "shop:app", "Doubles", "-i", "2", "--run-id", "d2")
    listed = json.loads(stored("list", "shop:app", "--status", "completed", "--json").out)
    assert listed["runs"][0]["run_id"] == "d2"  # the worker that ran it may have taken up the other one as well
    assert json.loads(stored("status", "shop:app", "d2", "--json").out)["result"] == 2
    table = stored("list", "shop:app", "--limit", "1").out
    assert "There may be more: --cursor" in table
    items = json.loads(stored("items", "shop:app", "d2", "--json").out)
    assert [item["node"] for item in items] == ["spread", "double", "double", "total"]
    assert "double" in stored("items", "shop:app", "d2").out


def test_what_the_environment_names_is_used_instead_of_what_the_code_names(floxide: Floxide) -> None:
    store = f"sqlite:///{floxide.folder}/other.db"
    assert floxide("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1", FLOXIDE_STORE=store).code == 0
    assert floxide("status", "shop:app", "d1", "--store", store).code == 0
    assert (floxide.folder / "other.db").exists()


def test_a_failed_run_shows_its_errors_and_is_resumed(stored: Floxide) -> None:
    here = json.dumps(str(stored.folder))
    assert stored("run", "shop:app", "Opening", "-i", here, "--run-id", "o1").code == 1
    assert "open_when: ValueError: the shop is closed" in stored("status", "shop:app", "o1").out
    (error,) = json.loads(stored("errors", "shop:app", "o1", "--json").out)
    assert (error["node"], error["attempt"], error["will_retry"]) == ("open_when", 1, False)
    assert "Traceback" in stored("errors", "shop:app", "o1", "--traceback").out
    (stored.folder / "go").touch()
    resumed = stored("resume", "shop:app", "o1", "--watch")
    assert (resumed.code, resumed.out) == (0, '"open"\n')
    again = stored("resume", "shop:app", "o1")
    assert again.code == 4
    assert "Cannot resume run 'o1': it is completed." in again.words


def test_cancel_and_pause_say_what_they_did_or_why_not(stored: Floxide) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1")
    assert stored("pause", "shop:app", "d1", "--reason", "lunch").out.startswith("Run d1 is paused")
    assert "lunch" in stored("status", "shop:app", "d1").out
    assert stored("cancel", "shop:app", "d1").out == "Run d1 is cancelled.\n"
    assert stored("cancel", "shop:app", "d1").out == "Run d1 was cancelled already.\n"
    assert stored("pause", "shop:app", "d1").code == 4
    stored("run", "shop:app", "Doubles", "-i", "2", "--run-id", "d2")
    late = stored("cancel", "shop:app", "d2")
    assert late.code == 4
    assert late.words == "floxide: Cannot cancel run 'd2': it is completed."
    assert stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1", "--watch").code == 1


async def test_a_worker_without_a_broker_takes_up_what_others_left_in_its_store(stored: Floxide) -> None:
    stored.process("start", "shop:app", "Doubles", "-i", "3", "--run-id", "d1")
    worker = stored.begin("worker", "shop:app", "--log-format", "json")
    await worker.until(worker.has_logged("run.finished"))
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.end()).code == 0
    assert json.loads(stored.process("status", "shop:app", "d1", "--json").out)["result"] == 6


def test_what_is_left_out_of_a_table_is_said_with_the_option_that_shows_it(stored: Floxide) -> None:
    stored("run", "shop:app", "Doubles", "-i", "3", "--run-id", "d1")
    first = stored("items", "shop:app", "d1", "--limit", "3").out
    assert "There are more: --start 3" in first
    rest = stored("items", "shop:app", "d1", "--start", "3", "--limit", "3").out
    assert "There are more" not in rest
    assert "total" in rest
    assert len(json.loads(stored("items", "shop:app", "d1", "--limit", "3", "--json").out)) == 3


def test_a_workflow_nobody_knows_is_an_error_of_list_and_one_without_runs_is_not(stored: Floxide) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2")
    nope = stored("list", "shop:app", "--workflow", "Nope")
    assert nope.code == 2
    assert "There is no workflow 'Nope' here. This application has: Doubles, Hanging, Opening, Shop" in nope.words
    assert stored("list", "shop:app", "--workflow", "Shop").code == 0
    stored("run", "shop:app", "Shop", "-i", ORDER, "-c", ADA)
    known = stored("list", "shop:single", "--workflow", "Shop", "--store", stored.environment["SHOP_STORE"])
    assert known.code == 0
    assert "Shop@" in known.out


def test_a_run_that_is_over_has_nothing_live(stored: Floxide) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1")
    assert "0 done, 1 live" in stored("status", "shop:app", "d1").out
    stored("cancel", "shop:app", "d1")
    shown = stored("status", "shop:app", "d1").out
    assert "0 done, 1 not finished" in shown
    assert "live" not in shown


NOBODY = "amqp://me:secret@127.0.0.1:1/"


@pytest.mark.parametrize(
    "command",
    [("list",), ("status", "d1"), ("items", "d1"), ("errors", "d1"), ("quarantine", "list"), ("dead-letters", "list")],
)
def test_looking_needs_no_broker(stored: Floxide, command: tuple[str, ...]) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1")
    name, *rest = command
    words = (name, *rest, "shop:app") if rest == ["list"] else (name, "shop:app", *rest)
    done = stored(*words, "--broker", NOBODY, "--log-level", "warning")
    assert (done.code, done.err) == (0, "")


def test_steering_succeeds_without_the_broker_and_says_that_the_hint_was_not_sent(stored: Floxide) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1")
    for command, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        done = stored(command, "shop:app", "d1", "--broker", NOBODY)
        assert done.code == 0
        assert done.words.startswith("floxide: The hint to the workers was not sent, because the broker cannot be used")
        assert done.words.endswith("they will learn it from the store.")
        assert "secret" not in done.err
        assert json.loads(stored("status", "shop:app", "d1", "--json").out)["run"]["status"] == status


def test_a_run_resumed_without_the_broker_goes_on_once_there_are_workers(stored: Floxide) -> None:
    stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1")
    stored("pause", "shop:app", "d1")
    assert stored("resume", "shop:app", "d1", "--broker", NOBODY).code == 0
    assert stored("start", "shop:app", "Doubles", "-i", "2", "--run-id", "d1", "--watch").out == "2\n"


def test_a_broker_that_is_away_is_told_once_by_each_connection_however_often_it_is_tried(stored: Floxide) -> None:
    done = stored(
        "start", "shop:app", "Doubles", "-i", "1", "--broker", NOBODY, "--connect-timeout", "3",
        "--log-level", "warning", "--log-format", "json",
    )  # fmt: skip
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert {line["logger"] for line in lines} == {"floxide_amqp.drivers.amqp.connection"}
    told = [(line["role"], line["problem"]) for line in lines]
    assert len(told) == len(set(told)) >= 1


def test_a_store_whose_folder_is_missing_is_told_with_how_to_make_it(floxide: Floxide) -> None:
    store = f"sqlite:///{floxide.folder}/no/runs.db"
    assert floxide("list", "shop:app", "--store", store).words.startswith("floxide: There is no store at")
    done = floxide("start", "shop:app", "Doubles", "-i", "2", "--store", store)
    assert done.code == 3
    assert f"make the folder (mkdir -p {floxide.folder}/no)" in done.words


# --- graph


def test_graph_draws_mermaid_or_dot_to_standard_output_or_a_file(floxide: Floxide) -> None:
    assert floxide("graph", "shop:app", "Doubles").out.startswith("flowchart LR\n")
    assert floxide("graph", "shop:Doubles", "--format", "dot", "--output", "graph.dot").out == ""
    assert (floxide.folder / "graph.dot").read_text().startswith("digraph")
    nowhere = floxide("graph", "shop:Doubles", "--output", "no/such/folder.dot")
    assert nowhere.code == 2
    assert "The graph cannot be written to no/such/folder.dot" in nowhere.words


# --- RabbitMQ


@pytest.fixture
def cluster(stored: Floxide, rabbitmq_url: str, namespace: str) -> Floxide:
    """The command with an application on RabbitMQ and an SQLite file."""
    stored.environment |= {"SHOP_BROKER": rabbitmq_url, "SHOP_NAMESPACE": namespace}
    return stored


@pytest.mark.rabbitmq
async def test_a_worker_does_what_another_process_starts_and_drains_at_sigterm(cluster: Floxide) -> None:
    worker = cluster.begin("worker", "shop:app", "--concurrency", "5", "--log-format", "json", "--name", "w1")
    await worker.until(worker.has_logged("worker.started"))
    done = await asyncio.to_thread(
        cluster.process, "start", "shop:app", "Doubles", "-i", "30", "--run-id", "d1", "--watch"
    )
    assert (done.code, done.out) == (0, "870\n")
    assert done.err.splitlines()[-1] == "Doubles d1  completed  32 done"

    here = str(cluster.folder)
    cluster.process("start", "shop:app", "Waiting", "-i", json.dumps(here), "--run-id", "w1")
    await worker.until((cluster.folder / "began").exists)
    worker.process.send_signal(signal.SIGTERM)
    await worker.until(worker.has_logged("process.stopping"))
    (cluster.folder / "go").touch()
    ended = await worker.end()
    assert ended.code == 0
    assert worker.has_logged("worker.stopped")()
    items = json.loads(cluster.process("items", "shop:app", "w1", "--json").out)
    assert [(item["node"], item["status"]) for item in items] == [("wait", "completed"), ("after", "pending")]


@pytest.mark.rabbitmq
async def test_cancel_reaches_a_step_in_another_process(cluster: Floxide) -> None:
    worker = cluster.begin("worker", "shop:app", "--log-format", "json")
    await worker.until(worker.has_logged("worker.started"))
    start = ("start", "shop:app", "Waiting", "-i", json.dumps(str(cluster.folder)), "--run-id", "w1", "--watch")
    watching = cluster.begin(*start)
    await worker.until((cluster.folder / "began").exists)
    leaving = cluster.begin(*start)
    await leaving.until(lambda: "Waiting w1" in leaving.path.read_text())
    leaving.process.send_signal(signal.SIGINT)
    left = await leaving.end()
    assert left.code == 130
    assert "Run 'w1' goes on without being watched" in left.words
    assert cluster.process("cancel", "shop:app", "w1", "--reason", "enough").out == "Run w1 is cancelled.\n"
    await worker.until((cluster.folder / "interrupted").exists)
    watched = await watching.end()
    assert watched.code == 1
    assert "Run 'w1' was cancelled (enough); it has no result." in watched.words
    worker.process.send_signal(signal.SIGINT)
    assert (await worker.end()).code == 0


@pytest.mark.rabbitmq
async def test_a_second_signal_ends_a_worker_at_once(cluster: Floxide) -> None:
    worker = cluster.begin("worker", "shop:app", "--log-format", "json")
    await worker.until(worker.has_logged("worker.started"))
    cluster.process("start", "shop:app", "Hanging", "-i", json.dumps(str(cluster.folder)), "--run-id", "h1")
    await worker.until((cluster.folder / "began").exists)
    worker.process.send_signal(signal.SIGTERM)
    await worker.until(worker.has_logged("process.stopping"))
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.end()).code == 143
    assert worker.has_logged("process.killed")()


@pytest.mark.rabbitmq
async def test_a_message_nobody_can_read_is_shown_in_the_quarantine(cluster: Floxide, namespace: str) -> None:
    worker = cluster.begin("worker", "shop:app", "--log-format", "json")
    await worker.until(worker.has_logged("worker.started"))
    async with AmqpWorkQueue(cluster.environment["SHOP_BROKER"], namespace=namespace) as queue:
        await queue.publish([Message(queue="default", body=b"\xffnonsense")])
    await worker.until(worker.has_logged("message.quarantined"))
    (found,) = json.loads(cluster.process("quarantine", "list", "shop:app", "--json").out)
    assert (found["queue"], found["bytes"]) == ("default", 9)
    assert "body" not in found
    assert datetime.fromisoformat(found["at"]).tzinfo is not None
    whole = json.loads(cluster.process("quarantine", "show", "shop:app", found["quarantine_id"], "--json").out)
    assert base64.b64decode(whole["body"], validate=True) == b"\xffnonsense"
    shown = cluster.process("quarantine", "show", "shop:app", found["quarantine_id"])
    assert "nonsense" in shown.out
    assert "reason" in shown.out
    missing = cluster.process("quarantine", "show", "shop:app", "nothing")
    assert missing.code == 4
    done = await asyncio.to_thread(cluster.process, "start", "shop:app", "Doubles", "-i", "2", "--watch")
    assert done.out == "2\n"
