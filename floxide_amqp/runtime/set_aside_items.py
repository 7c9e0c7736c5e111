"""Items that were set aside, for whoever looks after a deployment: list them, put them on their way again."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.ids import RunId
from floxide_amqp.runtime import requeuing
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.requeuing import Requeued, SetAsideItem
from floxide_amqp.runtime.services import Services


class SetAsideItems:
    """Items of which what is stored cannot be decoded or migrated by the code that met them.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(
        self, *, workflow: str | None = None, node: str | None = None, limit: int = 100
    ) -> Sequence[SetAsideItem]:
        """Return items that were set aside.

        Args:
            workflow: Only items of this workflow.
            node: Only items of this node.
            limit: How many at most; at least 1.
        """
        queues = await known_queues(self._services)
        return await requeuing.list_set_aside(self._services, queues, workflow=workflow, node=node, limit=limit)

    async def requeue(
        self, *, workflow: str | None = None, node: str | None = None, reason: str = "", by: str = ""
    ) -> Requeued:
        """Put all of them on their way again, once code is deployed that reads them; noted in their runs' audit logs.

        What cannot be decoded then is set aside once more.

        Args:
            workflow: Only items of this workflow.
            node: Only items of this node.
            reason: Why.
            by: Who wants it.
        """
        queues, request = await known_queues(self._services), Request(by=by, reason=reason)
        return await requeuing.requeue(self._services, queues, workflow=workflow, node=node, request=request)

    async def requeue_run(self, run_id: str, *, item_id: str | None = None, reason: str = "", by: str = "") -> Requeued:
        """Put those of one run on their way again, or one of them.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: It is over.
            WorkItemNotFoundError: The item named was not set aside.
        """
        request = Request(by=by, reason=reason)
        return await requeuing.requeue_run(self._services, RunId(run_id), item_id=item_id, request=request)


async def known_queues(services: Services) -> tuple[str, ...]:
    """Return the task queues of this application's workflows and of all workers, those that were included, sorted."""
    served = {queue for record in await services.liveness.all() for queue in record.queues}
    return tuple(sorted(served | {*services.registry.queues(), *await services.task_queues.known()}))
