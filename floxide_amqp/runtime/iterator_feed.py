"""Feeding runs from an iterator: one process at a time, from the position up to which runs are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

from floxide_amqp.core.decisions import Outgoing
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import RunHeader
from floxide_amqp.core.sources import SourceCounts
from floxide_amqp.exceptions import RunConflictError, RunDeletedError, StoreError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.runtime.feed_control import LOOK_SECONDS, FeedControl
from floxide_amqp.runtime.iterator_lead import IteratorLead
from floxide_amqp.runtime.iterator_source import IteratorSource
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.source_counts import count_items
from floxide_amqp.runtime.source_intake import when_in_reach
from floxide_amqp.runtime.starting import StartRequest, prepare, send_first, store
from floxide_amqp.stores.encoding import pack, unpack

_log = get_logger("floxide_amqp.sources")

Item = tuple[Any, Any]
"""A position and the input that belongs to it."""

ENDED: Final = object()
"""What stands behind the last item."""


class IteratorFeed:
    """One process's part in a source: it feeds while it leads.

    Args:
        services: The process's parts.
        source: The source.
    """

    def __init__(self, services: Services, source: IteratorSource[Any, Any]) -> None:
        self._services = services
        self._source = source
        self._graph = graph_of(source.workflow)
        self._control = FeedControl(
            services, source.spec, max_open_runs=source.max_open_runs, rate=source.rate, batch=source.batch
        )
        self._lead = IteratorLead(services, source.name)

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    async def run(self) -> None:
        """Take items until `stop` is called, or until cancelled."""
        await self._control.keep(self._serve)

    def stop(self) -> None:
        """Take no more items; what is being recorded is recorded."""
        self._control.stopping.set()

    async def _serve(self) -> None:
        """Lead, as soon as that can be had, until that must end."""
        if not await self._lead.take():
            await self._control.unless_stopped(asyncio.sleep(LOOK_SECONDS))
            return
        ending = asyncio.create_task(self._until_it_must_end(), name="floxide.source.watch")
        try:
            await self._feed(ending)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
            with suppress(StoreError):
                await self._lead.give_up()

    async def _until_it_must_end(self) -> None:
        """Return once the source is paused, or somebody else leads."""
        ways = [asyncio.ensure_future(self._control.watch(lambda: "")), asyncio.ensure_future(self._lead.renew())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _feed(self, ending: asyncio.Task[None]) -> None:
        """Take items from the last position on, until there are none for now."""
        control = self._control
        position = unpack(self._lead.position) if self._lead.position else None
        waiting: asyncio.Queue[object] = asyncio.Queue(self._source.batch)
        pump = asyncio.create_task(_pump(self._source.items(position), waiting), name="floxide.source.items")
        try:
            while room := await control.room(ending):
                first = await control.unless_stopped(waiting.get(), ending)
                if first is None:
                    return
                items, is_over = _some(first, waiting, room)
                if items and not await self._record(items):
                    return
                control.pace(len(items))
                if is_over:
                    await pump  # raises what the iterator raised
                    await control.unless_stopped(asyncio.sleep(self._source.again_seconds), ending)
                    return
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _record(self, items: Sequence[Item]) -> bool:
        """Record runs, and then how far the source is; return False where somebody else leads by now."""
        services = self._services
        requests, problem = await self._prepared(items)
        items = items[: len(requests)]
        if not items and problem is not None:
            raise problem
        stored = await asyncio.gather(*(self._stored(request) for request in requests))
        outgoing: list[tuple[RunHeader, Outgoing]] = [
            (request.header, out) for request, out in zip(requests, stored, strict=True) if out is not None
        ]
        await send_first(services, self._graph, outgoing)
        started = [header.run_id for header, out in outgoing if not out.recovered]
        counts = SourceCounts(received=len(items), started=len(started), duplicates=len(items) - len(started))
        await count_items(services, self._source.name, counts, started, self._control.open_runs)
        leads = await self._lead.advance(pack(items[-1][0]))
        if problem is not None and leads:
            raise problem
        return leads

    async def _prepared(self, items: Sequence[Item]) -> tuple[list[StartRequest], Exception | None]:
        """Return the runs of items, up to the first that none can be made of, and why none can."""
        named: list[tuple[RunId, Any]] = []
        requests: list[StartRequest] = []
        problem: Exception | None = None
        try:
            for position, item in items:
                named.append((self._source.run_id(position, item), item))
        except USER_ERRORS as error:  # users' functions may raise anything: raised behind what is before it
            problem = _as_problem(error, "the source's key")
        await self._services.session.learn_times(run_id for run_id, _ in named)
        try:
            for run_id, item in named:
                requests.append(self._request(run_id, item))
        except USER_ERRORS as error:  # as above
            problem = _as_problem(error, "making the run of an item")
        return requests, problem

    def _request(self, run_id: RunId, item: Any) -> StartRequest:
        source = self._source
        return prepare(
            self._services, self._graph, item, None if source.context is None else source.context(item), run_id, "",
            attributes=None if source.attributes is None else source.attributes(item),
        )  # fmt: skip

    async def _stored(self, request: StartRequest) -> Outgoing | None:
        """Store a run; one that is there, or was, is left as it is."""
        try:
            return await when_in_reach(lambda: store(self._services, request))
        except (RunConflictError, RunDeletedError, UnreadableRecordError) as error:
            run_id = request.header.run_id
            _log.info("source.run_was_there", source=self._source.name, run_id=run_id, reason=str(error))
            return None


async def _pump(items: AsyncIterator[Item], waiting: asyncio.Queue[object]) -> None:
    """Put items where they wait, and at last that there are no more: to be cancelled in between ends an iterator."""
    try:
        async for position, item in items:
            await waiting.put((position, item))
        await waiting.put(ENDED)
    except Exception:
        await waiting.put(ENDED)
        raise
    except (asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
            raise
        await waiting.put(ENDED)  # else the feed waited for more for ever, or the worker ended with the iterator
        raise _as_problem(error, "the iterator") from error
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


def _as_problem(error: BaseException, what: str) -> Exception:
    """Return what user code raised as an error, though it be an exit: that must not end the worker."""
    return error if isinstance(error, Exception) else RuntimeError(f"{what} raised {type(error).__name__}")


def _some(first: object, waiting: asyncio.Queue[object], limit: int) -> tuple[list[Any], bool]:
    """Return the items that wait, the first one taken already, and whether the last of all is among them."""
    found: list[Any] = []
    each = first
    while each is not ENDED:
        found.append(each)
        if len(found) == limit or waiting.empty():
            return found, False
        each = waiting.get_nowait()
    return found, True
