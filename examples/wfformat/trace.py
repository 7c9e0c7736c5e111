"""A trace in WfFormat 1.5: tasks with parents and children, and how long each ran.

Source:
    WfCommons, "WfFormat: The WfCommons JSON schema", version 1.5.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class TraceError(Exception):
    """A file is no trace, or its tasks contradict each other."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a trace: what it waits for, and how long it ran in seconds."""

    id: str
    parents: tuple[str, ...]
    seconds: float


def read_trace(path: Path) -> list[Task]:
    """Return the tasks of a trace, in the order of the file.

    Raises:
        TraceError: It is none; says what is wrong.
    """
    try:
        document = json.loads(path.read_text())
        workflow = document["workflow"]
        specified: list[Any] = workflow["specification"]["tasks"]
        executed: list[Any] = workflow.get("execution", {}).get("tasks", [])
        seconds = {str(each["id"]): float(each["runtimeInSeconds"]) for each in executed}
        parents: dict[str, dict[str, None]] = {str(each["id"]): {} for each in specified}
        if len(parents) != len(specified):
            raise TraceError(f"{path}: two tasks have the same id.")
        for each in specified:
            parents[each["id"]] |= dict.fromkeys(map(str, each.get("parents", ())))
            for child in each.get("children", ()):
                parents[child][each["id"]] = None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TraceError(f"{path} is no trace in WfFormat 1.5: {type(error).__name__}: {error}") from error
    unknown = sorted({parent for known in parents.values() for parent in known} - set(parents))
    if unknown:
        raise TraceError(f"{path}: task {unknown[0]!r} is a parent of others, and is not there.")
    return [Task(name, tuple(known), seconds.get(name, 0.0)) for name, known in parents.items()]


def check_order(tasks: Sequence[Task], ended: Sequence[str]) -> None:
    """Check that each task ended once, and none before one that it waits for.

    Raises:
        TraceError: It is not so; names a task of which it is not.
    """
    place = {task_id: number for number, task_id in enumerate(ended)}
    if len(place) != len(ended):
        raise TraceError(f"{Counter(ended).most_common(1)[0][0]} ended more than once.")
    missing = sorted({task.id for task in tasks} - set(place))
    if missing or len(ended) != len(tasks):
        raise TraceError(
            f"{len(ended)} tasks ended of {len(tasks)}, and {missing[0] if missing else 'others'} did not."
        )
    for task in tasks:
        for parent in task.parents:
            if place[parent] > place[task.id]:
                raise TraceError(f"{task.id} ended before {parent}, which it waits for.")
