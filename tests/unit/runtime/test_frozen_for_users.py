"""What users' code is handed is frozen when it runs, not for type checkers alone: writing to it is refused."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest

import floxide_amqp
from floxide_amqp import (
    BulkReport,
    Interceptor,
    Orchestrator,
    RunFailedError,
    RunHandle,
    Schedules,
    Sources,
    StartCall,
    StepCall,
    Transition,
    Workflow,
    node,
)
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

TOLD_AS_IT_GROWS = {BulkReport}
"""Dataclasses that say of themselves that they change: no type checker takes them for frozen either."""


def records_in(hint: object) -> Iterator[type]:
    """Yield the dataclasses of the package that an annotation names."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint.__module__.startswith("floxide_amqp."):
        yield hint
    parts = [*hint] if isinstance(hint, list | tuple) else get_args(hint)
    for part in parts:
        yield from records_in(part)


def handed_to_users() -> dict[str, type]:
    """Return the dataclasses that the package exports, and those that its exported methods take and return."""
    found = [each for each in vars(floxide_amqp).values() if isinstance(each, type)]
    for owner in (Orchestrator, RunHandle, Interceptor, Schedules, Sources):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_"):
                found += [each for hint in get_type_hints(method).values() for each in records_in(hint)]
    records = {each.__qualname__: each for each in found if dataclasses.is_dataclass(each) and dataclasses.fields(each)}
    return {name: each for name, each in records.items() if each not in TOLD_AS_IT_GROWS}


HANDED = handed_to_users()


def test_what_is_looked_at_has_what_orchestrators_and_interceptors_hand_over() -> None:
    assert HANDED.keys() >= {"StepCall", "StartCall", "RunInfo", "Message", "Quarantined", "ScheduleInfo", "SourceInfo"}


@pytest.mark.parametrize("name", sorted(HANDED))
def test_a_record_that_users_get_is_frozen_when_it_runs(name: str) -> None:
    record = object.__new__(HANDED[name])
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(HANDED[name])[0].name, "something else")


@node
async def double(x: int) -> int:
    return x * 2


class Doubling(Workflow[int, int]):
    start = double


class Meddler(Interceptor):
    """Writes to what it is handed."""

    def __init__(self, *, with_starts: bool) -> None:
        self.with_starts = with_starts

    async def start(self, call: StartCall, proceed: Callable[[], Awaitable[None]]) -> None:
        if self.with_starts:
            call.workflow = "Another"  # type: ignore[misc]  # what is tried here  # pyright: ignore[reportAttributeAccessIssue]
        await proceed()

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        call.input = 1000  # type: ignore[misc]  # what is tried here  # pyright: ignore[reportAttributeAccessIssue]
        return await proceed()


async def test_an_interceptor_that_writes_to_a_step_fails_it(cluster: MakeCluster) -> None:
    here = cluster(Doubling, interceptors=(Meddler(with_starts=False),))
    await here.start_worker()
    handle = await here.client().start(Doubling, 1, run_id="run")
    with pytest.raises(RunFailedError, match="cannot assign to field 'input'"):
        await handle.result(60)


async def test_an_interceptor_that_writes_to_a_start_fails_it_and_no_run_is_there(cluster: MakeCluster) -> None:
    here = cluster(Doubling, interceptors=(Meddler(with_starts=True),))
    client = here.client()
    with pytest.raises(dataclasses.FrozenInstanceError):
        await client.start(Doubling, 1, run_id="run")
    assert await client.services.runs.find("run") is None  # type: ignore[arg-type]
