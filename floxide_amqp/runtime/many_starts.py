"""Starting many runs by one call: all are checked before the first is stored, and then stored a part at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.runtime.dedupe import Claimed, DedupeKey, KeyedStart, claim_all, note_started, renamed
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.start import Start
from floxide_amqp.runtime.starting import REFUSED, CheckedStart, check_start, request_of, store_all

PART = 2_000
"""Runs of one call that are stored at once: several groups of commits, so that one is always on its way."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OneOfMany:
    """A start that was checked, and what tells it apart.

    Attributes:
        key: None where nothing but its id does.
        is_named: Whether its id is the caller's.
    """

    start: CheckedStart
    key: DedupeKey | None
    is_named: bool


async def check_all(
    services: Services, graph: Graph, starts: Iterable[Start[Any]], new_run_id: Callable[[], RunId]
) -> list[OneOfMany]:
    """Check starts and encode them, in their order.

    Of each only what is stored is kept: what a generator makes is let go at once.

    Args:
        services: The process's parts.
        graph: Their workflow, compiled.
        starts: Taken once, a part at a time; others have their turn in between.
        new_run_id: Makes an id for one that has none.

    Raises:
        InvalidRunIdError, CodecError, DefinitionError: As `check_start`, for the first that cannot be one.
    """
    checked: list[OneOfMany] = []
    for part in _parts(starts):
        checked += [_checked(services, graph, each, new_run_id) for each in part]
        await asyncio.sleep(0)
    return checked


async def store_parts(services: Services, graph: Graph, starts: Sequence[OneOfMany], reply_to: str) -> list[Claimed]:
    """Store runs and send their first messages, a part at a time; return which run each start is about.

    So many at a time that the commits and messages of a hundred thousand do not fill the memory. A run is there, and
    its times begin, when its part is stored.

    Args:
        services: The process's parts.
        graph: Their workflow, compiled.
        starts: What `check_all` returned.
        reply_to: Where their ends are told.

    Raises:
        RunConflictError, RunDeletedError: As `starting.store`, for one of them; the others are started all the same.
        Exception: What else went wrong with one, such as a store that is away; those behind it are not started.
    """
    await services.session.learn_times(each.start.run_id for each in starts)
    found: list[Claimed] = []
    refused: Exception | None = None
    for part in _parts(starts):
        keyed = [KeyedStart(request_of(services, graph, one.start, reply_to), one.key, one.is_named) for one in part]
        claimed = await claim_all(services, keyed)
        requests = [renamed(each.request, claim) for each, claim in zip(keyed, claimed, strict=True)]
        new = [request for request, claim in zip(requests, claimed, strict=True) if not claim.is_there]
        await services.told_versions.tell(graph, [request.header.run_id for request in new])
        try:
            await store_all(services, graph, new)
        except REFUSED as error:
            refused = refused or error
        else:
            await note_started(services, claimed)
        found += claimed
    if refused is not None:
        raise refused
    return found


def _checked(services: Services, graph: Graph, start: Start[Any], new_run_id: Callable[[], RunId]) -> OneOfMany:
    checked = check_start(
        services, graph, start.input, start.context, RunId(start.run_id or new_run_id()),
        attributes=start.attributes, times=start.times, priority=start.priority,
    )  # fmt: skip
    return OneOfMany(checked, start.dedupe, is_named=bool(start.run_id))


def _parts(all_: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(all_)
    while part := list(islice(rest, PART)):
        yield part
