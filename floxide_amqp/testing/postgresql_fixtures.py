"""pytest fixtures that hand tests a PostgreSQL: `postgresql_url`, shared, and `own_postgresql`, to mistreat.

Import them into a ``conftest.py``, or into the module that uses them. The shared server is launched once per run, by
whichever pytest-xdist worker needs it first, and ends with the run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.postgresql_servers import URL_VARIABLE, PostgreSQL, execute, new_database
from floxide_amqp.testing.services import launch_own_postgresql, launch_postgresql
from floxide_amqp.testing.shared_servers import shared_url


@pytest.fixture(scope="session")
def postgresql_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a database that only this process uses, in a server that the whole run shares."""
    server = shared_url("postgresql", lambda owner: launch_postgresql(lives_with=owner), tmp_path_factory)
    url = new_database(server)
    yield url
    if URL_VARIABLE in os.environ:  # any other server is gone soon, with all it has
        name = url.rpartition("/")[2]
        execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def postgresql_url(postgresql_database: str) -> str:
    """Return the URL of a store that no other test has: one schema of the process's database."""
    return f"{postgresql_database}?schema=test_{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def launched_postgresql() -> Iterator[PostgreSQL]:
    """Launch a server that this process alone uses."""
    try:
        server = launch_own_postgresql()
    except ConfigurationError as error:
        pytest.skip(f"needs a PostgreSQL that may be stopped: {error}")
    yield server
    server.close()


@pytest.fixture
def own_postgresql(launched_postgresql: PostgreSQL) -> PostgreSQL:
    """Return a running server that a test may stop, kill, wipe and pause; mark such tests with one ``xdist_group``."""
    launched_postgresql.start()
    return launched_postgresql
