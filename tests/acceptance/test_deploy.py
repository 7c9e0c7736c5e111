"""What deploy/ says works: the commands of the compose file, run here as processes, and what the image is built from.

`make deploy-demo` runs the same in containers.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from floxide_amqp.testing.amqp_handshake import free_ports

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    if line and not line.startswith("#")
]
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "floxide-amqp:local"}
HEALTH = "127.0.0.1:8080"
WAIT_SECONDS = 120

FILES = 12


def entry_point() -> list[str]:
    """Return what the image runs if a service does not say otherwise."""
    [entry] = [json.loads(what) for word, what in INSTRUCTIONS if word == "ENTRYPOINT"]
    return list(entry)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What the volume is to the containers."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"m{number}.py").write_text(f"import m{number // 2}\n" + "def f(): pass\n" * number)
    return folder


@pytest.fixture
def start(data: Path, rabbitmq_url: str, namespace: str) -> Iterator[Callable[[str, list[str]], subprocess.Popen[str]]]:
    """Start the command of a service as a process, with the paths and the broker of this test."""
    begun: list[subprocess.Popen[str]] = []

    def start(name: str, command: list[str]) -> subprocess.Popen[str]:
        service = OURS[name]
        [volume] = service["volumes"]
        assert volume == "state:/data"
        variables = {key: value.replace("/data", str(data)) for key, value in service["environment"].items()}
        assert variables.keys() == {"FLOXIDE_BROKER", "FLOXIDE_STORE"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FLOXIDE_")}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = {
            **inherited, **variables, "PATH": path, "PYTHONPATH": str(ROOT), "FLOXIDE_BROKER": rabbitmq_url,
            "FLOXIDE_NAMESPACE": namespace,
        }  # fmt: skip
        # Containers have a network each; processes share one, so each gets a port of its own.
        command = [each.replace("/data", str(data)).replace(HEALTH, "127.0.0.1:0") for each in command]
        whole = [*service.get("entrypoint", entry_point()), *command]
        process = subprocess.Popen(
            whole, cwd=data, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end_of(process: subprocess.Popen[str]) -> str:
    """Wait for a process that ends well, and return what it said."""
    told, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, told
    return told


def wait_until_started(worker: subprocess.Popen[str]) -> None:
    """Read what a worker says until it takes messages; told to stop before, it would just end."""
    assert worker.stdout is not None
    told = ""
    while "worker.started" not in told:
        line = worker.stdout.readline()
        assert line, told
        told += line


def test_the_commands_of_the_compose_file_write_the_report_of_one_process(
    start: Callable[[str, list[str]], subprocess.Popen[str]], data: Path, sources: Path
) -> None:
    assert OURS.keys() == {"worker", "census"}
    folder = ["--folder", str(sources)]
    end_of(start("census", ["--output", "/data/census-output", *folder]))
    workers = [start("worker", OURS["worker"]["command"]) for _ in range(OURS["worker"]["deploy"]["replicas"])]
    assert len(workers) == 3
    for worker in workers:
        wait_until_started(worker)
    told = end_of(start("census", [*OURS["census"]["command"], *folder]))
    for worker in workers:
        assert worker.poll() is None, worker.communicate()
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        end_of(worker)
    assert "byte-identical" in told
    assert "VIOLATED" not in told
    reports = [data / "census-output" / "report.json", data / "census-output" / "cluster" / "report.json"]
    assert reports[0].read_bytes() == reports[1].read_bytes()
    assert json.loads(reports[1].read_bytes())["totals"]["files"] == FILES
    assert (data / "census.db").exists()


def test_a_worker_s_container_is_asked_for_its_health_where_it_serves_it(
    start: Callable[[str, list[str]], subprocess.Popen[str]],
) -> None:
    worker = OURS["worker"]
    assert worker["command"][-2:] == ["--http", HEALTH]
    (port,) = free_ports(1)
    ask, *words = worker["healthcheck"]["test"]
    assert (ask, words[0]) == ("CMD", "python")
    check = [sys.executable, *(word.replace(HEALTH, f"127.0.0.1:{port}") for word in words[1:])]
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
    process = start("worker", [*worker["command"][:-1], f"127.0.0.1:{port}"])
    until = time.monotonic() + WAIT_SECONDS
    while subprocess.run(check, capture_output=True, check=False).returncode != 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    end_of(process)


def test_the_services_wait_for_a_healthy_broker_at_the_address_they_are_given() -> None:
    assert "healthcheck" in COMPOSE["services"]["rabbitmq"]
    for service in OURS.values():
        assert service["depends_on"]["rabbitmq"]["condition"] == "service_healthy"
        assert "@rabbitmq:5672/" in service["environment"]["FLOXIDE_BROKER"]


def test_the_image_is_built_from_files_that_exist_and_are_let_in() -> None:
    build = OURS["worker"]["build"]
    assert (ROOT / "deploy" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = [shlex.split(what) for word, what in INSTRUCTIONS if word == "COPY" and "--from" not in what]
    sources = {source for *each, _ in copies for source in each}
    assert sources == let_in
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_knows_the_build_arguments_of_the_compose_file() -> None:
    arguments = dict(what.partition("=")[::2] for word, what in INSTRUCTIONS if word == "ARG")
    assert OURS["worker"]["build"]["args"].keys() == arguments.keys()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"http"} <= set(arguments["EXTRAS"].split(",")) <= extras.keys()  # its workers serve /livez


def test_the_entry_point_of_the_image_is_a_command_of_the_package() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts[entry_point()[0]].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
