"""The importer of scientific workflow traces: each task runs once, behind those it waits for."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from examples.wfformat.__main__ import run
from examples.wfformat.trace import Task, TraceError, read_trace

MANY = 2_000


def write_trace(path: Path, tasks: list[Task]) -> None:
    """Write tasks as a trace in WfFormat 1.5; every second one has its parents only as their child."""
    children: dict[str, list[str]] = {task.id: [] for task in tasks}
    for task in tasks[::2]:
        for parent in task.parents:
            children[parent].append(task.id)
    specified: list[dict[str, Any]] = [
        {
            "id": task.id, "name": task.id, "parents": [] if number % 2 == 0 else list(task.parents),
            "children": children[task.id],
        }
        for number, task in enumerate(tasks)
    ]  # fmt: skip
    executed = [{"id": task.id, "runtimeInSeconds": task.seconds} for task in tasks]
    workflow = {"specification": {"tasks": specified}, "execution": {"tasks": executed}}
    path.write_text(json.dumps({"name": "generated", "schemaVersion": "1.5", "workflow": workflow}))


def some_tasks(number: int) -> list[Task]:
    chance = random.Random(number)
    ids = [f"task/{place}_ID{place:07d}" for place in range(number)]
    tasks: list[Task] = []
    for place, task_id in enumerate(ids):
        near = ids[max(0, place - 100) : place]
        parents = chance.sample(near, min(len(near), chance.randint(0, 4)))
        tasks.append(Task(task_id, tuple(parents), chance.random()))
    return tasks


@pytest.mark.timeout(300)
async def test_a_trace_of_2000_tasks_runs_each_once_behind_those_it_waits_for(tmp_path: Path) -> None:
    tasks = some_tasks(MANY)
    write_trace(tmp_path / "trace.json", tasks)
    read = read_trace(tmp_path / "trace.json")
    assert {task.id: set(task.parents) for task in read} == {task.id: set(task.parents) for task in tasks}
    ended = await run(read)
    assert sorted(ended) == sorted(task.id for task in tasks)
    place = {task_id: number for number, task_id in enumerate(ended)}
    assert all(place[parent] < place[task.id] for task in tasks for parent in task.parents)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "is no trace in WfFormat 1.5: JSONDecodeError"),
        ("{}", "KeyError: 'workflow'"),
        ('{"workflow": {"specification": {"tasks": [{"id": "a", "parents": ["b"]}]}}}', "task 'b' is a parent"),
        ('{"workflow": {"specification": {"tasks": [{"id": "a"}, {"id": "a"}]}}}', "two tasks have the same id"),
    ],
)
def test_what_is_no_trace_is_said_to_be_none(tmp_path: Path, document: str, sentence: str) -> None:
    (tmp_path / "trace.json").write_text(document)
    with pytest.raises(TraceError, match=sentence):
        read_trace(tmp_path / "trace.json")
