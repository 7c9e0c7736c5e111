"""A broker in a container; needs a container engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from floxide_amqp.testing.amqp_handshake import can_log_in
from floxide_amqp.testing.services import ContainerRabbitMQ, has_container_engine

pytestmark = pytest.mark.skipif(not has_container_engine(), reason="needs a container engine")

LAUNCHER = """
import signal, sys
from floxide_amqp.testing.services import ContainerRabbitMQ
broker = ContainerRabbitMQ(lives_with=int(sys.argv[1]) or None)
broker.start()
print(broker.url, flush=True)
signal.pause()
"""


def is_gone(url: str) -> bool:
    deadline = time.monotonic() + 20
    while can_log_in(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def launched(lives_with: int) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(lives_with)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def killed(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_it_ends_with_the_process_that_launched_it_even_if_that_is_killed() -> None:
    process, url = launched(0)
    killed(process)
    assert is_gone(url)


def test_it_may_live_with_another_process_instead() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    process, url = launched(other.pid)
    killed(process)
    assert can_log_in(url)
    other.communicate("\n")
    assert is_gone(url)


def test_it_is_stopped_started_and_wiped() -> None:
    broker = ContainerRabbitMQ()
    try:
        broker.start()
        broker.ctl("add_user", "someone", "secret")
        broker.restart()
        assert "someone" in broker.ctl("list_users")
        broker.kill()
        assert not can_log_in(broker.url)
        broker.start()
        assert "someone" in broker.ctl("list_users")
        broker.wipe()
        assert "someone" not in broker.ctl("list_users")
    finally:
        broker.close()
    assert not can_log_in(broker.url)
