"""Keeps a worker that cannot reach its store from taking messages that others could work on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from floxide_amqp.logs import get_logger
from floxide_amqp.stores.session import Session

_log = get_logger("floxide_amqp.worker")


class StoreWatch:
    """Looks at how long the store has been out of reach.

    Args:
        session: The conversation with the store; maintenance keeps it up, also of an idle worker.
        worker_id: Whose it is, for the log.
        longest_seconds: How long the store may be out of reach before nothing new is taken in.
        poll_seconds: Between two looks.
    """

    def __init__(self, session: Session, worker_id: str, longest_seconds: float, poll_seconds: float) -> None:
        self._session = session
        self._worker_id = worker_id
        self._longest = longest_seconds
        self._poll = poll_seconds

    async def keep_up(
        self, work: Callable[[], Coroutine[Any, Any, None]], when_out_of_reach: Callable[[], Awaitable[None]]
    ) -> None:
        """Run something while the store can be reached: cancel it when it cannot, begin again when it can.

        Args:
            work: Runs until cancelled; what it raises is raised.
            when_out_of_reach: Awaited each time it was cancelled.
        """
        while True:
            working = asyncio.create_task(work(), name="floxide.worker.take")
            try:
                while self._session.failing_seconds() < self._longest and not working.done():
                    await asyncio.wait({working}, timeout=self._poll)
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            if not working.cancelled():
                working.result()
            silent = round(self._session.failing_seconds(), 1)
            _log.warning("worker.takes_nothing", worker_id=self._worker_id, seconds=silent)
            await when_out_of_reach()
            while self._session.failing_seconds():  # noqa: ASYNC110 - others talk to the store and make it so
                await asyncio.sleep(self._poll)
            _log.info("worker.takes_again", worker_id=self._worker_id)
