"""pytest fixtures that hand tests a RabbitMQ: `rabbitmq_url`, shared by the whole run, and `own_rabbitmq`, to mistreat.

Import them into a ``conftest.py``, or into the module that uses them. The shared broker is launched once per run, by
whichever pytest-xdist worker needs it first, and ends with the run.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.services import RabbitMQ, launch_own_rabbitmq, launch_rabbitmq, new_namespace

_launched: list[RabbitMQ] = []
"""The shared broker, where this process launched it: were it collected, Python would warn of its running process."""


_OUTLIVING_US: list[RabbitMQ] = []
"""Brokers launched here for other processes too; forgetting one would warn that it still runs."""


@pytest.fixture(scope="session")
def rabbitmq_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a running broker that all tests share; each test takes a namespace of its own."""
    is_xdist_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    return _shared_url(base.parent if is_xdist_worker else base, lives_with=os.getppid() if is_xdist_worker else None)


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test has."""
    return new_namespace()


@pytest.fixture(scope="session")
def launched_rabbitmq() -> Iterator[RabbitMQ]:
    """Launch a broker that this process alone uses."""
    try:
        broker = launch_own_rabbitmq()
    except ConfigurationError as error:
        pytest.skip(f"needs a RabbitMQ that may be stopped: {error}")
    yield broker
    broker.close()


@pytest.fixture
def own_rabbitmq(launched_rabbitmq: RabbitMQ) -> RabbitMQ:
    """Return a running broker that a test may stop, kill and wipe; mark such tests with one ``xdist_group``."""
    launched_rabbitmq.start()
    return launched_rabbitmq


def _shared_url(folder: Path, *, lives_with: int | None) -> str:
    """Return the URL that the folder's file names, after launching a broker and writing it there if need be."""
    with (folder / "rabbitmq.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / "rabbitmq.url"
        if not note.exists():
            broker = launch_rabbitmq(lives_with=lives_with)
            _launched.append(broker)
            if lives_with is None:
                atexit.register(broker.close)
            else:
                _OUTLIVING_US.append(broker)
            note.write_text(broker.url)
        return note.read_text()
