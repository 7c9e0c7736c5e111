"""Each worker's part: describes the versions of the workflows that it has; the leader's: forgets those without runs."""

from __future__ import annotations

import asyncio

from floxide_amqp.core.descriptions import describe_graph, encode_description
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime import told_versions
from floxide_amqp.runtime.runs_by_status import MAY_GO_ON, list_by_status
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.versions")


class DescribedVersions:
    """Keeps the descriptions of versions on one server of the store.

    Args:
        services: The process's parts, with the part of the store on one server.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._left = list(services.registry.graphs.values())
        self._pruned_at: float | None = None
        self._unneeded: dict[tuple[str, str], int] = {}

    async def put(self) -> None:
        """Describe the versions that were not described yet."""
        while self._left:
            graph = self._left[-1]
            description = encode_description(describe_graph(graph))
            if await self._services.versions.put(graph.workflow, graph.version, description):
                _log.warning("workflow.changed", workflow=graph.workflow, version=graph.version)
            self._left.pop()

    async def prune(self) -> None:
        """Forget, now and then, the versions that no worker has, no run that may go on, and no schedule.

        Only what was needed at no two looks in a row, and was not told meanwhile: workers that start beside this one
        have not said yet what they have, and who starts runs says now and then what they are of.
        """
        now = asyncio.get_running_loop().time()
        self._pruned_at = now if self._pruned_at is None else self._pruned_at
        if now - self._pruned_at < told_versions.PRUNE_EVERY_SECONDS:
            return
        self._pruned_at, services = now, self._services
        unneeded = await self._find_unneeded()
        for (workflow, version), stamp in unneeded.items():
            was_unneeded = self._unneeded.get((workflow, version)) == stamp
            if was_unneeded and await services.versions.remove(workflow, version, stamp=stamp):
                _log.info("workflow.forgotten", workflow=workflow, version=version)
        self._unneeded = unneeded

    async def _find_unneeded(self) -> dict[tuple[str, str], int]:
        """Return the versions that nobody needs, with the stamps that their descriptions had before that was asked."""
        services = self._services
        stamps = await services.versions.stamps()
        served = {name for record in await services.liveness.all() for name in record.workflows}
        left = {(w, v): stamp for (w, v), stamp in stamps.items() if f"{w}@{v}" not in served}
        needed = await needed_versions(services) if left else set[tuple[str, str]]()
        return {} if needed is None else {each: stamp for each, stamp in left.items() if each not in needed}


async def needed_versions(services: Services) -> set[tuple[str, str]] | None:
    """Return the versions of runs that may go on, or that schedules start; None where that is not known of one."""
    found = {run.version async for run in list_by_status(services.session, MAY_GO_ON)}
    scheduled = None if None in found else await _scheduled_versions(services.whole)
    return None if scheduled is None else scheduled | {version for version in found if version is not None}


async def _scheduled_versions(whole: Services) -> set[tuple[str, str]] | None:
    """Return the versions that schedules were put with, on whichever server; None where one cannot be read now."""
    found, after = set[tuple[str, str]](), ""
    try:
        while names := await whole.schedules.names(after=after):
            for name in names:
                stored = await whole.schedules.find(name)
                if stored is not None:
                    found.add((stored.spec.template.workflow, stored.spec.template.version))
            after = names[-1]
    except (UnreadableRecordError, *WAITED_FOR):
        return None
    return found
