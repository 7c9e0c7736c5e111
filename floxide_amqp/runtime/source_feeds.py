"""The sources that one worker runs beside its work."""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.iterator_feed import IteratorFeed
from floxide_amqp.runtime.services import DeclaredSource, Services
from floxide_amqp.runtime.source_feed import SourceFeed

_log = get_logger("floxide_amqp.sources")

PAUSE_SECONDS: Final = 5.0
"""Pause before a source that broke off is begun again."""

Feed: TypeAlias = SourceFeed | IteratorFeed
"""One process's part in a source; both are run, and stopped."""


def feed_of(services: Services, source: DeclaredSource) -> Feed | None:
    """Return a process's part in a source; None where nothing says on which broker its queue is."""
    if not isinstance(source, AmqpSource):
        return IteratorFeed(services, source)
    queue = services.message_sources.get(source.name)
    return None if queue is None else SourceFeed(services, source, queue)


class SourceFeeds:
    """The sources that one worker runs.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._feeds: list[Feed] = []
        for source in services.sources:
            feed = feed_of(services, source) if source.run_by_workers else None
            if feed is not None:
                self._feeds.append(feed)
            elif source.run_by_workers:
                _log.info("source.left_alone", source=source.name, reason="nothing says on which broker its queue is")
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run all of them; returns, once all are stopped, only when cancelled."""
        self._tasks = [asyncio.create_task(keep_running(feed), name="floxide.source") for feed in self._feeds]
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Take no more items."""
        for feed in self._feeds:
            feed.stop()

    async def drain(self, within: float) -> None:
        """Wait until what is in hand is recorded, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)


async def keep_running(feed: Feed) -> None:
    """Run a feed until it is stopped; one that breaks off is begun again, and nobody else's work ends with it."""
    while True:
        try:
            await feed.run()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            reason: BaseException = error  # nobody has cancelled this task: a library's own, gone astray
        except Exception as error:  # noqa: BLE001 - a supervisor: a defect must not end a source in silence
            reason = error
        else:
            return
        _log.error(
            "source.broke_off", source=feed.name, error=repr(reason), retry_in_seconds=PAUSE_SECONDS, exc_info=reason
        )  # fmt: skip
        await asyncio.sleep(PAUSE_SECONDS)
