"""A connection that does not end by itself: closing it has a deadline, cuts the socket, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from yarl import URL

from floxide_amqp.drivers.amqp.session import FAREWELL_SECONDS, Session
from floxide_amqp.drivers.amqp.settings import DEFAULT_SETTINGS
from floxide_amqp.testing import virtual_time

CLOSE_DEADLINE = 5.0


class DeafConnection:
    """A connection of aiormq's that waits for ever, and waits again when it is told to end."""

    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closed = False

    async def close(self) -> None:
        await self.wait_twice()

    async def wait_twice(self) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()


class Socket:
    def __init__(self) -> None:
        self.cut_at: float | None = None

    def cut(self) -> None:
        self.cut_at = asyncio.get_running_loop().time()


def session_on(underlay: DeafConnection, socket: Socket) -> Session:
    connection: Any = SimpleNamespace(url=URL("amqp://host/"), transport=SimpleNamespace(connection=underlay))
    transport: Any = socket
    settings = replace(DEFAULT_SETTINGS, close_deadline=CLOSE_DEADLINE)
    return Session(connection, transport, settings, role="publish", generation=1)


@pytest.mark.pitfall(16)
def test_closing_a_connection_that_never_answers_takes_its_deadline_and_leaves_no_task() -> None:
    async def story() -> None:
        underlay, socket = DeafConnection(), Socket()
        session = session_on(underlay, socket)
        session.keep(underlay.wait_twice())  # a call that nobody answers
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(600):
            await session.close()
        assert asyncio.get_running_loop().time() - began <= CLOSE_DEADLINE + 2 * FAREWELL_SECONDS
        assert socket.cut_at == began + CLOSE_DEADLINE
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time.run(story())
