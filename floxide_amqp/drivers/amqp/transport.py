"""The socket under a connection: which address it goes to, and how it is cut.

A host name may stand for several addresses, and some of them may swallow every packet (an IPv6 route that leads
nowhere, the record of a broker that has moved). Each gets a part of the time for connecting; one that failed comes last
next time. The name is resolved anew at each attempt.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from floxide_amqp.drivers.amqp.frame_stream import FrameStream
from floxide_amqp.drivers.amqp.gathering import connect

Address = tuple[str, int]

PLAIN_PORT: Final = 5672
TLS_PORT: Final = 5671


class Addresses:
    """The addresses of one host, those that failed last."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._failures: dict[Address, int] = {}
        self._ordinal = itertools.count(1)

    async def of(self, url: URL) -> Sequence[Address]:
        """Resolve the host of a URL; never failed addresses first, then those that failed longest ago.

        Raises:
            OSError: The name cannot be resolved.
        """
        port = url.port or (TLS_PORT if url.scheme == "amqps" else PLAIN_PORT)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found)
        return sorted(addresses, key=lambda address: self._failures.get(address, 0))

    def failed(self, address: Address) -> None:
        """Put an address last."""
        self._failures[address] = next(self._ordinal)


class CuttableTransport(TransportFactory):
    """Opens the socket for aiormq and keeps hold of it, so that it can be cut without asking anybody."""

    def __init__(self, addresses: Addresses, *, patience: float) -> None:
        """Describe the socket; nothing happens before `create`.

        Args:
            addresses: What is known about the host.
            patience: Seconds that all attempts together may take.
        """
        self._addresses = addresses
        self._patience = patience
        self._address: Address | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._stream: FrameStream | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open the socket to the first address that answers."""
        context = await kwargs["ssl_context_provider"].get_context() if url.scheme == "amqps" else None
        problems: list[OSError] = []
        try:
            addresses = await self._addresses.of(url)
            for address in addresses:
                try:
                    return await self._open(address, url, context, within=self._patience / len(addresses))
                except OSError as error:
                    self._addresses.failed(address)
                    problems.append(error)
        except OSError as error:
            problems.append(error)
        raise AMQPConnectionError("; ".join(str(problem) for problem in problems)) from problems[-1]

    @property
    def stream(self) -> FrameStream:
        """The frames that the connection receives, once it is open."""
        if self._stream is None:
            raise RuntimeError("the socket is not open")
        return self._stream

    def write(self, data: bytes) -> None:
        """Send something, with all else that is written before the event loop goes on."""
        if self._writer is not None:
            self._writer.write(data)

    @property
    def unsent_bytes(self) -> int:
        """What waits here because the broker does not read, or not so fast."""
        return 0 if self._writer is None else self._writer.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Close the socket at once, whatever is unsent."""
        if self._writer is not None:
            self._writer.transport.abort()

    def give_up(self) -> None:
        """Cut it, and try another address next time: nobody spoke AMQP at this one."""
        self.cut()
        if self._address is not None:
            self._addresses.failed(self._address)

    async def _open(
        self, address: Address, url: URL, context: ssl.SSLContext | None, *, within: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = address
        name = None if context is None else url.host
        try:
            async with asyncio.timeout(within):
                self._stream, self._writer = await connect(host, port, context=context, name=name)
        except TimeoutError:
            raise TimeoutError(f"no answer from {host} port {port} within {within:g} s") from None
        self._address = address
        return self._stream, self._writer
