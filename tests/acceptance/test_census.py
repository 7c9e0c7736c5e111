"""The demo as users run it: processes that are interrupted and killed, and a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.postgresql_servers import find_programs
from floxide_amqp.testing.redis_servers import find_program
from floxide_amqp.testing.services import URL_VARIABLE, find_scripts, has_container_engine

ROOT = Path(__file__).parents[2]
SLOTS = 16
SOME = 4
WAIT_SECONDS = 120

PACE_MS = 500
"""What each parse is made to take where something is to happen in the middle, so that the middle lasts for seconds."""

IMPATIENCE = """
import time
from pathlib import Path

GO = Path(__file__).with_name("go")
sleep = time.sleep


def sleep_until_go(seconds):
    until = time.monotonic() + seconds
    while seconds < 0.4 or not GO.exists():
        left = until - time.monotonic()
        if left <= 0:
            return
        sleep(left if seconds < 0.4 else min(left, 0.02))


time.sleep = sleep_until_go
"""
"""Imported by each process of a census at its start: its parses are no longer slow once there is a file ``go``."""

UNPARSABLE = {
    "bad/bytes.py": b"# \xff\xfe\nx = 1\n",
    "bad/null.py": b"x = '\0'\n",
    "bad/print.py": b"print 'two'\n",
    "bad/unended.py": b"def f(:\n",
}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """84 files, 7 of which cannot be parsed."""
    return make_sources(tmp_path)


def make_sources(place: Path) -> Path:
    folder = place / "sources"
    for package in ("alpha", "beta"):
        (folder / package).mkdir(parents=True)
        for number in range(38):
            other = f"from alpha import m{number // 2}\nimport beta.m0, os\n"
            body = "".join(f"def f{n}(x):\n    return x if x else {n}\n" for n in range(number))
            (folder / package / f"m{number}.py").write_text(other + body)
    (folder / "bad").mkdir()
    for name, source in UNPARSABLE.items():
        (folder / name).write_bytes(source)
    (folder / "bad" / "broken.py").symlink_to("nowhere.py")
    os.mkfifo(folder / "bad" / "pipe.py")
    (folder / "bad" / "folder.py").symlink_to("../alpha")
    (folder / "line\nend.py").write_text("x = 1\n")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a census in one process that nothing happened to."""
    place = tmp_path_factory.mktemp("whole")
    census(make_sources(place), place / "out")
    return place / "out"


FILES, FAILED = 84, 7


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOXIDE_")}
    return {**inherited, **more}


def impatience(output: Path) -> dict[str, str]:
    """Return what has the processes of a census read `IMPATIENCE`."""
    folder = output.with_name("impatience")
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(IMPATIENCE)
    return {"PYTHONPATH": str(folder)}


def let_go(output: Path) -> None:
    (output.with_name("impatience") / "go").touch()


def command(sources: Path, output: Path, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "examples.census", "--folder", str(sources), "--output", str(output), *arguments
    ]  # fmt: skip


