"""Single statements in a PostgreSQL server, for launchers and tests; everything here blocks."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Coroutine
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from floxide_amqp.exceptions import ConfigurationError

T = TypeVar("T")


def can_log_in(url: str) -> bool:
    """Tell whether a server lets one in."""
    try:
        execute(url, "SELECT 1")
    except ConfigurationError:
        raise
    except Exception:  # noqa: BLE001 - whatever keeps one out, one is not in
        return False
    return True


def new_database(url: str) -> str:
    """Make an empty database in the server of a URL and return the URL of that."""
    name = f"test_{secrets.token_hex(6)}"
    execute(url, f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()


def execute(url: str, statement: str) -> list[Any]:
    """Run one statement in a connection of its own and return its rows; blocks, within an event loop too."""
    try:
        asyncpg = import_module("asyncpg")
    except ImportError:
        raise ConfigurationError(
            "A PostgreSQL for tests needs asyncpg. Install it: pip install 'floxide-amqp[postgresql]'"
        ) from None

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=30)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close(timeout=30)

    return _elsewhere(run())


def _elsewhere(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread, so that one may be called where a loop runs."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, name="floxide-postgresql-statement")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
