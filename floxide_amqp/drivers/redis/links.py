"""Connections to one Redis server: few, bounded, and never a command twice.

redis-py's connections speak the protocol, log in and speak TLS. Its clients and pools are not used: they repeat
commands whose reply was lost, which for a commit would be wrong. So whoever calls `exchange` learns for certain whether
the commands were sent.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from floxide_amqp.drivers.redis.address import Address
from floxide_amqp.drivers.redis.errors import unreachable

Command: TypeAlias = tuple[bytes | str | int, ...]

MOST_CONNECTIONS: Final = 4
"""Connections of a process to one server: commits and reads each go one group at a time, scans come beside them."""

READ_BYTES: Final = 65_536

_KEEPALIVE_SECONDS: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Finds out within a minute that the other end is gone while nothing is being asked."""

_FAILURES = (OSError, TimeoutError, redis_errors.RedisError, asyncio.IncompleteReadError)


class Peer(NamedTuple):
    """Who answers on a connection.

    Attributes:
        life: The server's run id; another one after each start.
        major: Its release, as Redis counts them (Valkey says which Redis it is like).
    """

    life: bytes
    major: int


class ReplyLostError(Exception):
    """Commands were sent, and the connection failed before all their replies had come.

    Attributes:
        was_closed: Whether the other end closed it, rather than keep silent.
    """

    def __init__(self, reason: str, *, was_closed: bool) -> None:
        super().__init__(reason)
        self.was_closed = was_closed


class Node:
    """One server.

    Args:
        host: Its name or address.
        port: Its port.
        address: How to log in, and how long to wait.
    """

    def __init__(self, host: str, port: int, address: Address) -> None:
        self.host = host
        self.port = port
        self._address = address
        self._turns = asyncio.Semaphore(MOST_CONNECTIONS)
        self._idle: list[tuple[Connection, Peer]] = []
        self._is_closed = False

    @property
    def name(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    async def exchange(self, commands_for: Callable[[Peer], Sequence[Command]]) -> list[Any]:
        """Send commands at once and return their replies, error replies among them.

        Args:
            commands_for: Returns what to send to whom; where it raises, nothing is sent.

        Raises:
            StoreError: There is no connection; nothing was sent.
            ReplyLostError: They were sent; which of them were performed is unknown.
        """
        async with self._turns:
            connection, peer = await self._connected()
            try:
                commands = commands_for(peer)
            except BaseException:
                self._idle.append((connection, peer))
                raise
            try:
                async with asyncio.timeout(self._address.timeout_seconds):
                    await connection.send_packed_command(
                        [part for command in commands for part in connection.pack_command(*command)],
                        check_health=False,
                    )
                    replies = [await _reply(connection) for _ in commands]
            except BaseException as error:
                await connection.disconnect(nowait=True)
                if isinstance(error, _FAILURES):
                    reason, was_closed = _reason(error, self.name), not isinstance(error, TimeoutError)
                    raise ReplyLostError(reason, was_closed=was_closed) from error
                raise
            if self._is_closed:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append((connection, peer))
            return replies

    async def aclose(self) -> None:
        """Close the connections; those in use close when they are given back."""
        self._is_closed = True
        await self.drop()

    async def drop(self) -> None:
        """Close the connections that are not in use, so that the next ones find out where the name leads by then."""
        while self._idle:
            connection, _ = self._idle.pop()
            await connection.disconnect(nowait=True)

    async def _connected(self) -> tuple[Connection, Peer]:
        """Return a connection that stood a moment ago."""
        while self._idle:
            connection, peer = self._idle.pop()
            if not await _is_stale(connection):
                return connection, peer
            await connection.disconnect(nowait=True)
        connection = self._new()
        try:
            async with asyncio.timeout(self._address.timeout_seconds):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it without types
                await connection.send_packed_command(connection.pack_command("INFO", "server"), check_health=False)
                peer = peer_of(await _next_reply(connection))
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, _FAILURES):
                raise unreachable(error, store=self._address.shown, node=self.name) from error
            raise
        return connection, peer

    def _new(self) -> Connection:
        kind = SSLConnection if self._address.is_encrypted else Connection
        return kind(
            host=self.host,
            port=self.port,
            socket_timeout=None,  # `exchange` has a timeout for all of it
            socket_connect_timeout=self._address.timeout_seconds,
            socket_keepalive=True,
            socket_keepalive_options=_keepalive_options(),
            socket_read_size=READ_BYTES,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            decode_responses=False,
            protocol=2,
            **self._address.connection,
        )


def peer_of(info: bytes) -> Peer:
    """Return who a server says it is."""
    facts = {line.partition(b":")[0]: line.partition(b":")[2] for line in info.splitlines()}
    major = facts.get(b"redis_version", b"").partition(b".")[0]
    return Peer(facts.get(b"run_id", b"?"), int(major) if major.isdigit() else 0)


async def _next_reply(connection: Any) -> Any:  # redis-py's types leave open what it is
    return await connection.read_response(disconnect_on_error=False)


async def _reply(connection: Connection) -> Any:
    try:
        reply = await _next_reply(connection)
    except (redis_errors.ResponseError, redis_errors.BusyLoadingError) as error:
        return error
    return reply


async def _is_stale(connection: Connection) -> bool:
    """Tell whether the other end has closed it, or has said something nobody asked for."""
    try:
        return not connection.is_connected or await connection.can_read()
    except _FAILURES:
        return True


def _reason(error: BaseException, node: str) -> str:
    if isinstance(error, TimeoutError):
        return f"{node} did not answer in time"
    return str(error) or f"the connection to {node} was lost"


def _keepalive_options() -> dict[int, int]:
    """Return the options by their numbers, as far as this system has them."""
    return {getattr(socket, name): value for name, value in _KEEPALIVE_SECONDS.items() if getattr(socket, name, None)}
