"""One run seen from all sides: where it is, its context, what it waits for, what it may be found by, what is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime import queries, showing, views
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waits import what_it_waits_for

C_co = TypeVar("C_co", bound=Context, covariant=True)
C = TypeVar("C", bound=Context)

MOST_ITEMS = 100
"""Live items shown of one run; `Orchestrator.pending_work` pages through more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView(Generic[C_co]):
    """A run as it was while it was read: one that is at work may have gone on between one part and the next.

    Attributes:
        info: Status, times, attributes, why it failed, and what it waits for.
        context: Its context as merged so far; a copy.
        metrics: Its counters.
        live_items: Items that have not ended, up to 100 of them.
    """

    info: views.RunInfo
    context: C_co
    metrics: views.RunMetrics
    live_items: Sequence[views.WorkItemInfo]

    @property
    def status(self) -> RunStatus:
        """Where it is."""
        return self.info.status

    @property
    def attributes(self) -> Attributes:
        """What it may be found by."""
        return self.info.attributes


async def view_of(services: Services, run_id: RunId, kind: type[C]) -> RunView[C]:
    """Return a run seen from all sides.

    Args:
        services: The process's parts.
        run_id: The run.
        kind: The class of its context.

    Raises:
        RunNotFoundError: There is no such run.
    """
    run, attributes = await services.runs.load_with_attributes(run_id)
    waits, loaded, items = await asyncio.gather(
        what_it_waits_for(services, run),
        services.contexts.load(run.header, kind),
        queries.pending_work(services, run_id, start=0, limit=MOST_ITEMS),
    )
    context: C = loaded[0].view("query")
    return RunView(
        info=showing.run_info(run, waits, attributes.values), context=context, metrics=showing.metrics(run.counts),
        live_items=items,
    )  # fmt: skip
