"""Starting many runs by one call: a few thousand at a time, and what one of them meets keeps no other from starting."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from floxide_amqp import CodecError, Floxide, RunConflictError, Start, StoreUnavailableError, Workflow, node
from floxide_amqp.runtime import many_starts, starting


@node
async def double(number: int) -> int:
    return 2 * number


class Doubling(Workflow[int, int]):
    start = double


@dataclass
class Thing:
    number: int


@node
async def count(thing: Thing) -> int:
    return thing.number


class Counting(Workflow[Thing, int]):
    start = count


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_starts, "PART", 2)


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


async def test_where_one_cannot_be_started_none_is_stored() -> None:
    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        starts: list[Any] = [*(Start(number) for number in range(5)), Start("five")]
        with pytest.raises(CodecError, match="must be int, but it is str"):
            await orchestrator.start_many(Doubling, starts)
        assert (await orchestrator.list_runs()).runs == []


async def test_inputs_that_are_made_as_they_are_taken_are_let_go_once_they_are_encoded() -> None:
    made, most = list[weakref.ref[Thing]](), 0

    def things() -> Iterator[Start[Thing]]:
        nonlocal most
        for number in range(20):
            thing = Thing(number)
            made.append(weakref.ref(thing))
            most = max(most, sum(each() is not None for each in made))
            yield Start(thing)

    async with Floxide(workflows=[Counting]).orchestrator() as orchestrator:
        assert len(await orchestrator.start_many(Counting, things())) == 20
    assert most <= 2 * many_starts.PART


async def test_the_times_of_runs_begin_when_all_inputs_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    request_of, seen = many_starts.request_of, list[str]()

    def noted(*given: Any) -> starting.StartRequest:
        seen.append("stored")
        return request_of(*given)

    def read() -> Iterator[Start[int]]:
        for number in range(5):
            seen.append("read")
            yield Start(number)

    monkeypatch.setattr(many_starts, "request_of", noted)
    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        await orchestrator.start_many(Doubling, read())
    assert seen == ["read"] * 5 + ["stored"] * 5


async def test_a_store_that_is_away_is_told_before_an_id_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a taken id the error says that all others were started."""
    store = starting.store

    async def away(services: Any, request: starting.StartRequest) -> Any:
        if request.header.run_id == "n-1":
            raise StoreUnavailableError(store="memory:", reason="away")
        return await store(services, request)

    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        await orchestrator.start(Doubling, 100, run_id="n-0")
        monkeypatch.setattr(starting, "store", away)
        with pytest.raises(StoreUnavailableError):
            await orchestrator.start_many(Doubling, [Start(number, run_id=f"n-{number}") for number in range(2)])


async def test_no_more_keys_are_claimed_at_once_than_runs_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    claim_all, sizes = many_starts.claim_all, list[int]()

    async def counted(services: Any, starts: Any) -> Any:
        sizes.append(len(starts))
        return await claim_all(services, starts)

    monkeypatch.setattr(many_starts, "claim_all", counted)
    async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
        handles = await orchestrator.start_many(Doubling, [Start(n, dedupe_key=f"k-{n % 4}") for n in range(7)])
    assert sizes == [2, 2, 2, 1]
    assert [handle.deduplicated for handle in handles] == [False] * 4 + [True] * 3
