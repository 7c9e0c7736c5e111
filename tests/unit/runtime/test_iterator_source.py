"""A source from an iterator, in virtual time: it goes on where it was, and each item is one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from floxide_amqp import DefinitionError, Hold, IteratorSource, Workflow, node
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.services import Services
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.hand_fed_queue import run_ids


@node
async def double(n: int) -> int:
    return 2 * n


class Doubling(Workflow[int, int]):
    start = double


@node
async def wait_for_long(n: int) -> int | Hold:
    return Hold(for_=timedelta(days=30))


class Endless(Workflow[int, int]):
    start = wait_for_long


class Rows:
    """A table that grows, and what was read of it.

    Attributes:
        begun: From which positions it was read.
        reading: How many read it now; `most` is the largest number there ever was.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.begun: list[int | None] = []
        self.reading = 0
        self.most = 0
        self.problem: Exception | None = None

    async def after(self, position: int | None) -> AsyncIterator[tuple[int, int]]:
        self.begun.append(position)
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            for n in range((position or 0) + 1, self.count + 1):
                await asyncio.sleep(0.01)
                if self.problem is not None:
                    raise self.problem
                yield n, n
        finally:
            self.reading -= 1


class IteratorCluster(Cluster):
    """A cluster whose workers have a source."""

    def __init__(self, source: IteratorSource[Any, Any], **options: Any) -> None:
        super().__init__(source.workflow, **options)
        self.source = source

    def _services(self, *arguments: Any) -> tuple[Services, Any, Any]:
        services, store, queue = super()._services(*arguments)
        services.sources = (self.source,)
        return services, store, queue

    async def until(self, count: int) -> Orchestrator:
        """Wait until so many runs are there."""
        client = self.client()
        while len(await run_ids(client)) < count:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
        return client


MakeCluster = Callable[..., IteratorCluster]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[MakeCluster]:
    made: list[IteratorCluster] = []

    def make(source: IteratorSource[Any, Any], **options: Any) -> IteratorCluster:
        made.append(IteratorCluster(source, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def numbers(rows: Rows, workflow: Any = Doubling, **options: Any) -> IteratorSource[int, int]:
    return IteratorSource("rows", workflow, rows.after, **options)


async def test_each_item_is_a_run_and_what_is_added_later_is_found(world: MakeCluster) -> None:
    rows = Rows(5)
    cluster = world(numbers(rows, attributes=lambda n: {"parity": n % 2}))
    await cluster.start_worker()
    client = await cluster.until(5)
    assert await client.handle(Doubling, "rows:5").result(timeout=60) == 10
    rows.count = 7
    await cluster.until(7)
    await asyncio.sleep(1)
    info = await client.sources.get("rows")
    assert (info.kind, info.position, info.started, info.duplicates) == ("iterator", "7", 7, 0)
    assert info.origin == "iterator Rows.after"
    assert set(rows.begun) >= {None, 5}
    assert len((await client.list_runs(attributes={"parity": 1})).runs) == 4


async def test_one_process_at_a_time_has_the_iterator(world: MakeCluster) -> None:
    rows = Rows(200)
    cluster = world(numbers(rows))
    for _ in range(3):
        await cluster.start_worker()
    await cluster.until(200)
    assert rows.most == 1


async def test_when_its_process_dies_another_goes_on_and_no_item_is_lost_or_doubled(world: MakeCluster) -> None:
    rows = Rows(300)
    cluster = world(numbers(rows, batch=10))
    first = await cluster.start_worker()
    await cluster.until(50)
    await first.kill()
    await asyncio.gather(first.task, return_exceptions=True)
    await cluster.start_worker()
    client = await cluster.until(300)
    await asyncio.sleep(5)
    assert await run_ids(client) == sorted(f"rows:{n}" for n in range(1, 301))
    assert rows.begun[1] is not None
    assert rows.begun[1] >= 40


async def test_whoever_is_asked_to_end_leaves_the_iterator_to_others_at_once(world: MakeCluster) -> None:
    rows = Rows(1_000)
    cluster = world(numbers(rows))
    first = await cluster.start_worker()
    await cluster.until(20)
    await first.stop()
    began = asyncio.get_running_loop().time()
    await cluster.start_worker()
    while len(rows.begun) < 2:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - began < cluster.timeouts.dead_after / 2
    assert len(await run_ids(cluster.client())) >= (rows.begun[-1] or 0)


async def test_an_iterator_that_fails_is_begun_again_and_its_problem_is_shown(world: MakeCluster) -> None:
    rows = Rows(20)
    cluster = world(numbers(rows))
    await cluster.start_worker()
    await cluster.until(5)
    rows.problem = ConnectionError("the database is away")
    client = cluster.client()
    while "the database is away" not in (await client.sources.get("rows")).problem:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    rows.problem = None
    await cluster.until(20)
    await asyncio.sleep(70)
    assert (await client.sources.get("rows")).problem == ""


async def test_an_iterator_is_not_asked_for_more_while_too_many_runs_are_open(world: MakeCluster) -> None:
    rows = Rows(100)
    cluster = world(numbers(rows, Endless, max_open_runs=5, batch=3))
    await cluster.start_worker()
    client = await cluster.until(5)
    await asyncio.sleep(60)
    assert len(await run_ids(client)) == 5
    await client.cancel("rows:1")
    await cluster.until(6)


async def test_a_paused_iterator_rests_and_a_resumed_one_goes_on_where_it_was(world: MakeCluster) -> None:
    rows = Rows(500)
    cluster = world(numbers(rows))
    await cluster.start_worker()
    client = await cluster.until(20)
    await client.sources.pause("rows")
    while rows.reading:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    there = len(await run_ids(client))
    await asyncio.sleep(60)
    assert len(await run_ids(client)) == there
    await client.sources.resume("rows")
    await cluster.until(500)
    assert rows.begun[-1] == there


async def test_two_items_with_one_key_are_one_run(world: MakeCluster) -> None:
    rows = Rows(10)
    cluster = world(numbers(rows, key=lambda n: str(n % 2)))
    await cluster.start_worker()
    client = await cluster.until(2)
    while (await client.sources.get("rows")).position != "10":  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    assert await run_ids(client) == ["rows:0", "rows:1"]


@pytest.mark.parametrize("options", [{"again_after": 0}, {"rate": -1.0}, {"batch": 0}, {"max_open_runs": 0}])
def test_a_declaration_that_cannot_be_says_why(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"{next(iter(options))}="):
        numbers(Rows(1), **options)
