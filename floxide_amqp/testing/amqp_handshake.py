"""Whether a broker really serves: an open port is not enough, for RabbitMQ opens it before it can answer."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame
from pamqp.exceptions import PAMQPException
from pamqp.header import ProtocolHeader

ANSWER_SECONDS: Final = 15.0
"""Longest wait for each answer; a broker that is starting refuses connections at once."""

SERVER_PORTS: Final = range(15_000, 32_768)
"""Below what Linux and macOS take for the near end of a connection, if they are left as they are."""

T = TypeVar("T", bound=Frame)


def can_log_in(url: str) -> bool:
    """Whether the broker at an ``amqp://`` URL lets this user open its virtual host now; blocks up to some seconds."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
    virtual_host = unquote(parts.path[1:]) or "/"
    try:
        with socket.create_connection(
            (parts.hostname or "localhost", parts.port or 5672), ANSWER_SECONDS
        ) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(ProtocolHeader().marshal())
            _expect(connection, commands.Connection.Start)
            _send(connection, commands.Connection.StartOk({}, "PLAIN", f"\0{user}\0{password}"))
            tune = _expect(connection, commands.Connection.Tune)
            _send(connection, commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
            _send(connection, commands.Connection.Open(virtual_host))
            _expect(connection, commands.Connection.OpenOk)
            _send(connection, commands.Connection.Close(200, "", 0, 0))
            _expect(connection, commands.Connection.CloseOk)
    except (OSError, EOFError, PAMQPException):
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on at 127.0.0.1 just now, of those that the system gives to no client by itself.

    One that it does give might be taken before the server starts, or while it is dead for a moment.
    """
    found: list[int] = []
    while len(found) < count:
        port = SERVER_PORTS[secrets.randbelow(len(SERVER_PORTS))]
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


def _send(connection: socket.socket, frame: Frame) -> None:
    connection.sendall(pamqp.frame.marshal(frame, 0))


def _expect(connection: socket.socket, kind: type[T]) -> T:
    head = _read(connection, 7)
    rest = _read(connection, int.from_bytes(head[3:7], "big") + 1)
    _, _, frame = pamqp.frame.unmarshal(head + rest)
    if not isinstance(frame, kind):
        raise EOFError(f"expected {kind.__name__}, got {frame}")  # noqa: TRY004 - the broker's fault, not the caller's
    return frame


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise EOFError
        received += part
    return received
