"""Sources for whoever looks at them and steers them: listed, shown, paused, resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from floxide_amqp.core.instants import at
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.core.sources import SourceControl
from floxide_amqp.exceptions import (
    CodecError,
    ConfigurationError,
    DeadLetterIncompleteError,
    SourceNotFoundError,
    StoreError,
)
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.open_runs import OpenRuns
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.services import DeclaredSource, Services
from floxide_amqp.runtime.source_intake import SourceIntake
from floxide_amqp.stores.encoding import unpack
from floxide_amqp.stores.source_messages import open_message
from floxide_amqp.stores.sources import StoredSource

MAX_PAGE = 1_000
"""Sources listed at a time at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """A source.

    Attributes:
        kind: ``queue`` or ``iterator``.
        origin: Where its items come from.
        note: Why it is paused, in the words of whoever did it.
        received: Items that came, also those that came again; like all counts, since it was first run.
        started: Runs started.
        duplicates: Items whose run was there, or had been.
        quarantined: Items that no run could be made of, and that are kept as letters.
        rejected: The same, given back to the queue's own dead letter exchange.
        position: How far an iterator is; empty of a queue.
        latest_at: When its latest item came, aware UTC; None for never.
        problem: What keeps it from its items, or kept it the last time somebody looked; empty when all is well.
        problem_at: Since when; None when all is well.
        problem_worker: Who met that.
    """

    name: str
    kind: str
    workflow: str
    version: str
    origin: str
    paused: bool
    note: str
    received: int
    started: int
    duplicates: int
    quarantined: int
    rejected: int
    position: str
    latest_at: datetime | None
    problem: str
    problem_at: datetime | None
    problem_worker: str


class Sources:
    """What `Orchestrator.sources` offers.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def get(self, name: str) -> SourceInfo:
        """Return a source.

        Raises:
            SourceNotFoundError: There is none of this name.
        """
        return source_info(await self._load(name))

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[SourceInfo]:
        """Return sources by their names, 1 to 1,000 of them, behind the name `after`."""
        store = self._services.source_store
        names = await store.names(after=after, limit=max(1, min(limit, MAX_PAGE)))
        found = await asyncio.gather(*(store.find(name) for name in names))
        return [source_info(stored) for stored in found if stored is not None]

    async def open_runs(self, name: str) -> int:
        """Return how many runs of a source with `AmqpSource.max_open_runs` are not over.

        Raises:
            SourceNotFoundError: There is none of this name.
        """
        await self._load(name)
        counting = OpenRuns(self._services, name, None)
        await counting.tidy()
        return await counting.listed()

    async def pause(self, name: str, *, reason: str = "") -> None:
        """Take no more items, within about a second; runs that have begun go on, and what waits stays where it is.

        Raises:
            SourceNotFoundError: There is none of this name.
        """
        await self._steer(name, SourceControl(paused=True, note=reason))

    async def resume(self, name: str) -> None:
        """Take items again.

        Raises:
            SourceNotFoundError: There is none of this name.
        """
        await self._steer(name, SourceControl())

    async def _steer(self, name: str, control: SourceControl) -> None:
        while True:
            stored = await self._load(name)
            if stored.control == control:
                return
            if await self._services.source_store.put_control(name, control, stored.control_version):
                return

    async def _load(self, name: str) -> StoredSource:
        stored = await self._services.source_store.find(name)
        if stored is None:
            raise SourceNotFoundError(name=name)
        return stored


def source_info(stored: StoredSource) -> SourceInfo:
    """Return a source as it is shown."""
    spec, counts, problem = stored.spec, stored.counts, stored.problem
    return SourceInfo(
        name=spec.name, kind=spec.kind, workflow=spec.workflow, version=spec.version, origin=spec.origin,
        paused=stored.control.paused, note=stored.control.note, received=counts.received, started=counts.started,
        duplicates=counts.duplicates, quarantined=counts.quarantined, rejected=counts.rejected,
        position=str(unpack(stored.position)) if stored.position else "",
        latest_at=at(stored.latest_ms) if stored.latest_ms else None, problem=problem.text,
        problem_at=at(problem.at_ms) if problem.text else None, problem_worker=problem.worker if problem.text else "",
    )  # fmt: skip


def check_sources(sources: Iterable[DeclaredSource], registry: Registry) -> tuple[DeclaredSource, ...]:
    """Return the sources given to an application.

    Raises:
        ConfigurationError: The application lacks the workflow of one, or two have one name.
    """
    checked = tuple(sources)
    registry.check_declared("source", checked)
    return checked


# --- messages in the quarantine


def opened(services: Services, kept: Quarantined) -> Quarantined:
    """Return a message in quarantine as its sender sent it, where it is one of a source and can be opened."""
    if not kept.source:
        return kept
    try:
        message = open_message(services.sealing, kept.source, kept.quarantine_id, kept.body)
    except (CodecError, StoreError):
        return kept
    return replace(kept, body=message.body)


async def start_kept(services: Services, kept: Quarantined) -> None:
    """Make a run of a message in quarantine, and forget the message.

    Raises:
        ConfigurationError: This application does not declare the source.
        DeadLetterIncompleteError: Only its beginning was kept.
        CodecError: No run can be made of it still.
        RunError: Its run is there and was started with something else, or was deleted not long ago.
    """
    source = next((each for each in services.sources if each.name == kept.source), None)
    if not isinstance(source, AmqpSource):
        raise ConfigurationError(
            f"Message {kept.quarantine_id!r} came from source {kept.source!r}, which this application does not declare:"
            " requeue it with one that has it in Floxide(sources=[...])."
        )
    if kept.cut_from:
        raise DeadLetterIncompleteError(
            letter_id=kept.quarantine_id, kept_bytes=len(kept.body), size_bytes=kept.cut_from
        )  # fmt: skip
    message = open_message(services.sealing, kept.source, kept.quarantine_id, kept.body)
    await SourceIntake(services, source, OpenRuns(services, source.name, None)).start_one(message)
    await services.quarantine.remove(kept.quarantine_id)
