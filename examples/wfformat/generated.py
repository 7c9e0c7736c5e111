"""Traces that nobody has recorded: tasks that wait for some of those before them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.wfformat.trace import Task

NEAR = 100
"""A task waits for some of so many before it."""

MOST_PARENTS = 4


def generated_tasks(number: int) -> list[Task]:
    """Return so many tasks, the same each time, in an order in which they could run."""
    chance = random.Random(number)
    ids = [f"task/{place}_ID{place:07d}" for place in range(number)]
    tasks: list[Task] = []
    for place, task_id in enumerate(ids):
        near = ids[max(0, place - NEAR) : place]
        parents = chance.sample(near, min(len(near), chance.randint(0, MOST_PARENTS)))
        tasks.append(Task(task_id, tuple(parents), chance.random()))
    return tasks


def write_trace(path: Path, tasks: Sequence[Task]) -> None:
    """Write tasks as a trace in WfFormat 1.5; every second one has its parents only as their child."""
    children: dict[str, list[str]] = {task.id: [] for task in tasks}
    for task in tasks[::2]:
        for parent in task.parents:
            children[parent].append(task.id)
    specified: list[dict[str, Any]] = [
        {
            "id": task.id,
            "name": task.id,
            "parents": [] if number % 2 == 0 else list(task.parents),
            "children": children[task.id],
        }
        for number, task in enumerate(tasks)
    ]
    executed = [{"id": task.id, "runtimeInSeconds": task.seconds} for task in tasks]
    workflow = {"specification": {"tasks": specified}, "execution": {"tasks": executed}}
    path.write_text(json.dumps({"name": "generated", "schemaVersion": "1.5", "workflow": workflow}))
