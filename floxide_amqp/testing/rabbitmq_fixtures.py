"""pytest fixtures that hand tests a RabbitMQ: `rabbitmq_url`, shared by the whole run, and `own_rabbitmq`, to mistreat.

Import them into a ``conftest.py``, or into the module that uses them. The shared broker is launched once per run, by
whichever pytest-xdist worker needs it first, and ends with the run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.services import RabbitMQ, launch_own_rabbitmq, launch_rabbitmq, new_namespace
from floxide_amqp.testing.shared_servers import shared_url


@pytest.fixture(scope="session")
def rabbitmq_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a running broker that all tests share; each test takes a namespace of its own."""
    return shared_url("rabbitmq", lambda owner: launch_rabbitmq(lives_with=owner), tmp_path_factory)


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
