"""A TCP proxy that misbehaves on command: what networks do to connections, done on purpose.

async with TcpProxy("127.0.0.1", 5672) as proxy:
...connect to proxy.host and proxy.port...
proxy.blackhole()      # both ends stay connected, nothing gets through
proxy.pass_through()   # what was held back gets through after all
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

_CHUNK_BYTES: Final = 65_536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, on, 0 seconds: closing sends a RST."""


class _Mode(Enum):
    PASS = "pass"  # noqa: S105 - not a password
    HOLD = "hold"
    CUT = "cut"


class TcpProxy:
    """Forwards to one target; how well can be changed at any time, for all connections and both directions."""

    def __init__(self, target_host: str, target_port: int) -> None:
        """Describe the proxy; it listens from when its context is entered on."""
        self.host = "127.0.0.1"
        self.port = 0
        self._target = (target_host, target_port)
        self._mode = _Mode.PASS
        self._delay_seconds = 0.0
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @classmethod
    def before(cls, url: str) -> Self:
        """Return a proxy for the server of a URL."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 5672)

    def url_of(self, url: str) -> str:
        """Return a URL with the proxy's address in place of the server's."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}{self.host}:{self.port}").geturl()

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._writers) // 2

    def pass_through(self) -> None:
        """Forward everything at once, also what was held back."""
        self._mode = _Mode.PASS
        self._delay_seconds = 0.0
        self._passing.set()

    def blackhole(self) -> None:
        """Forward nothing and close nothing, for connections there are and connections to come."""
        self._mode = _Mode.HOLD
        self._passing.clear()

    def delay(self, seconds: float) -> None:
        """Forward each piece of data so much later."""
        self._delay_seconds = seconds

    def cut_mid_frame(self) -> None:
        """Forward half of the next piece of data, then close the connection; those after it pass."""
        self._mode = _Mode.CUT

    def cut(self) -> None:
        """Close all connections in good order; those after them pass."""
        for writer in tuple(self._writers):
            writer.close()

    def reset(self) -> None:
        """Close all connections with a RST; those after them pass."""
        for writer in tuple(self._writers):
            raw: Any = writer.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in tuple(self._writers):
            writer.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, target_writer}
        for source, target in ((reader, target_writer), (target_reader, writer)):
            pump = asyncio.create_task(self._pump(source, target, {writer, target_writer}))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, both: set[asyncio.StreamWriter]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                await self._passing.wait()
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                if self._mode is _Mode.CUT:
                    self._mode = _Mode.PASS
                    target.write(data[: len(data) // 2])
                    await target.drain()
                    break
                target.write(data)
                await target.drain()
        self._writers -= both
        for writer in both:
            writer.close()
