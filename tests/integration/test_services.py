"""The launcher: what is left when its process dies, what a restart keeps, what the command line prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import rabbitmq_servers, services
from floxide_amqp.testing.amqp_handshake import can_log_in
from floxide_amqp.testing.services import PrivateRabbitMQ, RabbitMQ

pytestmark = [pytest.mark.xdist_group("own_rabbitmq"), pytest.mark.timeout(180)]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != services.URL_VARIABLE}
    with subprocess.Popen(
        [sys.executable, "-m", "floxide_amqp.testing.services", "rabbitmq"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        yield child
        child.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_broker_ends_with_the_process_that_launched_it(child: subprocess.Popen[str], how: signal.Signals) -> None:
    assert child.stdout is not None
    url = child.stdout.readline().strip()
    assert url.startswith("amqp://")
    assert can_log_in(url)
    child.send_signal(how)
    code = child.wait(30)
    assert code == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    wait_until(lambda: not can_log_in(url))


def test_a_restart_keeps_the_data_and_the_url_and_a_wipe_only_the_url(own_rabbitmq: RabbitMQ) -> None:
    url = own_rabbitmq.url
    own_rabbitmq.ctl("add_vhost", "kept")
    own_rabbitmq.restart()
    assert can_log_in(url)
    assert "kept" in own_rabbitmq.ctl("list_vhosts")
    own_rabbitmq.wipe()
    assert own_rabbitmq.url == url
    assert can_log_in(url)
    assert "kept" not in own_rabbitmq.ctl("list_vhosts")


def test_stopping_and_killing_twice_is_fine(own_rabbitmq: RabbitMQ) -> None:
    own_rabbitmq.stop()
    own_rabbitmq.stop()
    own_rabbitmq.kill()
    assert not can_log_in(own_rabbitmq.url)
    own_rabbitmq.start()
    own_rabbitmq.start()
    assert can_log_in(own_rabbitmq.url)


def test_logging_in_with_a_wrong_password_or_virtual_host_fails(own_rabbitmq: RabbitMQ) -> None:
    assert not can_log_in(own_rabbitmq.url.replace("guest:guest", "guest:wrong"))
    assert not can_log_in(own_rabbitmq.url + "nowhere")


def test_the_broker_the_environment_names_comes_first(own_rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(services.URL_VARIABLE, own_rabbitmq.url)
    broker = services.launch_rabbitmq()
    assert broker.url == own_rabbitmq.url
    assert not broker.is_mine
    with pytest.raises(ConfigurationError, match="is not ours to stop"):
        broker.kill()
    broker.close()
    assert can_log_in(own_rabbitmq.url)


def test_a_broker_the_environment_names_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(services.URL_VARIABLE, "amqp://guest:secret@127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match=services.URL_VARIABLE) as caught:
        services.launch_rabbitmq()
    assert "secret" not in str(caught.value)


def test_where_nothing_can_be_launched_the_error_has_the_one_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(services.URL_VARIABLE, raising=False)
    monkeypatch.setattr(rabbitmq_servers, "_SERVER_FOLDERS", ())
    monkeypatch.setattr(services, "has_container_engine", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    for launch in (services.launch_rabbitmq, services.install_missing, PrivateRabbitMQ):
        with pytest.raises(ConfigurationError, match=r"Run `.* install .*rabbitmq.*`"):
            launch()


def test_nothing_is_installed_where_a_broker_can_be_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(services.URL_VARIABLE, raising=False)
    monkeypatch.setattr(services, "subprocess", None)
    services.install_missing()


def test_the_command_line_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert services.main(["nonsense"]) == 2
    assert "usage:" in capsys.readouterr().err


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
