"""A few connections, lent to one call at a time.

They are opened when needed, one at a time: while a server is down each waiting call learns of the one attempt, and the
pauses between attempts are those of the callers. A connection on which anything is doubtful is thrown away.

Behind a pooler that hands each transaction to another server session (PgBouncer in transaction mode) nothing is kept
between transactions: no prepared statement, no session setting. What one call does then goes into one transaction that
begins with its settings. (The locks are of the transaction anyway.)
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from floxide_amqp.drivers.postgresql.errors import FOREIGN, is_cut_off, store_error
from floxide_amqp.drivers.postgresql.settings import Settings
from floxide_amqp.exceptions import ConfigurationError, StoreClosedError, StoreUnavailableError

APPLICATION_NAME = "floxide_amqp"

ANSWER_SLACK_SECONDS = 5.0
"""What an answer may take beyond `statement_timeout`, which the server keeps; then the connection is given up."""

FOREVER_SECONDS = 7 * 86_400.0

CLOSE_SECONDS = 5.0

KEEPALIVE_SECONDS = 30
"""Idle before the first keepalive, for both ends; three more, 10 s apart, and the connection is given up."""

_SERVER_SETTINGS = {
    "default_transaction_isolation": "read committed",  # under any other, a commit would check stale records
    "tcp_keepalives_idle": str(KEEPALIVE_SECONDS),
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


class Connection(Protocol):
    """What of an asyncpg connection is used; that publishes no types."""

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Return the rows of a statement."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Any:
        """Return its first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of its first row."""
        ...

    async def execute(self, query: str) -> str:
        """Do statements without parameters, as many as there are, in one round trip."""
        ...

    async def close(self, *, timeout: float | None = None) -> None:
        """End it in good order."""
        ...

    def terminate(self) -> None:
        """End it at once; what waits on it raises."""
        ...

    def is_closed(self) -> bool:
        """Whether it is known to have ended."""
        ...

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open, or failed and not yet rolled back."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Begin a transaction for a block, and commit it or roll it back."""
        ...


class Connections:
    """Up to `Settings.pool_size` connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(settings.pool_size)
        self._connecting = asyncio.Lock()
        self._failure: tuple[float, BaseException] | None = None
        self._is_closed = False

    @property
    def settings(self) -> Settings:
        """What they are opened with."""
        return self._settings

    @asynccontextmanager
    async def lend(self, *, is_watched: bool = True) -> AsyncGenerator[Connection]:
        """Lend a connection that is open as far as one knows; what is raised inside decides whether it is kept.

        Args:
            is_watched: Whether to give it up after `statement_timeout` and some slack; not for a migration.

        Raises:
            StoreUnavailableError: None could be opened, or none was free in time.
            StoreAccessRefusedError: The server refused the login.
        """
        await self._take_place()
        try:
            connection = self._from_idle() or await self._opened()
        except BaseException:
            self._places.release()
            raise
        patience = self._settings.statement_timeout + ANSWER_SLACK_SECONDS if is_watched else FOREVER_SECONDS
        watchdog = asyncio.get_running_loop().call_later(patience, connection.terminate)
        is_sound = False
        try:
            yield connection
            is_sound = True
        except Exception as error:
            is_sound = not is_cut_off(error)
            raise
        finally:
            watchdog.cancel()
            if is_sound and not self._is_closed and not connection.is_closed():
                self._idle.append(connection)
            else:
                connection.terminate()
            self._places.release()

    async def aclose(self) -> None:
        """Close the connections that are idle; those that are lent are closed when they come back."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                await connection.close(timeout=CLOSE_SECONDS)
            except FOREIGN:
                connection.terminate()

    async def _take_place(self) -> None:
        try:
            if self._places.locked():
                async with asyncio.timeout(self._settings.connect_timeout):
                    await self._places.acquire()
            else:
                await self._places.acquire()
        except TimeoutError:
            size = self._settings.pool_size
            raise StoreUnavailableError(
                store=self._settings.shown,
                reason=f"all {size} connections of this process were busy",
                cure="raise pool_size, or find out what keeps the server busy, then repeat.",
            ) from None
        if self._is_closed:
            self._places.release()
            raise StoreClosedError(store=self._settings.shown)

    def _from_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _opened(self) -> Connection:
        asked_at = time.monotonic()
        async with self._connecting:
            if self._failure is not None and self._failure[0] >= asked_at:  # while this call waited for its turn
                raise store_error(self._failure[1], store=self._settings.shown) from self._failure[1]
            try:
                return await self._connect()
            except FOREIGN as error:
                self._failure = (time.monotonic(), error)
                raise store_error(error, store=self._settings.shown) from error

    async def _connect(self) -> Connection:
        settings = self._settings
        server_settings = {} if settings.has_pooler else {**_SERVER_SETTINGS, **settings.session_settings()}
        if "application_name" not in settings.url:
            server_settings["application_name"] = APPLICATION_NAME
        connect = cast("Callable[..., Awaitable[Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
        cache = {"statement_cache_size": 0} if settings.has_pooler else {}
        try:
            connection = await connect(
                settings.url, timeout=settings.connect_timeout, server_settings=server_settings, **cache
            )
        except asyncpg.ClientConfigurationError as error:
            raise ConfigurationError(f"The URL of the store {settings.shown} cannot be used: {error}.") from error
        _keep_alive(connection)
        if not settings.has_pooler:
            await connection.execute(_NEVER_OFF.format(is_local="false"))
        return connection


_NEVER_OFF = (
    "SELECT set_config('synchronous_commit', 'on', {is_local}) WHERE current_setting('synchronous_commit') = 'off'"
)
"""A commit that is reported before it is in the log would be lost with the server."""


def transaction_start(settings: Settings) -> str:
    """Return what begins a transaction of several statements, with its settings where sessions have none."""
    statements = ["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"]
    if settings.has_pooler:
        statements += [f"SET LOCAL {name} = '{value}'" for name, value in settings.session_settings().items()]
        statements.append(_NEVER_OFF.format(is_local="true"))
    return "; ".join(statements)


def _keep_alive(connection: Connection) -> None:
    """Let the system notice a server that is gone without a word."""
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to the socket
    found = None if transport is None else transport.get_extra_info("socket")
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    options = {"TCP_KEEPIDLE": KEEPALIVE_SECONDS, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    with suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
