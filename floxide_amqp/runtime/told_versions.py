"""What a process that starts runs tells the store of them: workers of a newer version may lack the code of theirs.

That is a description of the version, and the task queues that it uses.

A description is forgotten after two looks between which no run and no worker needed it and nobody told it. Who starts
runs tells it anew in half that time: so it is there whenever a run is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

from floxide_amqp.core.descriptions import describe_graph, encode_description
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.runtime.registry import queues_of
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.task_queues import TaskQueueStore
from floxide_amqp.stores.versions import VersionStore

PRUNE_EVERY_SECONDS: Final = 3_600.0
"""Between two looks for versions that no worker has and no run needs any more."""


class ToldVersions:
    """The versions of which this process has started runs not long ago, by server.

    Args:
        session: The store.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told_at: dict[tuple[str, str, str], float] = {}
        self._telling: dict[tuple[str, str, str], asyncio.Task[None]] = {}

    async def tell(self, graph: Graph, run_ids: Iterable[RunId]) -> None:
        """Describe a version, and note its task queues, on the servers that are going to have some runs.

        There is nothing to do where that was done lately, and who comes while it is done waits for that: of a hundred
        first starts at once each would write what the others just have.

        What workers that have the version have written stays as it is.

        Raises:
            StoreUnavailableError: One of the servers is out of reach.
        """
        parts = {part.shard: part for part in map(self._session.beside, run_ids)}
        now = asyncio.get_running_loop().time()
        for shard, part in parts.items():
            version = (shard, graph.workflow, graph.version)
            told_at = self._told_at.get(version)
            if told_at is None or now - told_at >= PRUNE_EVERY_SECONDS / 2:
                if version not in self._telling:
                    telling = asyncio.create_task(self._tell(part, graph, now), name="floxide.client.versions")
                    self._telling[version] = telling
                    telling.add_done_callback(partial(self._told, version))
                await asyncio.shield(self._telling[version])

    async def _tell(self, part: Session, graph: Graph, now: float) -> None:
        description = encode_description(describe_graph(graph))
        await VersionStore(part).offer(graph.workflow, graph.version, description)
        await TaskQueueStore(part).note(queues_of(graph))
        self._told_at[part.shard, graph.workflow, graph.version] = now

    def _told(self, version: tuple[str, str, str], done: asyncio.Task[None]) -> None:
        del self._telling[version]
        if not done.cancelled():
            done.exception()  # those who wait get it; without any of them nobody would
