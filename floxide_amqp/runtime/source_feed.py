"""Feeding runs from a queue: takes messages while runs of them may begin, and holds still while they may not.

While the source is paused, or for longer than a moment too many of its runs are open, it gives its messages back, once,
and takes none: nothing goes around in circles.
"""

from __future__ import annotations

import asyncio
from typing import Any

from floxide_amqp.ports.message_source import MessageReader, MessageSource
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.feed_control import HELD_SECONDS, FeedControl
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.source_intake import SourceIntake


class SourceFeed:
    """One process's part in a source: several processes may take messages of one queue.

    Args:
        services: The process's parts.
        source: The source.
        queue: Its queue.
    """

    def __init__(self, services: Services, source: AmqpSource[Any], queue: MessageSource) -> None:
        self._source = source
        self._queue = queue
        self._control = FeedControl(
            services, source.spec, max_open_runs=source.max_open_runs, rate=source.rate, batch=source.batch
        )
        self._intake = SourceIntake(services, source, self._control.open_runs)

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    async def run(self) -> None:
        """Take messages until `stop` is called, or until cancelled; then nothing is in hand any more."""
        await self._control.keep(self._serve)

    def stop(self) -> None:
        """Take no more messages; what is being recorded is recorded."""
        self._control.stopping.set()

    async def _serve(self) -> None:
        """Take messages until that must end."""
        async with self._queue.read(prefetch=self._prefetch()) as reader:
            watch = self._control.watch(lambda: reader.problem)
            watching = asyncio.create_task(watch, name="floxide.source.watch")
            try:
                await self._feed(reader, watching)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _feed(self, reader: MessageReader, watching: asyncio.Task[None]) -> None:
        control = self._control
        while room := await control.room(watching, lambda: reader.oldest_at):
            deliveries = await control.unless_stopped(reader.receive(room), watching)
            if deliveries is None:
                return
            await self._intake.record(deliveries)
            control.pace(len(deliveries))

    def _prefetch(self) -> int:
        """How many messages to have in hand: no more than may have their turn before they must go back."""
        source, most = self._source, [self._source.prefetch]
        if source.max_open_runs is not None:
            most.append(source.max_open_runs)
        if source.rate is not None:
            most.append(max(1, int(source.rate * HELD_SECONDS / 2)))
        return min(most)
