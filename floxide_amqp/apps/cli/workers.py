"""The command that shows the workers."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, command
from floxide_amqp.apps.cli.printing import as_json, print_table, print_text
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.views import WorkerInfo


@command()
def workers(frame: Frame, *, json: JsonOption = False) -> None:
    """List the workers: how they are, their labels, and the task queues they serve.

    A queue whose nodes ask for labels is shown as queue/label.
    """

    async def look(orchestrator: Orchestrator) -> Sequence[WorkerInfo]:
        return await orchestrator.workers()

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json(found))
        return
    print_table(
        ("WORKER", "STATUS", "LIVENESS", "LABELS", "QUEUES", "WORKFLOWS", "IN HAND", "DONE", "LAST BEAT"),
        [
            (
                each.worker_id, each.status, each.liveness.value, ", ".join(each.labels), ", ".join(each.queues),
                ", ".join(each.workflows), len(each.current_items), each.items_done, each.last_beat_at,
            )
            for each in found
        ],
    )  # fmt: skip
