"""One worker per name: two live ones would take each other's items for their own.

A name is held by beating under it. Who starts finds out whether the name's last holder lives: its farewell, its grave
or its process that is gone from this very machine free the name at once; else its heartbeat is watched. What moves is
alive, and the newcomer is refused; what stands still for as long as a death takes is dead, and the name is taken over.
Each beat checks that nobody wrote the record since the one before, so of two who start at once only one gets the name,
and a holder that was given up and lives after all finds out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.exceptions import StoreError, WorkerNameLostError, WorkerNameTakenError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.deaths import LEAST_OWN_BEATS, is_gone
from floxide_amqp.stores.liveness import DEAD, LivenessStore

_log = get_logger("floxide_amqp.heartbeat")

MOST_TRIES = 5
"""Tries to write one beat: only burials come between, and nobody is buried twice at once."""


class Name:
    """One worker's hold on its name.

    Args:
        liveness: Where heartbeats are.
        dead_after_seconds: Silence that counts as death.
        poll_seconds: Between two looks at a holder's heartbeat.
        is_stopped: Whether nobody wants the name any more.
    """

    def __init__(
        self,
        liveness: LivenessStore,
        dead_after_seconds: float,
        poll_seconds: float,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._liveness = liveness
        self._dead_after = dead_after_seconds
        self._poll = poll_seconds
        self._is_stopped = is_stopped
        self._version = 0

    async def take(self, record: WorkerRecord) -> None:
        """Write the first beat under the name, once it is free.

        Args:
            record: That beat.

        Raises:
            WorkerNameTakenError: Another worker of this name is alive.
            StoreError: The store could not be asked, or could not take it.
        """
        watched: WorkerRecord | None = None
        looks, since = 0, 0.0
        while not self._is_stopped():
            found, version = await self._liveness.find(record.worker_id)
            now = asyncio.get_running_loop().time()
            if found is not None and found.life and found.life == record.life:  # only the reply was lost
                self._version = version
                return
            if found is not None and not _is_free(found):
                if watched is None:
                    watched, looks, since = found, 0, now
                    _log.info(
                        "worker.name_watched", worker_id=found.worker_id, host=found.host, pid=found.pid,
                        seconds=self._dead_after,
                    )  # fmt: skip
                if (found.life, found.beat) != (watched.life, watched.beat):
                    raise WorkerNameTakenError(worker_id=found.worker_id, host=found.host, pid=found.pid)
                if now - since < self._dead_after or looks < LEAST_OWN_BEATS:
                    looks += 1
                    await asyncio.sleep(self._poll)
                    continue
            if await self._liveness.beat_after(record, version):
                self._version = version + 1
                if found is not None:
                    _log.info("worker.name_taken_over", worker_id=found.worker_id, host=found.host, pid=found.pid)
                return

    async def beat(self, record: WorkerRecord) -> None:
        """Write another beat under the name.

        Raises:
            WorkerNameLostError: Another worker has taken the name over.
            StoreError: The store could not take it.
        """
        for _ in range(MOST_TRIES):
            if await self._liveness.beat_after(record, self._version):
                self._version += 1
                return
            found, self._version = await self._liveness.find(record.worker_id)
            if found is not None and found.life != record.life and found.status != DEAD:
                raise WorkerNameLostError(worker_id=found.worker_id, host=found.host, pid=found.pid)
        raise StoreError(f"The heartbeat of worker {record.worker_id!r} could not be written: its record never rests.")

    async def leave(self, record: WorkerRecord) -> None:
        """Say goodbye, unless somebody else has the name.

        Raises:
            StoreError: The store could not take it.
        """
        found, _ = await self._liveness.find(record.worker_id)
        if found is None or found.life == record.life:
            await self._liveness.say_goodbye(record)


def _is_free(record: WorkerRecord) -> bool:
    return record.status == DEAD or is_gone(record)
