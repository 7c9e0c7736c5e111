"""The order in which a server is looked for: named, in a container, installed here, installed now."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import services


@dataclass(frozen=True)
class Kind:
    """One kind of server, and the names that `services` knows its parts by."""

    name: str
    variable: str
    find: str
    package: str

    @property
    def launch(self) -> Callable[..., Any]:
        launch: Callable[..., Any] = getattr(services, f"launch_{self.name.lower()}")
        return launch

    @property
    def launch_own(self) -> Callable[..., Any]:
        launch: Callable[..., Any] = getattr(services, f"launch_own_{self.name.lower()}")
        return launch


KINDS = (
    Kind("RabbitMQ", "FLOXIDE_TEST_AMQP_URL", "find_scripts", "rabbitmq-server"),
    Kind("PostgreSQL", "FLOXIDE_TEST_POSTGRESQL_URL", "find_programs", "postgresql"),
    Kind("Redis", "FLOXIDE_TEST_REDIS_URL", "find_program", "redis-server"),
)


class Machine:
    """What there is to launch a server with, as a test says; notes what is done."""

    def __init__(self, kind: Kind, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.kind = kind
        self.events: list[str] = []
        self.has_engine = self.is_installed = self.is_root = self.has_apt = True
        self.apt_code = 0
        for other in KINDS:
            monkeypatch.delenv(other.variable, raising=False)
        for provider in ("External", "Container", "Private"):
            monkeypatch.setattr(services, f"{provider}{kind.name}", self._launcher(provider))
        monkeypatch.setattr(services, kind.find, self._find)
        monkeypatch.setattr(services, "has_container_engine", lambda: self.has_engine)
        monkeypatch.setattr(os, "geteuid", lambda: 0 if self.is_root else 1000)
        monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/apt-get" if self.has_apt else None)
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))

    def _launcher(self, provider: str) -> Callable[..., Any]:
        events = self.events

        class Server:
            def __init__(self, *url: str, **options: Any) -> None:
                events.append(" ".join([provider, *url, *(f"{name}={value}" for name, value in options.items())]))

            def start(self) -> None:
                events.append("started")

        return Server

    def _find(self) -> None:
        if not self.is_installed:
            raise ConfigurationError("There is none.")

    def _run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert options["stdout"] == 2, "standard output has the URL alone"
        self.events.append(" ".join(command))
        self.is_installed = self.apt_code == 0
        return subprocess.CompletedProcess(command, self.apt_code)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(request.param, monkeypatch, tmp_path)


def test_what_the_environment_names_comes_before_everything(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.kind.variable, "somewhere")
    machine.kind.launch(lives_with=7)
    assert machine.events == ["External somewhere", "started"]


def test_a_server_to_be_mistreated_is_never_the_one_the_environment_names(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(machine.kind.variable, "somewhere")
    machine.kind.launch_own(lives_with=7)
    assert machine.events == ["Container lives_with=7", "started"]


def test_an_empty_variable_names_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.kind.variable, "")
    machine.kind.launch()
    assert machine.events == ["Container lives_with=None", "started"]


def test_a_container_comes_before_what_is_installed(machine: Machine) -> None:
    machine.kind.launch(lives_with=7)
    assert machine.events == ["Container lives_with=7", "started"]


def test_what_is_installed_comes_before_installing(machine: Machine) -> None:
    machine.has_engine = False
    machine.kind.launch(lives_with=7)
    assert machine.events == ["Private lives_with=7", "started"]


@pytest.mark.parametrize("how", ["launch", "launch_own"])
def test_root_on_debian_installs_the_package_of_that_server_alone(
    machine: Machine, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.has_engine = machine.is_installed = False
    getattr(machine.kind, how)(lives_with=7)
    install = f"apt-get install --yes --no-install-recommends {machine.kind.package}"
    assert machine.events == ["apt-get update --quiet", install, "Private lives_with=7", "started"]
    printed = capsys.readouterr()
    assert (printed.out, install in printed.err) == ("", True)


@pytest.mark.parametrize("lacking", ["is_root", "has_apt"])
def test_nobody_else_installs_anything(machine: Machine, lacking: str) -> None:
    machine.has_engine = machine.is_installed = False
    setattr(machine, lacking, False)
    with pytest.raises(ConfigurationError, match=r"There is none\."):
        machine.kind.launch()
    assert machine.events == []


def test_an_installation_that_fails_is_told(machine: Machine) -> None:
    machine.has_engine = machine.is_installed = False
    machine.apt_code = 100
    with pytest.raises(ConfigurationError, match=r"`apt-get update --quiet` failed with the exit code 100\."):
        machine.kind.launch()
    assert machine.events == ["apt-get update --quiet"]


def test_what_another_process_installed_meanwhile_is_not_installed_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has_engine = machine.is_installed = False
    monkeypatch.setattr(fcntl, "flock", lambda *_: setattr(machine, "is_installed", True))
    machine.kind.launch()
    assert machine.events == ["Private lives_with=None", "started"]


def test_nothing_is_installed_where_a_server_is_named_or_an_engine_answers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.is_installed = False
    services.install_missing()
    machine.has_engine = False
    for kind in KINDS:
        monkeypatch.setenv(kind.variable, "somewhere")
    services.install_missing()
    assert machine.events == []


def test_what_is_missing_is_installed_when_that_is_asked_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has_engine = machine.is_installed = False
    for kind in KINDS:
        if kind is not machine.kind:
            monkeypatch.setenv(kind.variable, "somewhere")
    services.install_missing()
    assert machine.events[1:] == [f"apt-get install --yes --no-install-recommends {machine.kind.package}"]
