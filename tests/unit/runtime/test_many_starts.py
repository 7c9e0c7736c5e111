"""Starting many runs by one call: a few thousand at a time, and what one of them meets keeps no other from starting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from floxide_amqp import Floxide, RunConflictError, Start, StoreUnavailableError, Workflow, node
from floxide_amqp.runtime import starting


@node
async def double(number: int) -> int:
    return 2 * number


class Doubling(Workflow[int, int]):
    start = double


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "STORED_AT_ONCE", 2)


async def test_no_more_runs_are_on_their_way_to_the_store_than_are_stored_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, now, most = starting.store, 0, 0

    async def counted(*args: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0)
            return await store(*args)
        finally:
            now -= 1

    monkeypatch.setattr(starting, "store", counted)
    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        handles = await orchestrator.start_many(Doubling, [Start(number) for number in range(7)])
        assert [await handle.result(timeout=20) for handle in handles] == [0, 2, 4, 6, 8, 10, 12]
    assert most == 2


async def test_a_run_whose_id_is_taken_keeps_none_behind_it_from_starting() -> None:
    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        await orchestrator.start(Doubling, 100, run_id="n-1")
        with pytest.raises(RunConflictError, match="n-1"):
            await orchestrator.start_many(Doubling, [Start(number, run_id=f"n-{number}") for number in range(6)])
        assert [await orchestrator.handle(Doubling, f"n-{n}").result(timeout=20) for n in range(6)] == [
            0, 200, 4, 6, 8, 10,
        ]  # fmt: skip


async def test_where_the_store_is_away_it_is_not_waited_for_once_more_with_each_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    async def away(_: Any, request: starting.StartRequest) -> None:
        tried.append(request.header.run_id)
        raise StoreUnavailableError(store="memory:", reason="away")

    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        monkeypatch.setattr(starting, "store", away)
        with pytest.raises(StoreUnavailableError):
            await orchestrator.start_many(Doubling, [Start(number, run_id=f"n-{number}") for number in range(6)])
    assert tried == ["n-0", "n-1"]
