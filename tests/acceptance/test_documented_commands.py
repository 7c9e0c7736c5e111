"""The files and commands of README.md and docs/cli.md, followed to the letter in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CLI = ROOT / "docs" / "cli.md"

FILE = re.compile(r"^```python(?: notest)?\n# (?P<name>\w+\.py)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ (?P<command>[^#\n]*).*\n(?P<output>(?:^[^$].*\n)*)", re.MULTILINE)
BROKER = '"amqp://guest:guest@localhost/"'


def write_files(folder: Path, broker: str) -> None:
    """Write the files that the README shows, with another broker in place of the one on port 5672."""
    text = README.read_text(encoding="utf-8")
    files = {found["name"]: found["text"] for found in FILE.finditer(text)}
    assert set(files) == {"orders.py", "shop.py", "client.py"}
    assert BROKER in files["shop.py"]
    for name, content in files.items():
        (folder / name).write_text(content.replace(BROKER, broker))


def steps(page: Path) -> list[tuple[str, str]]:
    """Return the commands that use those files, with the output the page promises."""
    blocks = [found["text"] for found in CONSOLE.finditer(page.read_text(encoding="utf-8"))]
    ours = [block for block in blocks if "shop:app " in block or "shop:app\n" in block or "orders.py" in block]
    return [(step["command"].strip(), step["output"]) for block in ours for step in STEP.finditer(block)]


def environment() -> dict[str, str]:
    """Return one in which `floxide` and `python` are those of this interpreter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOXIDE_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@contextmanager
def background(command: str, folder: Path) -> Iterator[None]:
    """Run a worker beside what follows; it must drain at SIGTERM."""
    log = (folder / "worker.log").open("wb")
    with log, subprocess.Popen(command.split(), cwd=folder, env=environment(), stderr=log) as worker:
        try:
            yield
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(120) == 0, (folder / "worker.log").read_text()
        finally:
            worker.kill()


def follow(page: Path, folder: Path, *, skip: str = "never") -> None:
    """Run every command of a page and compare what it prints with what the page says."""
    for command, promised in steps(page):
        if command.startswith(skip):
            continue
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert promised in done.stdout, (command, done.stdout)


@pytest.mark.parametrize("page", [README, CLI], ids=lambda page: page.name)
def test_every_command_is_there(page: Path) -> None:
    commands = [command for command, _ in steps(page)]
    for wanted in ("floxide worker shop:app", "floxide start shop:app", "floxide status shop:app", "echo"):
        assert any(command.startswith(wanted) for command in commands), wanted


@pytest.mark.parametrize("page", [README, CLI], ids=lambda page: page.name)
def test_the_commands_of_a_page_work_without_a_broker(page: Path, tmp_path: Path) -> None:
    write_files(tmp_path, "None")
    follow(page, tmp_path, skip="floxide worker")


@pytest.mark.parametrize("page", [README, CLI], ids=lambda page: page.name)
def test_the_commands_of_a_page_work_on_rabbitmq(page: Path, tmp_path: Path, rabbitmq_url: str, namespace: str) -> None:
    write_files(tmp_path, f'"{rabbitmq_url}", namespace="{namespace}"')
    (worker,) = [command for command, _ in steps(page) if command.startswith("floxide worker")]
    with background(worker, tmp_path):
        follow(page, tmp_path, skip=worker)
