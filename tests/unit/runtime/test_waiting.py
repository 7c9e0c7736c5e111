from __future__ import annotations

import asyncio

import pytest

from floxide_amqp import Floxide, NoContext, RunFailedError, Start, Timeouts, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import RunState
from floxide_amqp.drivers.memory.control import MemoryControlBus
from floxide_amqp.ports.key_value import Entry
from floxide_amqp.runtime import waiting
from floxide_amqp.stores.runs import RunStore

NEVER_LOOKS = Timeouts(result_backstop=600)
"""A waiter that is not woken hangs, instead of looking at the store every other second."""


class Door:
    def __init__(self) -> None:
        self.is_open = False


DOOR = Door()


@node
async def enter(ctx: WorkflowCtx[NoContext], name: str) -> str:
    if not DOOR.is_open:
        raise RuntimeError("closed")
    return f"{name} is in"


class Entering(Workflow[str, str]):
    start = enter


async def test_in_one_process_a_client_hears_the_end_of_a_run_that_another_client_started() -> None:
    DOOR.is_open = False
    app = Floxide(workflows=[Entering], timeouts=NEVER_LOOKS)
    async with app.orchestrator() as first:
        run = await first.start(Entering, "Ada")
        with pytest.raises(RunFailedError):
            await run.result(timeout=20)
    DOOR.is_open = True
    async with app.orchestrator() as second:
        handle = second.handle(Entering, run.run_id)
        await handle.resume()
        assert await handle.result(timeout=20) == "Ada is in"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[RunId]:
    """Whom waiters have looked at the store for."""
    seen: list[RunId] = []
    load_end = RunStore.load_end

    async def counted(self: RunStore, run_id: RunId) -> tuple[RunState, tuple[Entry, ...] | None]:
        seen.append(run_id)
        return await load_end(self, run_id)

    monkeypatch.setattr(RunStore, "load_end", counted)
    return seen


async def test_who_waits_for_a_run_just_started_looks_once_when_it_has_ended(looks: list[RunId]) -> None:
    DOOR.is_open = True
    async with Floxide(workflows=[Entering], timeouts=NEVER_LOOKS).orchestrator() as orchestrator:
        run = await orchestrator.start(Entering, "Ada")
        assert await run.result(timeout=20) == "Ada is in"
        assert looks == [run.run_id]
        assert await run.result(timeout=20) == "Ada is in"  # now it has ended: nobody tells of it once more
        again = await orchestrator.start(Entering, "Ada", run_id=run.run_id)  # one with a name may have ended before
        assert await again.result(timeout=20) == "Ada is in"


async def test_who_may_have_missed_the_end_of_a_run_just_started_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(self: MemoryControlBus, routing_key: str, body: bytes) -> None:
        for buffer in self._subscribers:
            buffer.mark_gap()
        lost.set()

    DOOR.is_open, lost = True, asyncio.Event()
    monkeypatch.setattr(MemoryControlBus, "announce", lose)
    async with Floxide(workflows=[Entering], timeouts=NEVER_LOOKS).orchestrator() as orchestrator:
        run = await orchestrator.start(Entering, "Ada")
        await lost.wait()
        assert await run.result(timeout=20) == "Ada is in"


async def test_a_client_remembers_of_so_many_runs_at_most_that_it_has_heard_nothing(
    monkeypatch: pytest.MonkeyPatch, looks: list[RunId]
) -> None:
    monkeypatch.setattr(waiting, "MOST_SILENT", 1)
    DOOR.is_open = True
    async with Floxide(workflows=[Entering], timeouts=NEVER_LOOKS).orchestrator() as orchestrator:
        older, newer = await orchestrator.start_many(Entering, [Start("Ada"), Start("Bob")])
        assert [await older.result(timeout=20), await newer.result(timeout=20)] == ["Ada is in", "Bob is in"]
    assert looks.count(RunId(older.run_id)) >= 1
    assert looks.count(RunId(newer.run_id)) == 1


async def test_who_hears_nothing_of_an_end_looks_at_the_store_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(self: MemoryControlBus, routing_key: str, body: bytes) -> None:
        del self, routing_key, body

    DOOR.is_open = True
    monkeypatch.setattr(MemoryControlBus, "announce", say_nothing)
    async with Floxide(workflows=[Entering], timeouts=NEVER_LOOKS).orchestrator() as orchestrator:
        run = await orchestrator.start(Entering, "Ada")
        began = asyncio.get_running_loop().time()
        assert await run.result() == "Ada is in"
        assert asyncio.get_running_loop().time() - began >= NEVER_LOOKS.result_backstop


async def test_a_run_begins_while_the_workers_are_still_being_told_that_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(self: MemoryControlBus, body: bytes) -> None:
        del self, body
        told.set()
        await asyncio.Event().wait()

    DOOR.is_open, told = True, asyncio.Event()
    monkeypatch.setattr(MemoryControlBus, "broadcast", hang)
    async with Floxide(workflows=[Entering], timeouts=NEVER_LOOKS).orchestrator() as orchestrator:
        run = await orchestrator.start(Entering, "Ada")
        assert await run.result(timeout=20) == "Ada is in"
        assert told.is_set()
