"""The launchers, each kind of server from each provider: what lasts, what ends with whom, what is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import private_postgresql, private_rabbitmq, services
from floxide_amqp.testing.amqp_handshake import SERVER_PORTS
from floxide_amqp.testing.container_keeper import engine_client
from floxide_amqp.testing.services import PrivatePostgreSQL, PrivateRabbitMQ, PrivateRedis, has_container_engine
from tests.integration.server_kinds import KINDS, Provider, ServerKind, named

pytestmark = pytest.mark.xdist_group("launchers")

Launched = tuple[ServerKind, Any]

LAUNCHER = """
import sys
from floxide_amqp.testing import services
server = getattr(services, sys.argv[1])(lives_with=int(sys.argv[2]) or None)
server.start()
print(server.url, flush=True)
sys.stdin.read()
"""

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=named)
over_own_providers = pytest.mark.parametrize("provider", ["Container", "Private"])


def every(*providers: Provider) -> list[Any]:
    return [pytest.param((kind, provider), id=f"{kind.name}-{provider}") for kind in KINDS for provider in providers]


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[ServerKind, Provider], Any]]:
    """What hands out running servers; each is launched once."""
    with ExitStack() as stack:
        yield cache(lambda kind, provider: stack.enter_context(kind.opened(provider)))


@pytest.fixture(params=every("External", "Container", "Private"))
def any_server(request: pytest.FixtureRequest, servers: Callable[[ServerKind, Provider], Any]) -> Launched:
    kind, provider = request.param
    server = servers(kind, provider)
    server.start()
    return kind, server


@pytest.fixture(params=every("Container", "Private"))
def own(request: pytest.FixtureRequest, servers: Callable[[ServerKind, Provider], Any]) -> Launched:
    """A running server that may be mistreated."""
    kind, provider = request.param
    server = servers(kind, provider)
    server.start()
    return kind, server


def test_a_server_has_a_place_for_each_test(any_server: Launched) -> None:
    kind, server = any_server
    assert server.url.startswith(f"{kind.scheme}://")
    assert kind.answers(server.url)
    one, other = kind.new_place(server), kind.new_place(server)
    kind.leave(server, one, "here")
    assert kind.find(server, one) == "here"
    assert kind.find(server, other) is None


def test_a_restart_and_a_kill_keep_the_data_and_a_wipe_only_the_url(own: Launched) -> None:
    kind, server = own
    url, place = server.url, kind.new_place(server)
    kind.leave(server, place, "kept")
    server.restart()
    assert kind.find(server, place) == "kept"
    server.kill()
    assert not kind.answers(url)
    server.start()
    assert kind.find(server, place) == "kept"
    server.wipe()
    assert server.url == url
    assert kind.answers(url)
    assert kind.find(server, place) is None


def test_stopping_killing_and_starting_twice_is_fine(own: Launched) -> None:
    kind, server = own
    server.stop()
    server.stop()
    server.kill()
    assert not kind.answers(server.url)
    server.wipe()
    assert not kind.answers(server.url)
    server.start()
    server.start()
    assert kind.answers(server.url)


def test_a_paused_server_answers_once_it_goes_on(own: Launched) -> None:
    kind, server = own
    with ThreadPoolExecutor(1) as pool:
        server.pause()
        server.pause()
        answer = pool.submit(kind.answers, server.url)
        answered, _ = wait([answer], timeout=0.3)
        server.resume()
        server.resume()
        assert not answered
        assert answer.result(timeout=90)


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_paused_server_can_be_ended_all_the_same(own: Launched, how: str) -> None:
    kind, server = own
    server.pause()
    getattr(server, how)()
    assert kind.answers(server.url) == (how == "restart")
    server.start()
    assert kind.answers(server.url)


def test_a_stopped_server_cannot_be_paused_and_nobody_minds(own: Launched) -> None:
    kind, server = own
    server.stop()
    server.pause()
    server.resume()
    server.start()
    assert kind.answers(server.url)


@over_kinds
@over_own_providers
def test_a_server_ends_with_the_process_that_launched_it_even_if_that_is_killed(
    kind: ServerKind, provider: Provider
) -> None:
    process, url = start_launcher(kind, provider, lives_with=0)
    end(process)
    wait_until(lambda: not kind.answers(url))
    wait_until(lambda: not containers_at(url))


@over_kinds
@over_own_providers
def test_a_server_may_live_with_another_process_instead(kind: ServerKind, provider: Provider) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    try:
        process, url = start_launcher(kind, provider, lives_with=other.pid)
        end(process)
        assert kind.answers(url)
    finally:
        other.communicate("\n")
    wait_until(lambda: not kind.answers(url))
    wait_until(lambda: not containers_at(url))


# Each signal, and each kind of server; RabbitMQ takes longest, and dies with whoever is given no time to end it.
@pytest.mark.parametrize(
    ("kind", "how"),
    [(KINDS[0], signal.SIGKILL), (KINDS[1], signal.SIGTERM)]
    + [(KINDS[2], how) for how in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)],
    ids=lambda each: each.name if isinstance(each, signal.Signals) else named(each),
)
def test_what_the_command_line_launched_ends_with_it(kind: ServerKind, how: signal.Signals) -> None:
    environment = {name: value for name, value in os.environ.items() if name != kind.variable}
    command = [sys.executable, "-m", "floxide_amqp.testing.services", kind.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert url.startswith(f"{kind.scheme}://")
        assert kind.answers(url)
        child.send_signal(how)
        assert child.wait(120) == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    wait_until(lambda: not kind.answers(url))


@over_kinds
def test_the_server_the_environment_names_is_used_and_left_as_it_was(
    kind: ServerKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind.opened("Private") as theirs:
        kept = kind.new_place(theirs)
        kind.leave(theirs, kept, "theirs")
        monkeypatch.setenv(kind.variable, theirs.url)
        server = kind.launch()
        assert (server.url, server.is_mine) == (theirs.url, False)
        for refused in (server.stop, server.kill, server.restart, server.wipe, server.pause, server.resume):
            with pytest.raises(ConfigurationError, match="is not ours to stop or change"):
                refused()
        place = kind.new_place(server)
        kind.leave(server, place, "ours")
        server.close()
        assert kind.answers(theirs.url)
        assert kind.find(theirs, kept) == "theirs"
        if kind.name == "postgresql":
            assert not kind.answers(place)


def test_a_server_the_environment_names_is_not_administered() -> None:
    broker = services.ExternalRabbitMQ("amqp://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match="is not ours to stop or change"):
        broker.ctl("list_vhosts")


@over_kinds
def test_a_server_the_environment_names_must_answer(kind: ServerKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kind.variable, kind.nobody)
    with pytest.raises(ConfigurationError, match=f"answers at the URL in {kind.variable}") as caught:
        kind.launch()
    assert "secret" not in str(caught.value)


@over_kinds
def test_where_nothing_can_be_launched_the_error_has_the_one_command(
    kind: ServerKind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for other in KINDS:
        monkeypatch.setenv(other.variable, other.nobody)
    monkeypatch.delenv(kind.variable)
    monkeypatch.setattr(private_rabbitmq, "_SERVER_FOLDERS", ())
    monkeypatch.setattr(private_postgresql, "_FOLDERS", ())
    monkeypatch.setattr(services, "has_container_engine", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    for launch in (kind.launch, services.install_missing, kind.classes["Private"]):
        with pytest.raises(ConfigurationError, match=rf"Run `.* install ({kind.package})`"):
            launch()


@pytest.mark.parametrize(
    ("kind", "configuration", "words"),
    [
        (PrivateRabbitMQ, "no_such_setting = 1", "failed_to_prepare_configuration"),
        (PrivatePostgreSQL, "no_such_setting = 1", "no_such_setting"),
        (PrivateRedis, "no_such_setting 1", "no_such_setting"),
    ],
)
def test_a_private_server_that_cannot_start_shows_its_log(kind: Any, configuration: str, words: str) -> None:
    server = kind(configuration=configuration)
    try:
        with pytest.raises(ConfigurationError, match=words):
            server.start()
    finally:
        server.close()


@over_kinds
def test_a_private_server_has_a_port_that_the_system_gives_to_no_client_meanwhile(kind: ServerKind) -> None:
    with closing(kind.classes["Private"]()) as server:
        assert urlsplit(server.url).port in SERVER_PORTS


def test_logging_in_with_a_wrong_password_or_virtual_host_fails(own_rabbitmq: services.RabbitMQ) -> None:
    (rabbitmq, _, _) = KINDS
    assert not rabbitmq.answers(own_rabbitmq.url.replace("guest:guest", "guest:wrong"))
    assert not rabbitmq.answers(own_rabbitmq.url + "nowhere")
    own_rabbitmq.ctl("add_vhost", "somewhere")
    own_rabbitmq.ctl("set_permissions", "--vhost", "somewhere", "guest", ".*", ".*", ".*")
    assert rabbitmq.answers(own_rabbitmq.url + "somewhere")


def test_the_command_line_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert services.main(["nonsense"]) == 2
    assert "usage:" in capsys.readouterr().err


def start_launcher(kind: ServerKind, provider: Provider, *, lives_with: int) -> tuple[subprocess.Popen[str], str]:
    """Have another process launch a server; return it and the server's URL."""
    if provider == "Container" and not has_container_engine():
        pytest.skip("no container engine answers")
    name = kind.classes[provider].__name__
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, name, str(lives_with)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert kind.answers(url)
    assert len(containers_at(url)) == (1 if provider == "Container" else 0)
    return process, url


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def containers_at(url: str) -> list[str]:
    """Return the containers that a server's port belongs to, running or not."""
    if not has_container_engine():
        return []
    port = url.rpartition(":")[2].partition("/")[0]
    with closing(engine_client()) as engine:
        return [found.id for found in engine.containers.list(all=True, filters={"publish": port})]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
