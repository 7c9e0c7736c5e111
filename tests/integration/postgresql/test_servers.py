"""The launcher: what is left when its process dies, what a restart keeps, what the command line prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import postgresql_servers, private_postgresql, services
from floxide_amqp.testing.postgresql_servers import PostgreSQL, can_log_in, execute

pytestmark = [pytest.mark.xdist_group("own_postgresql"), pytest.mark.timeout(90)]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_a_server_ends_with_the_process_that_launched_it(how: signal.Signals) -> None:
    variable = postgresql_servers.URL_VARIABLE
    environment = {name: value for name, value in os.environ.items() if name != variable}
    command = [sys.executable, "-m", "floxide_amqp.testing.services", "postgresql"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert url.startswith("postgresql://")
        assert can_log_in(url)
        child.send_signal(how)
        assert child.wait(30) == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    wait_until(lambda: not can_log_in(url))


def test_a_kill_and_a_restart_keep_the_data_and_the_url_and_a_wipe_only_the_url(own_postgresql: PostgreSQL) -> None:
    url = own_postgresql.url
    database = own_postgresql.new_database()
    execute(database, "CREATE TABLE kept AS SELECT 7 AS n")
    own_postgresql.kill()
    assert not can_log_in(url)
    own_postgresql.start()
    own_postgresql.restart()
    assert [row["n"] for row in execute(database, "SELECT n FROM kept")] == [7]
    own_postgresql.wipe()
    assert own_postgresql.url == url
    assert can_log_in(url)
    assert not can_log_in(database)


def test_stopping_and_killing_twice_is_fine(own_postgresql: PostgreSQL) -> None:
    own_postgresql.stop()
    own_postgresql.stop()
    own_postgresql.kill()
    assert not can_log_in(own_postgresql.url)
    own_postgresql.start()
    own_postgresql.start()
    assert can_log_in(own_postgresql.url)


def test_the_server_the_environment_names_comes_first(
    own_postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(postgresql_servers.URL_VARIABLE, own_postgresql.url)
    server = services.launch_postgresql()
    assert (server.url, server.is_mine) == (own_postgresql.url, False)
    database = server.new_database()
    assert can_log_in(database)
    with pytest.raises(ConfigurationError, match="is not ours to stop"):
        server.kill()
    server.close()
    assert not can_log_in(database)
    assert can_log_in(own_postgresql.url)


def test_a_server_the_environment_names_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(postgresql_servers.URL_VARIABLE, "postgresql://somebody:secret@127.0.0.1:1/db")
    with pytest.raises(ConfigurationError, match=postgresql_servers.URL_VARIABLE) as caught:
        services.launch_postgresql()
    assert "secret" not in str(caught.value)


def test_where_nothing_can_be_launched_the_error_has_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(postgresql_servers.URL_VARIABLE, raising=False)
    monkeypatch.setattr(private_postgresql, "_FOLDERS", ())
    monkeypatch.setattr(services, "has_container_engine", lambda: False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"Run `.* install postgresql`"):
        services.launch_postgresql()
