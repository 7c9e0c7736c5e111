"""A private server of one's own; what all kinds of servers have in common is tested once for all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from floxide_amqp.testing.postgresql_servers import can_log_in, execute
from floxide_amqp.testing.private_postgresql import PrivatePostgreSQL


@pytest.mark.xdist_group("own_postgresql")
def test_a_private_server_keeps_its_data_where_it_is_told_to() -> None:
    with tempfile.TemporaryDirectory() as disk:
        Path(disk).chmod(0o755)  # run by root, the server is another user's
        data = Path(disk) / "data"
        server = PrivatePostgreSQL(data=data)
        try:
            server.start()
            database = server.new_database()
            execute(database, "CREATE TABLE kept AS SELECT 7 AS n")
            assert (data / "PG_VERSION").exists()
            server.kill()
            server.start()
            assert can_log_in(database)
            assert [row["n"] for row in execute(database, "SELECT n FROM kept")] == [7]
        finally:
            server.close()
