"""The launchers: what is left when their process dies, what a restart keeps, what the command line prints."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import redis_servers, services
from floxide_amqp.testing.redis_servers import ExternalRedis, PrivateRedis, Redis, answers, forget
from tests.integration.redis.support import opened, put, value

pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("own_redis")]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    environment = {name: one for name, one in os.environ.items() if name != redis_servers.URL_VARIABLE}
    command = [sys.executable, "-m", "floxide_amqp.testing.services", "redis"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        yield child
        child.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_a_server_ends_with_the_process_that_launched_it(child: subprocess.Popen[str], how: signal.Signals) -> None:
    assert child.stdout is not None
    url = child.stdout.readline().strip()
    assert url.startswith("redis://")
    assert answers(url)
    child.send_signal(how)
    code = child.wait(30)
    assert code == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    wait_until(lambda: not answers(url))


def test_a_restart_and_a_kill_keep_the_data_and_a_wipe_only_the_url(own_redis: Redis) -> None:
    url = own_redis.url
    own_redis.command("SET", "kept", "1")
    own_redis.restart()
    assert own_redis.command("GET", "kept") == b"1"
    own_redis.kill()
    own_redis.kill()
    own_redis.start()
    assert own_redis.command("GET", "kept") == b"1"
    own_redis.wipe()
    assert own_redis.url == url
    assert own_redis.command("GET", "kept") is None
    own_redis.stop()
    own_redis.stop()
    assert not answers(url)


async def test_a_paused_server_answers_once_it_goes_on(own_redis: Redis) -> None:
    async with opened(f"{own_redis.url}?prefix=test-pause") as store:
        own_redis.pause()
        waiting = asyncio.create_task(put(store, b"x"))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        own_redis.resume()
        assert not done
        await waiting
        assert await value(store) == b"x"


def test_a_server_that_cannot_start_shows_its_log() -> None:
    server = PrivateRedis(configuration="no-such-setting 1\n")
    with closing(server), pytest.raises(ConfigurationError, match="no-such-setting"):
        server.start()


def test_somebody_elses_server_is_used_and_left_as_it_was(own_redis: Redis) -> None:
    server = ExternalRedis(own_redis.url)
    server.start()
    server.command("SET", "mine{0}:a", "1")
    server.command("SET", "theirs", "1")
    for refused in (server.stop, server.kill, server.restart, server.wipe, server.pause, server.resume):
        with pytest.raises(ConfigurationError, match="not ours to change"):
            refused()
    with pytest.raises(ConfigurationError, match="not ours to change"):
        server.command("FLUSHALL")
    forget(own_redis.url, "mine")
    assert own_redis.command("MGET", "mine{0}:a", "theirs") == [None, b"1"]
    server.close()


def test_an_environment_that_names_a_server_which_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(redis_servers.URL_VARIABLE, "redis://127.0.0.1:1/0")
    with pytest.raises(ConfigurationError, match=f"No Redis answers at the URL in {redis_servers.URL_VARIABLE}"):
        services.launch_redis()


def test_a_machine_without_redis_is_told_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"apt-get install redis-server|brew install redis"):
        PrivateRedis()


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
