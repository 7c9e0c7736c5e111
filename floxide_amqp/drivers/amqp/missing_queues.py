"""Task queues that a message found missing, declared by its publisher.

On a fresh or a wiped broker the first message for a task queue would come back, and its run would wait until a worker
has subscribed and a timer has published again. A publisher that may declare the queue does so and need not wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.drivers.amqp.topology import Names, ensure_work_queue
from floxide_amqp.exceptions import BrokerError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

REFUSED_SECONDS: Final = 30.0
"""How long a queue that could not be declared is left alone: permissions and clashes change seldom."""


DELETED_SECONDS: Final = 0.25
"""A queue that is missing may have been deleted a moment ago. Its consumers must hear of that before there is another
one, for RabbitMQ would move them over and forget to deliver (`floxide_amqp.drivers.amqp.consumer_lane`)."""


class MissingQueues:
    """Declares task queues, each once however many messages miss it."""

    def __init__(self, names: Names) -> None:
        """Know nothing yet."""
        self._names = names
        self._declaring: dict[str, asyncio.Task[bool]] = {}
        self._refused_until: dict[str, float] = {}

    async def declare(self, session: Session, queue: str) -> bool:
        """Declare a task queue as far as the user may, and return whether publishing again has a chance."""
        if asyncio.get_running_loop().time() < self._refused_until.get(queue, 0.0):
            return False
        task = self._declaring.get(queue)
        if task is None:
            task = self._declaring[queue] = session.keep(self._declare(session, queue))
            task.add_done_callback(lambda _: self._declaring.pop(queue, None))
        await asyncio.wait({task})
        return not task.cancelled() and task.result()

    async def _declare(self, session: Session, queue: str) -> bool:
        await asyncio.sleep(DELETED_SECONDS)
        try:
            await ensure_work_queue(session, self._names, queue)
        except BrokerError as error:
            if error.retryable:
                return True  # the connection broke; the next one will tell
            self._refused_until[queue] = asyncio.get_running_loop().time() + REFUSED_SECONDS
            _logger.warning("broker.task_queue_missing", queue=queue, problem=str(error))
            return False
        _logger.info("broker.task_queue_declared", queue=queue)
        return True
