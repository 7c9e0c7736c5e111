"""Sources: an async iterator, a channel or a clock drives a workflow, one run per item.

With a `key` each item's run id follows from it, so an item that is offered again finds its run instead of a second one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Generic

from typing_extensions import TypeVar

from floxide_amqp.core.context import Context
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_handle import RunHandle

InT = TypeVar("InT")
OutT = TypeVar("OutT")
ItemT = TypeVar("ItemT")
C = TypeVar("C", bound=Context)

DEFAULT_IN_FLIGHT = 100
"""Runs of one source at a time: enough to keep a worker busy, few enough not to run ahead of it."""


class _End:
    pass


class Channel(Generic[InT]):
    """A bounded queue between code that produces items and a source that starts runs of them.

    Args:
        capacity: Items kept at most; `send` waits when it is full. At least 1.
    """

    def __init__(self, capacity: int = DEFAULT_IN_FLIGHT) -> None:
        if capacity < 1:
            raise DefinitionError(f"A channel's capacity is at least 1, not {capacity}.")
        self._items: asyncio.Queue[InT | _End] = asyncio.Queue(capacity)

    async def send(self, item: InT) -> None:
        """Hand over an item; waits while the channel is full."""
        await self._items.put(item)

    async def close(self) -> None:
        """Say that no more items come."""
        await self._items.put(_End())

    async def __aiter__(self) -> AsyncIterator[InT]:
        """Return the items as they come, until the channel is closed."""
        while True:
            item = await self._items.get()
            if isinstance(item, _End):
                return
            yield item


class Source(Generic[InT]):
    """Items that each start one run.

    Args:
        items: Where they come from: a `Channel`, or anything with ``async for``.
        key: Gives an item's run id; None for random ids, with which an item offered twice runs twice.
        context: Gives an item's initial context; None where the context has defaults for everything.
    """

    def __init__(
        self,
        items: AsyncIterable[InT],
        *,
        key: Callable[[InT], str] | None = None,
        context: Callable[[InT], Context] | None = None,
    ) -> None:
        self._items = items
        self._key = key
        self._context = context

    @staticmethod
    def every(
        interval: timedelta | float,
        make: Callable[[int], ItemT],
        *,
        times: int | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        key: Callable[[ItemT], str] | None = None,
    ) -> Source[ItemT]:
        """Return a source that makes an item at once and then after each interval.

        Args:
            interval: Between two items, `timedelta` or seconds; more than 0.
            make: Gets the item's number, from 0 on.
            times: How many items; None for no end.
            sleep: Waits some seconds; a test may pass its own.
            key: Gives an item's run id.

        Raises:
            DefinitionError: The interval is not positive.
        """
        seconds = interval.total_seconds() if isinstance(interval, timedelta) else float(interval)
        if not seconds > 0:
            raise DefinitionError(f"Source.every({interval!r}): the interval must be more than 0.")

        async def ticks() -> AsyncIterator[ItemT]:
            number = 0
            while times is None or number < times:
                if number:
                    await sleep(seconds)
                yield make(number)
                number += 1

        return Source(ticks(), key=key)

    async def drive(
        self,
        orchestrator: Orchestrator,
        workflow: type[WorkflowDefinition[InT, OutT, C]],
        *,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
    ) -> AsyncIterator[RunHandle[OutT]]:
        """Start a run for each item and return each run's handle when it has ended, in the order they end.

        Args:
            orchestrator: Starts the runs.
            workflow: Their workflow.
            max_in_flight: Runs not ended at a time; the source is not asked for more meanwhile. At least 1.

        Raises:
            DefinitionError: `max_in_flight` is below 1.
        """
        if max_in_flight < 1:
            raise DefinitionError(f"max_in_flight must be at least 1, not {max_in_flight}.")
        slots = asyncio.Semaphore(max_in_flight)
        ended: asyncio.Queue[RunHandle[OutT] | None] = asyncio.Queue()
        feeding = asyncio.create_task(self._feed(orchestrator, workflow, slots, ended), name="floxide.source")
        try:
            while (handle := await ended.get()) is not None:
                yield handle
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(
        self,
        orchestrator: Orchestrator,
        workflow: type[WorkflowDefinition[InT, OutT, C]],
        slots: asyncio.Semaphore,
        ended: asyncio.Queue[RunHandle[OutT] | None],
    ) -> None:
        try:
            async with asyncio.TaskGroup() as waiting:
                await slots.acquire()
                async for item in self._items:
                    handle = await self._start(orchestrator, workflow, item)
                    waiting.create_task(_report_end(handle, slots, ended))
                    await slots.acquire()
        finally:
            ended.put_nowait(None)

    async def _start(
        self, orchestrator: Orchestrator, workflow: type[WorkflowDefinition[InT, OutT, C]], item: InT
    ) -> RunHandle[OutT]:
        context: Any = None if self._context is None else self._context(item)
        run_id = None if self._key is None else self._key(item)
        return await orchestrator.start(workflow, item, context=context, run_id=run_id)


async def _report_end(
    handle: RunHandle[OutT], slots: asyncio.Semaphore, ended: asyncio.Queue[RunHandle[OutT] | None]
) -> None:
    try:
        await handle.wait()
        ended.put_nowait(handle)
    finally:
        slots.release()
