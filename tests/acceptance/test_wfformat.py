"""The importer of scientific workflow traces: each task runs once, behind those it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.wfformat.__main__ import run
from examples.wfformat.generated import generated_tasks, write_trace
from examples.wfformat.trace import Task, TraceError, check_order, read_trace

MANY = 2_000


@pytest.mark.timeout(300)
async def test_a_trace_of_2000_tasks_runs_each_once_behind_those_it_waits_for(tmp_path: Path) -> None:
    tasks = generated_tasks(MANY)
    write_trace(tmp_path / "trace.json", tasks)
    read = read_trace(tmp_path / "trace.json")
    assert {task.id: set(task.parents) for task in read} == {task.id: set(task.parents) for task in tasks}
    ended = await run(read)
    assert sorted(ended) == sorted(task.id for task in tasks)
    check_order(tasks, ended)


def test_an_order_in_which_tasks_did_not_wait_or_ended_twice_is_refused() -> None:
    tasks = [Task("a", (), 0.0), Task("b", ("a",), 0.0)]
    check_order(tasks, ["a", "b"])
    for ended, problem in (
        (["b", "a"], "b ended before a, which it waits for"),
        (["a", "a"], "a ended more than once"),
        (["a"], "1 tasks ended of 2, and b did not"),
    ):
        with pytest.raises(TraceError, match=problem):
            check_order(tasks, ended)


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
