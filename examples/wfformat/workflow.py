"""From a trace to a workflow: each task is a node that waits for its parents, with ``all_of_each``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from examples.wfformat.trace import Task, TraceError
from floxide_amqp import Append, Context, GraphBuilder, Node, Workflow, WorkflowCtx, all_of_each, node


class Progress(Context):
    """What the tasks of one run leave: their ids, in the order in which they ended."""

    ended: Annotated[list[str], Append()] = []  # noqa: RUF012 - defaults are copied per run


class TaskNode(Node[list[str], str]):
    """One task: it takes as long as it did in the trace, times the run's scale."""

    def __init__(self, task: Task, scale: float) -> None:
        self.name = node_name(task.id)
        self._task = task
        self._seconds = task.seconds * scale

    async def process(self, ctx: WorkflowCtx[Progress], input: list[str], /) -> str:
        if set(self._task.parents) - set(input) and self._task.parents:
            raise TraceError(f"{self._task.id} began before its parents had ended")
        await ctx.sleep(self._seconds)
        ctx.state.ended.append(self._task.id)
        return self._task.id


@node
async def begin(name: str) -> str:
    return name


@node
async def finish(ended: list[str]) -> int:
    return len(ended)


def node_name(task_id: str) -> str:
    """Return the name of a task's node: ids may have characters that names of nodes may not."""
    return "task " + "".join(char if char.isalnum() or char in "-_." else "_" for char in task_id)


def workflow_of(tasks: Sequence[Task], *, name: str = "Trace", scale: float = 0.0) -> type[Workflow[Any, Any, Any]]:
    """Return a workflow that runs a trace: it takes any text, and returns how many of the last tasks ended.

    Args:
        tasks: The tasks; each of them waits for its parents.
        name: The workflow's name.
        scale: How long a second of the trace takes, in seconds.
    """
    nodes = {task.id: TaskNode(task, scale) for task in tasks}
    parents = {parent for task in tasks for parent in task.parents}
    builder = GraphBuilder(begin, output=int, name=name, context=Progress)
    for task in tasks:
        sources: list[Any] = [nodes[parent] for parent in task.parents]
        builder.add(all_of_each(sources or [begin]) >> nodes[task.id])
    builder.add(all_of_each([made for name, made in nodes.items() if name not in parents]) >> finish)
    return builder.build()
