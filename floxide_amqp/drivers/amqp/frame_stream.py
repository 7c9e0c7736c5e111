"""The frames that a connection receives: those of messages and confirmations go straight to whoever waits for them.

aiormq makes an object of each frame, hands it from one task to the next through queues, and begins a task for each
message: over 40 µs for one here, against 2 µs for what follows. It reads all other frames, made decodable, and does
what is to be done about them: the handshake, the answers to calls, heartbeats, closed channels and connections.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import Final, Protocol, SupportsIndex

from floxide_amqp.drivers.amqp.frames import BODY, HEADER, HEARTBEAT, METHOD
from floxide_amqp.drivers.amqp.odd_frames import HEAD_BYTES, decodable

HEAD: Final = struct.Struct(">BHL")
"""Of a frame: its type, its channel, and the size of what follows."""

SURROUNDINGS: Final = HEAD_BYTES + 1
"""Bytes of a frame besides its payload: its head, and its end."""

KINDS: Final = frozenset((METHOD, HEADER, BODY, HEARTBEAT))

ANOTHER_VERSION: Final = b"AMQP"
"""What a broker begins with that speaks another version than it was asked for; it is no frame, and then it hangs up."""

SIGN_OF_LIFE: Final = HEAD.pack(HEARTBEAT, 0, 0) + b"\xce"
"""What aiormq is told now and then in place of the frames that it is not shown: it gives up a connection that brings
nothing, and the broker sends no heartbeats while it sends something else."""

SIGN_OF_LIFE_SECONDS: Final = 1.0
"""Between two of them; aiormq waits for at least 6 s."""


CONNECTION_BLOCKED: Final = b"\x00\x0a\x00\x3c"
CONNECTION_UNBLOCKED: Final = b"\x00\x0a\x00\x3d"
"""Class and method, as a method's frame begins with them."""


class FrameError(Exception):
    """A frame that cannot be, or that cannot come here."""


class FrameReader(Protocol):
    """Takes what is for it out of the frames of one channel."""

    def take(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take a frame, or return False, for aiormq to have it.

        Args:
            kind: The frame's type.
            data: What the frame is a part of.
            start: Where it begins there, with its head.
            end: Where the next one begins.

        Raises:
            FrameError: It cannot come here; also `struct.error` and `IndexError`, where something lacks in it.
        """
        ...


class BlockWatch:
    """Tells from what comes for a connection as a whole when the broker blocks it; aiormq tells nobody by itself.

    Args:
        on_change: Called with whether it is blocked now.
    """

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self._on_change = on_change

    def take(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Look at a frame, and leave it to aiormq; see `FrameReader`."""
        method = data[start + HEAD_BYTES : start + HEAD_BYTES + 4]
        if kind == METHOD and method in (CONNECTION_BLOCKED, CONNECTION_UNBLOCKED):
            self._on_change(method == CONNECTION_BLOCKED)
        return False


class FrameStream(asyncio.StreamReader):
    """What aiormq reads: the frames that nobody has taken before, each as a whole and decodable."""

    def __init__(self) -> None:
        """Read from nothing yet."""
        super().__init__()
        self._readers: dict[int, FrameReader] = {}
        self._parts: list[bytes] = []
        self._lacking = 0
        self._is_unreadable = False
        self._clock = asyncio.get_running_loop().time
        self._alive_at = 0.0

    def route(self, channel: int, reader: FrameReader) -> None:
        """Have the frames of a channel offered to somebody from now on."""
        self._readers[channel] = reader

    def leave(self, channel: int, reader: FrameReader) -> None:
        """Offer them to him no more; another channel may have the number by now."""
        if self._readers.get(channel) is reader:
            del self._readers[channel]

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Deal with the frames that have arrived, and keep the beginning of one that has not arrived as a whole."""
        data = data if isinstance(data, bytes) else bytes(data)
        if self._is_unreadable:
            super().feed_data(data)
            return
        if self._parts:
            self._parts.append(data)
            self._lacking -= len(data)
            if self._lacking > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        try:
            self._split(data)
        except (FrameError, struct.error, IndexError) as error:
            self._is_unreadable = True
            self._readers.clear()
            self.set_exception(ConnectionError(f"the broker sent what is no AMQP: {error}"))

    def feed_eof(self) -> None:
        """Note the end; a frame without its end is for aiormq to complain of."""
        if self._parts:
            super().feed_data(b"".join(self._parts))
            self._parts.clear()
        super().feed_eof()

    def _split(self, data: bytes) -> None:
        start, size, readers = 0, len(data), self._readers
        has_taken = False
        lacking = 1
        while size - start >= HEAD_BYTES:
            kind, channel, length = HEAD.unpack_from(data, start)
            if kind not in KINDS:
                if not data.startswith(ANOTHER_VERSION, start):
                    raise FrameError(f"a frame of type {kind}")
                self._is_unreadable = True
                super().feed_data(data[start:])
                return
            end = start + length + SURROUNDINGS
            if end > size:
                lacking = end - size
                break
            reader = readers.get(channel)
            if reader is not None and reader.take(kind, data, start, end):
                has_taken = True
            else:
                super().feed_data(decodable(data[start:end]))
            start = end
        if start < size:
            self._parts.append(data[start:])
            self._lacking = lacking
        if has_taken and self._clock() - self._alive_at >= SIGN_OF_LIFE_SECONDS:
            self._alive_at = self._clock()
            super().feed_data(SIGN_OF_LIFE)
