"""Each worker's part: describes the versions of the workflows that it has; the leader's: forgets those without runs."""

from __future__ import annotations

import asyncio
from typing import Final

from floxide_amqp.core.descriptions import describe_graph, encode_description
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys

_log = get_logger("floxide_amqp.versions")

PRUNE_EVERY_SECONDS: Final = 3_600.0
"""Between two looks for versions that no worker has and no run needs any more."""

OPEN: Final = tuple(status for status in RunStatus if not status.is_terminal and status is not RunStatus.WAITING)
"""Statuses of runs that have not ended, as they are stored."""

MAY_GO_ON: Final = (*OPEN, RunStatus.FAILED)
"""Statuses of runs that go on, or that somebody may resume."""

PAGE: Final = 5_000
"""Entries of runs read in one round trip."""


class DescribedVersions:
    """Keeps the descriptions of versions on one server of the store.

    Args:
        services: The process's parts, with the part of the store on one server.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._left = list(services.registry.graphs.values())
        self._pruned_at: float | None = None

    async def put(self) -> None:
        """Describe the versions that were not described yet."""
        while self._left:
            graph = self._left[-1]
            description = encode_description(describe_graph(graph))
            if await self._services.versions.put(graph.workflow, graph.version, description):
                _log.warning("workflow.changed", workflow=graph.workflow, version=graph.version)
            self._left.pop()

    async def prune(self) -> None:
        """Forget, now and then, the versions that no worker has and that no run has that may go on.

        Not in the first round: workers that start beside this one have not said yet what they have.
        """
        now = asyncio.get_running_loop().time()
        self._pruned_at = now if self._pruned_at is None else self._pruned_at
        if now - self._pruned_at < PRUNE_EVERY_SECONDS:
            return
        self._pruned_at, services = now, self._services
        served = {name for record in await services.liveness.all() for name in record.workflows}
        left = [(w, v) for w, v in await services.versions.all() if f"{w}@{v}" not in served]
        needed = await needed_versions(services) if left else None
        for workflow, version in left:
            if needed is not None and (workflow, version) not in needed:
                await services.versions.remove(workflow, version)
                _log.info("workflow.forgotten", workflow=workflow, version=version)


async def needed_versions(services: Services) -> set[tuple[str, str]] | None:
    """Return the versions of runs that may go on; None where the list does not say it of one."""
    found: set[tuple[str, str]] = set()
    for status in MAY_GO_ON:
        after = ""
        while True:
            wanted = IndexRange(keys.runs_with_status(status), after=after, limit=PAGE)
            page = await services.session.scan(wanted)
            for entry in page:
                listed = keys.listed_version(entry.value)
                if listed is None:
                    return None
                found.add(listed)
            if len(page) < PAGE:
                break
            after = page[-1].entry
    return found