def census(sources: Path, output: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    done = subprocess.run(
        command(sources, output, *arguments), cwd=ROOT, env=environment(**variables), capture_output=True, text=True,
        timeout=WAIT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def begin(sources: Path, output: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a census whose parses are slow until `let_go`."""
    return subprocess.Popen(
        command(sources, output, "--delay-ms", str(PACE_MS), *arguments), cwd=ROOT,
        env=environment(**variables, **impatience(output)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def cut_short(
    sources: Path, output: Path, number: signal.Signals, *arguments: str, **variables: str
) -> tuple[int, str]:
    """Start a slow census, send it a signal when some files are parsed, and return its exit code and output."""
    process = begin(sources, output, *arguments, **variables)
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(parsed(output).values()) < SOME:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    told, _ = process.communicate(timeout=WAIT_SECONDS)
    let_go(output)
    return process.returncode, told


def let_go_after(word: str, process: subprocess.Popen[str], output: Path) -> str:
    """Let a slow census go when it has said something, and return all it says; it must end well."""
    told = ""
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            told += line
            if word in line:
                let_go(output)
    assert process.returncode == 0, told
    return told


def parsed(output: Path) -> Counter[str]:
    side_file = output / "parsed.log"
    return Counter(side_file.read_text().split("\n")[:-1] if side_file.exists() else [])


def report_of(output: Path) -> bytes:
    return (output / "report.json").read_bytes()


def check(output: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "examples.census.check", str(output), *arguments], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=WAIT_SECONDS, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_every_file_that_find_finds_is_in_the_report_and_what_cannot_be_parsed_is_named(
    sources: Path, tmp_path: Path
) -> None:
    told = census(sources, tmp_path / "out")
    found = subprocess.check_output(["find", sources, "!", "-type", "d", "-name", "*.py", "-print0"]).count(b"\0")
    report = json.loads(report_of(tmp_path / "out"))
    assert found == FILES == report["totals"]["files"]
    assert {each["path"] for each in report["unreadable"]} == {
        *UNPARSABLE, "bad/broken.py", "bad/folder.py", "bad/pipe.py"
    }  # fmt: skip
    assert report["hubs"][0]["module"] == "beta.m0"
    assert f"files found: {FILES} · parsed: {FILES - FAILED} · failed: {FAILED} · parsed twice: 0 · missing: 0" in told
    assert str(tmp_path) not in report_of(tmp_path / "out").decode()
    assert (tmp_path / "out" / "workflow.dot").read_text().startswith("digraph")
    assert (tmp_path / "out" / "workflow.mmd").read_text().startswith("flowchart")
    assert check(tmp_path / "out")[0] == 0


def test_the_next_census_of_the_same_files_is_a_new_run_with_the_same_report(sources: Path, tmp_path: Path) -> None:
    census(sources, tmp_path / "out")
    first = report_of(tmp_path / "out")
    again = census(sources, tmp_path / "out")
    assert "-2: 84 files" in again
    assert report_of(tmp_path / "out") == first
    assert set(parsed(tmp_path / "out").values()) == {1}


def test_ctrl_c_ends_in_good_order_and_the_same_command_goes_on(sources: Path, tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "out"
    code, told = cut_short(sources, out, signal.SIGINT)
    assert code == 130
    assert "files are done and stored" in told
    assert "Run the same command again to go on where it was." in told
    assert sum(parsed(out).values()) < FILES
    assert not (out / "report.json").exists()
    resumed = census(sources, out, **impatience(out))
    assert "Going on with run" in resumed
    assert "missing: 0" in resumed
    assert sum(1 for count in parsed(out).values() if count > 1) <= SLOTS
    assert check(out)[0] == 0
    assert report_of(out) == report_of(whole)


def test_a_killed_census_goes_on_at_once(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _ = cut_short(sources, out, signal.SIGKILL)
    assert code == -signal.SIGKILL
    resumed = census(sources, out, **impatience(out))
    assert "Going on with run" in resumed
    assert "missing: 0" in resumed
    assert sum(1 for count in parsed(out).values() if count > 1) <= SLOTS
    assert check(out)[0] == 0


def test_fresh_gives_an_interrupted_run_up_and_starts_anew(sources: Path, tmp_path: Path) -> None:
    cut_short(sources, tmp_path / "out", signal.SIGKILL)
    told = census(sources, tmp_path / "out", "--fresh")
    assert "-2: 84 files" in told
    assert set(parsed(tmp_path / "out").values()) == {1}


def test_a_census_of_other_files_gives_the_interrupted_one_up(sources: Path, tmp_path: Path) -> None:
    cut_short(sources, tmp_path / "out", signal.SIGKILL)
    (sources / "new.py").write_text("x = 1\n")
    told = census(sources, tmp_path / "out")
    assert f"{FILES + 1} files in" in told
    assert set(parsed(tmp_path / "out").values()) == {1}
    assert check(tmp_path / "out")[0] == 0


def test_two_censuses_do_not_share_an_output_folder(sources: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(sources, tmp_path / "out", "--delay-ms", "600000"), cwd=ROOT, env=environment(),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not (tmp_path / "out" / "started.log").exists():
            assert process.poll() is None
            time.sleep(0.01)
        assert "Another census is at work" in census(sources, tmp_path / "out", code=1)
    finally:
        process.kill()
        process.wait()


def test_the_checker_notices_what_is_missing_or_changed(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    census(sources, out)
    (sources / "unseen.py").touch()
    code, told = check(out)
    assert code == 1
    assert "unseen.py" in told
    (sources / "unseen.py").unlink()
    assert check(out)[0] == 0
    (out / "report.json").write_bytes(report_of(out).replace(b'"files": 84', b'"files": 85'))
    code, told = check(out, "--compare", str(out / "report.txt"))
    assert code == 1
    assert told.count("VIOLATED") == 2


def test_a_cluster_that_loses_a_worker_reports_the_same_as_one_process(
    sources: Path, tmp_path: Path, whole: Path, rabbitmq_url: str, namespace: str
) -> None:
    out = tmp_path / "cluster"
    begun = begin(
        sources, out, "--cluster", "--compare", str(whole / "report.json"), FLOXIDE_BROKER=rabbitmq_url,
        FLOXIDE_NAMESPACE=namespace,
    )  # fmt: skip
    told = let_go_after("Killed worker", begun, out)
    assert told.count("(SIGKILL)") == 1
    assert "byte-identical" in told
    assert "VIOLATED" not in told
    note = json.loads((out / "census.json").read_text())
    assert [len(held) > 0 for held in note["killed"].values()] == [True]
    assert check(out)[0] == 0


def test_a_cluster_survives_ctrl_c(sources: Path, tmp_path: Path, rabbitmq_url: str, namespace: str) -> None:
    out = tmp_path / "cluster"
    variables = {"FLOXIDE_BROKER": rabbitmq_url, "FLOXIDE_NAMESPACE": namespace}
    code, told = cut_short(sources, out, signal.SIGINT, "--cluster", "--workers", "1", **variables)
    assert code == 130, told
    told = census(sources, out, "--cluster", "--workers", "1", **variables, **impatience(out))
    assert "missing: 0" in told
    assert "VIOLATED" not in told


@pytest.mark.long  # 20 s, and a minute more where the broker lost its queue with its life
def test_a_cluster_whose_broker_is_killed_as_well_reports_the_same(sources: Path, tmp_path: Path, whole: Path) -> None:
    try:
        has_container_engine() or find_scripts()
    except ConfigurationError as error:
        pytest.skip(f"needs a RabbitMQ that may be killed: {error}")
    out = tmp_path / "cluster"
    begun = begin(
        sources, out, "--cluster", "--kill-broker", "--delay-ms", "2000", "--compare", str(whole / "report.json")
    )
    told = let_go_after("RabbitMQ runs again", begun, out)
    assert "Killed RabbitMQ" in told
    assert "RabbitMQ runs again" in told
    assert "byte-identical" in told
    assert "VIOLATED" not in told


FINDERS: dict[str, Callable[[], object]] = {"PostgreSQL": find_programs, "Redis": find_program}


@pytest.mark.long
@pytest.mark.fault(25)
@pytest.mark.parametrize("server", FINDERS)
def test_a_cluster_whose_store_is_killed_as_well_reports_the_same(
    sources: Path, tmp_path: Path, whole: Path, rabbitmq_url: str, namespace: str, server: str
) -> None:
    try:
        has_container_engine() or FINDERS[server]()
    except ConfigurationError as error:
        pytest.skip(f"needs a {server} that may be killed: {error}")
    out = tmp_path / "cluster"
    begun = begin(
        sources, out, "--cluster", "--store", server.lower(), "--compare", str(whole / "report.json"),
        FLOXIDE_BROKER=rabbitmq_url, FLOXIDE_NAMESPACE=namespace,
    )  # fmt: skip
    told = let_go_after(f"{server} runs again", begun, out)
    assert told.count("Killed worker") == 1
    assert f"Killed {server} (SIGKILL)" in told
    assert f"{server} runs again" in told
    assert "byte-identical" in told
    assert "VIOLATED" not in told
    assert report_of(out) == report_of(whole)
    assert not (out / "census.db").exists()


def test_a_store_that_is_not_ours_is_not_killed(sources: Path, tmp_path: Path) -> None:
    told = census(
        sources, tmp_path / "out", "--cluster", "--store", "redis", code=1, FLOXIDE_STORE="redis://localhost/0",
        FLOXIDE_BROKER="amqp://guest:guest@localhost/",
    )  # fmt: skip
    assert told.strip() == "The store named by FLOXIDE_STORE is not ours to kill; unset the variable."


def test_one_process_is_given_no_server_for_its_store(sources: Path, tmp_path: Path) -> None:
    assert "--store is for --cluster" in census(sources, tmp_path / "out", "--store", "redis", code=2)


def test_a_broker_that_is_not_ours_is_not_killed(sources: Path, tmp_path: Path) -> None:
    told = census(
        sources, tmp_path / "out", "--cluster", "--kill-broker", code=1, FLOXIDE_BROKER="amqp://guest:guest@localhost/"
    )
    assert told.strip() == "The broker named by FLOXIDE_BROKER is not ours to kill; unset the variable."


def test_workers_elsewhere_need_a_broker_with_a_name(sources: Path, tmp_path: Path) -> None:
    told = census(sources, tmp_path / "out", "--cluster", "--workers", "0", code=1)
    assert "name their broker in FLOXIDE_BROKER" in told
    assert URL_VARIABLE not in told
