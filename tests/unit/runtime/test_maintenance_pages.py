"""A page of maintenance work shares its round trips, so that a round stays short on a busy worker."""

from __future__ import annotations

from floxide_amqp import Floxide, NextAll, Workflow, gather, node
from tests.unit.runtime.counting_store import CountingStore

WIDTH = 300


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def square(n: int) -> int:
    return n * n


@node
async def add(squares: list[int]) -> int:
    return sum(squares)


class Squares(Workflow[int, int]):
    start = spread
    edges = (spread >> square >> gather(add),)


async def test_the_lost_messages_of_a_wide_fan_out_are_found_in_few_round_trips() -> None:
    store = CountingStore()
    app = Floxide(store=store, workflows=[Squares])
    async with app.orchestrator(with_worker=False) as orchestrator:
        await orchestrator.start(Squares, WIDTH, run_id="wide")
    async with app.worker() as worker:
        assert await worker.run_once()  # the fan-out; its process then dies with its in-process queue
    survivor = Floxide(store=store, workflows=[Squares])
    async with survivor.worker() as worker:
        before = store.trips
        await worker.maintenance.round()
        assert store.trips - before < WIDTH / 3
    async with survivor.orchestrator() as orchestrator:
        assert await orchestrator.handle(Squares, "wide").result(20) == sum(n * n for n in range(WIDTH))
