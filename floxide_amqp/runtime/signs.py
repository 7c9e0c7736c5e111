"""A worker's heartbeats: one on each server of its store, each kept up for itself.

Whoever looks after the runs of a server sees there whether a worker lives. A server that is out of reach holds up
neither the others' heartbeats nor a worker that starts; its own begins when it can be reached.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.exceptions import ConfigurationError, StoreError, WorkerNameLostError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.naming import Name
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.session import Session

_log = get_logger("floxide_amqp.heartbeat")


class Signs:
    """Writes a worker's heartbeats.

    Args:
        session: The store.
        next_record: Returns the heartbeat to write next.
        on_beat: Called after each that got through.
        interval_seconds: Between two on one server.
        dead_after_seconds: Silence of another worker of this name that counts as its death.
        is_stopped: Whether nobody wants the name any more.

    Attributes:
        succeeded: Beats that got through, by the number of the part of the session.
    """

    def __init__(
        self,
        session: Session,
        next_record: Callable[[], WorkerRecord],
        on_beat: Callable[[], None],
        *,
        interval_seconds: float,
        dead_after_seconds: float,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.succeeded: Counter[int] = Counter()
        self._next_record = next_record
        self._on_beat = on_beat
        self._is_stopped = is_stopped
        self._names = [
            Name(LivenessStore(part), dead_after_seconds, interval_seconds, is_stopped) for part in session.parts
        ]
        self._begun: set[int] = set()

    async def begin(self) -> None:
        """Write the first beats, once the name is free.

        Raises:
            WorkerNameTakenError: Another worker of this name is alive.
            StoreError: No server could take a beat.
        """
        first = [self._begin(number) for number in range(len(self._names))]
        errors = [error for error in await asyncio.gather(*first, return_exceptions=True) if error is not None]
        for error in errors:
            if not isinstance(error, StoreError) or len(errors) == len(self._names):
                raise error
            _log.warning("heartbeat.failed", worker_id=self._next_record().worker_id, error=str(error))

    async def keep_up(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Go on beating until stopped, with pauses between.

        Raises:
            WorkerNameLostError: Another worker has taken the name over.
            WorkerNameTakenError: One has it on a server that could not be reached before.
        """
        beats = [asyncio.create_task(self._keep_up(number, pause)) for number in range(len(self._names))]
        try:
            await asyncio.gather(*beats)
        finally:
            for beat in beats:
                beat.cancel()
            await asyncio.gather(*beats, return_exceptions=True)

    async def leave(self) -> None:
        """Say goodbye, where nobody else has the name.

        Raises:
            StoreError: A server could not be told; what is wrong with others is logged.
        """
        left = [self._names[number].leave(self._next_record()) for number in sorted(self._begun)]
        errors = [error for error in await asyncio.gather(*left, return_exceptions=True) if error is not None]
        for error in errors[1:]:
            _log.warning("heartbeat.failed", worker_id=self._next_record().worker_id, error=str(error))
        if errors:
            raise errors[0]

    async def _begin(self, number: int) -> None:
        await self._names[number].take(self._next_record())
        if not self._is_stopped():
            self._begun.add(number)
            self._note(number)

    async def _keep_up(self, number: int, pause: Callable[[], Awaitable[object]]) -> None:
        while not self._is_stopped():
            await pause()
            if self._is_stopped():
                return
            try:
                if number in self._begun:
                    await self._names[number].beat(self._next_record())
                    self._note(number)
                else:
                    await self._begin(number)
            except (WorkerNameLostError, ConfigurationError):
                raise
            except Exception as error:  # noqa: BLE001 - heartbeats that end in silence would look like a death
                _log.warning("heartbeat.failed", worker_id=self._next_record().worker_id, error=str(error))

    def _note(self, number: int) -> None:
        self.succeeded[number] += 1
        self._on_beat()
