"""What a client may ask about the runs that a run has started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.instants import at
from floxide_amqp.core.kin import ChildRecord, OnClose
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.services import Services

MAX_PAGE = 1_000
"""Children on a page at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildInfo:
    """A child of a run, as far as the run has heard of it.

    Attributes:
        run_id: The child.
        workflow, version: What it is a run of.
        node, item_id: What started it.
        status: How it ended; None while it goes on.
        failure: Why it failed or was cancelled, in one line; may be empty.
        on_close: What becomes of it when its parent ends first.
        started_at: When the letter was written that starts it.
        ended_at: When it ended; None while it goes on.
    """

    run_id: str
    workflow: str
    version: str
    node: str
    item_id: str
    status: RunStatus | None
    failure: str
    on_close: OnClose
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPage:
    """A page of a run's children, in the order in which they were started; `next_cursor` is empty on the last."""

    children: Sequence[ChildInfo]
    next_cursor: str


async def list_children(services: Services, run_id: RunId, *, limit: int, cursor: str) -> ChildPage:
    """Return a page of a run's children.

    Raises:
        RunNotFoundError: There is no such run.
    """
    if not cursor:
        await services.runs.load(run_id)
    found, following = await services.children.page(run_id, after=cursor, limit=max(1, min(limit, MAX_PAGE)))
    return ChildPage(children=[_child_info(child) for child, _ in found], next_cursor=following)


def _child_info(child: ChildRecord) -> ChildInfo:
    failure = child.reason
    if child.error is not None:
        where = f"{child.failed_node}: " if child.failed_node else ""
        failure = f"{where}{child.error.error_type}: {child.error.message}"
    return ChildInfo(
        run_id=child.run_id, workflow=child.workflow, version=child.version, node=child.node, item_id=child.item_id,
        status=child.status, failure=failure, on_close=child.on_close, started_at=at(child.started_at_ms),
        ended_at=at(child.ended_at_ms) if child.ended_at_ms else None,
    )  # fmt: skip
