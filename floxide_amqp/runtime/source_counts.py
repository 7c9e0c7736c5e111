"""Counting what became of a source's items, once the store knows it."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.sources import SourceCounts
from floxide_amqp.exceptions import StoreError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.open_runs import OpenRuns
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import source_keys

_log = get_logger("floxide_amqp.sources")


async def count_items(
    services: Services, source: str, counts: SourceCounts, started: Sequence[RunId], open_runs: OpenRuns
) -> None:
    """Count items of a source, and the runs started of them as open, where open ones are limited.

    Never raises for the store: the runs stand, and what they were made of may go. Figures are not worth more.
    """
    open_runs.started(len(started))
    services.figures.count_source(source, counts)
    listed = started if open_runs.is_limited else ()
    now = services.now_ms(source_keys.source_partition(source))
    try:
        await services.source_store.count(source, counts, now, listed)
    except StoreError as error:
        _log.warning("source.counts_lost", source=source, error=str(error))
