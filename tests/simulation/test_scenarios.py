"""Single faults, told as stories whose end is known: what a backlog costs, who starts a run, what a zombie may do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from floxide_amqp import GraphBuilder, NextAll, RetryPolicy, WorkflowCtx, gather, node
from floxide_amqp.core.context import NoContext
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import RunConflictError, RunFailedError, StoreError
from floxide_amqp.runtime.settings import Limits, Timeouts
from floxide_amqp.stores.record_codec import decode_message
from floxide_amqp.testing.simulation.cluster import QUICK, Settings, Simulation
from floxide_amqp.testing.simulation.loop import CURRENT
from floxide_amqp.testing.simulation.process import Death

MINUTE = 60
HOUR = 60 * MINUTE


@node
async def double(x: int) -> int:
    return 2 * x


@node
async def increment(x: int) -> int:
    return x + 1


@node
async def total(xs: list[int]) -> int:
    return sum(xs)


@node
async def spread(x: int) -> NextAll[int]:
    return NextAll(list(range(x)))


@node
async def slow(x: int) -> int:
    await asyncio.sleep(5)
    return 2 * x


Slow = GraphBuilder(slow, output=int, name="Slow").add(slow >> increment).build()
Chain = GraphBuilder(double, output=int, name="Chain").add(double >> increment).build()
Fan = GraphBuilder(spread, output=int, name="Fan").add(spread >> double >> gather(total)).build()


def _published(world: Simulation) -> Counter[str]:
    """Messages in the broker by item: those that wait and those that somebody holds; probes are none."""
    bodies = [parcel.body for queue in world.broker.queues.values() for parcel in queue]
    messages = [decode_message(body) for body in bodies]
    return Counter(message.item_id for message in messages if isinstance(message, Envelope))


# --- a backlog is no loss

BACKLOG = 20_000


@pytest.mark.timeout(300)
def test_of_a_backlog_of_20_000_items_older_than_an_hour_none_is_published_again() -> None:
    @node(queue="crowded")
    async def crowded(x: int) -> int:
        await asyncio.sleep(5 * MINUTE)
        return x

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(list(range(x)))

    crowding = GraphBuilder(split, output=int, name="Crowding").add(split >> crowded >> gather(total)).build()
    timeouts = replace(QUICK, maintenance=20.0, probe=30.0, heartbeat=10.0, dead_after=60.0)
    world = Simulation([crowding], 1, settings=Settings(timeouts=timeouts, limits=Limits(concurrency=2)))

    async def play() -> None:
        world.start_worker(queues=("default",))
        world.start_worker(queues=("crowded",))
        await asyncio.sleep(1)
        async with world.client("client") as client:
            await client.start(crowding, BACKLOG, run_id="run")
            while sum(_published(world).values()) < BACKLOG - 4:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(1)
            sent, waiting = world.broker.published, sum(_published(world).values())
            await asyncio.sleep(1.5 * HOUR)
            copies = _published(world)
            assert set(copies.values()) == {1}, "an item is in the queue twice"
            assert sum(copies.values()) < waiting, "the queue moves"
            assert len(copies) > BACKLOG - 200
            probes = world.broker.published - sent
            assert 1 <= probes <= 1.5 * HOUR / timeouts.probe * 2
            assert all(message.tries == 0 for message in await client.services.indexes.messages("crowded"))

    world.play(play)
    assert world.story.violations == []


# --- messages that come too often, in the wrong order, too late


@pytest.mark.fault(17, 18, 19, 47)
@pytest.mark.parametrize("seed", range(5))
def test_every_message_thrice_and_the_last_first_makes_each_item_once(seed: int) -> None:
    world = Simulation([Fan], seed)
    weather = world.broker.weather
    weather.duplicated, weather.copies, weather.is_lifo = 1.0, 3, True

    async def play() -> None:
        for _ in range(3):
            world.start_worker()
        async with world.client("client") as client:
            handle = await client.start(Fan, 60, run_id="run")
            assert await handle.result(timeout=HOUR) == 2 * sum(range(60))
            counts = (await client.services.runs.load(RunId("run"))).counts
            assert counts.completed == 62
            assert await world.settle() == {}

    world.play(play)
    assert world.story.faults["duplicated"] >= 60
    assert world.story.violations == []


@pytest.mark.fault(19)
def test_a_message_that_comes_when_its_run_is_long_over_is_taken_off_the_queue_and_changes_nothing() -> None:
    world = Simulation([Chain], 3)

    async def play() -> None:
        world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            world.broker.weather.duplicated = 1.0
            world.broker.weather.copies = 5
            world.broker.weather.delayed, world.broker.weather.longest_delay = 1.0, HOUR
            handle = await client.start(Chain, 4, run_id="run")
            assert await handle.result(timeout=HOUR) == 9
            late = world.broker.late
            assert late >= 1
            before = await client.work_items("run")
            assert await world.settle(2 * HOUR) == {}
            assert world.broker.late == 0
            assert await client.work_items("run") == before

    world.play(play)
    assert world.story.violations == []


# --- who starts a run


@pytest.mark.fault(50)
def test_of_two_starts_of_one_id_with_different_inputs_one_wins_and_the_other_is_told() -> None:
    for seed in range(10):
        world = Simulation([Chain], seed)

        async def play(world: Simulation = world) -> None:
            world.start_worker()
            async with world.client("one") as one, world.client("two") as two:
                results = await asyncio.gather(
                    one.start(Chain, 1, run_id="run"), two.start(Chain, 2, run_id="run"), return_exceptions=True
                )
                conflicts = [result for result in results if isinstance(result, RunConflictError)]
                assert len(conflicts) == 1
                won = 2 if isinstance(results[0], RunConflictError) else 1
                assert await one.handle(Chain, "run").result(timeout=MINUTE) == 2 * won + 1

        world.play(play)
        assert world.story.violations == []


@pytest.mark.fault(51)
def test_a_run_whose_starter_dies_between_the_commit_and_the_first_message_begins_all_the_same() -> None:
    world = Simulation([Chain], 2)

    async def play() -> None:
        world.start_worker()
        await asyncio.sleep(1)
        process = world.process("starter")
        process.die_at(Death("publish", 1))

        async def start() -> None:
            await world.orchestrator(process).start(Chain, 5, run_id="run")

        process.run(start())
        await asyncio.sleep(0.5)
        assert process.is_dead
        assert world.broker.published == 0
        async with world.client("client") as client:
            assert await client.handle(Chain, "run").result(timeout=2 * MINUTE) == 11

    world.play(play)
    assert world.story.violations == []


# --- steering that gets lost


@pytest.mark.fault(49)
def test_a_cancel_whose_hints_are_all_lost_ends_a_step_in_flight_within_a_few_heartbeats() -> None:
    ended: list[float] = []

    @node
    async def endless(x: int) -> int:
        try:
            await asyncio.sleep(HOUR)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return x

    lasting = GraphBuilder(endless, output=int, name="Lasting").add(endless).build()
    world = Simulation([lasting], 4)
    world.bus.weather.lost = 1.0

    async def play() -> None:
        world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            handle = await client.start(lasting, 1, run_id="run")
            await asyncio.sleep(10)
            cancelled_at = world.loop.time()
            await handle.cancel()
            await asyncio.sleep(30)
            assert [at - cancelled_at < 3 * QUICK.heartbeat for at in ended] == [True]
            assert await handle.status() is RunStatus.CANCELLED

    world.play(play)
    assert world.story.faults["lost hint"] >= 1
    assert world.story.violations == []


@pytest.mark.fault(48)
def test_cancelling_a_run_with_a_thousand_steps_in_flight_ends_them_all_and_completes_none() -> None:
    @node
    async def waiting(x: int) -> int:
        await asyncio.sleep(HOUR)
        return x

    crowd = GraphBuilder(spread, output=int, name="Crowd").add(spread >> waiting >> gather(total)).build()
    world = Simulation([crowd], 6, settings=Settings(timeouts=QUICK, limits=Limits(concurrency=1_100)))

    async def play() -> None:
        worker = world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            handle = await client.start(crowd, 1_000, run_id="run")
            while worker.worker.health().in_flight < 1_000:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.5)
            assert await handle.cancel()
            assert not await handle.cancel()
            await asyncio.sleep(10)
            assert worker.worker.health().in_flight == 0
            assert await world.settle() == {}
            assert (await client.services.runs.load(RunId("run"))).counts.completed == 1

    world.play(play)
    assert world.story.violations == []


# --- the maintenance leader


@pytest.mark.fault(5, 52)
def test_a_leader_that_stood_still_and_goes_on_beside_its_successor_does_no_harm() -> None:
    @node
    async def patient(ctx: WorkflowCtx[NoContext], x: int) -> int:
        await ctx.sleep(3)
        return x + 1

    waits = GraphBuilder(patient, output=int, name="Waits").add(patient).build()
    world = Simulation([waits], 8)

    async def play() -> None:
        first = world.start_worker(skew_ms=-90_000)
        await asyncio.sleep(5)
        assert first.worker.maintenance.is_leader
        second = world.start_worker()
        async with world.client("client") as client:
            handles = [await client.start(waits, n, run_id=f"run-{n}") for n in range(6)]
            await asyncio.sleep(0.5)
            first.process.freeze()
            await asyncio.sleep(3 * QUICK.dead_after)
            assert second.worker.maintenance.is_leader
            first.process.thaw()
            assert first.worker.maintenance.is_leader, "it believes so still"
            assert [await handle.result(timeout=5 * MINUTE) for handle in handles] == list(range(1, 7))
            assert await world.settle() == {}
            await asyncio.sleep(20)
            assert first.worker.maintenance.is_leader != second.worker.maintenance.is_leader

    world.play(play)
    assert world.story.violations == []


# --- zombies


@pytest.mark.fault(6)
def test_what_a_zombie_commits_late_is_refused_and_the_item_completes_once() -> None:
    @node
    async def lengthy(ctx: WorkflowCtx[NoContext], x: int) -> int:
        await ctx.sleep(4)
        return x + 1

    lengthily = GraphBuilder(lengthy, output=int, name="Lengthily").add(lengthy).build()
    world = Simulation([lengthily], 8)

    async def play() -> None:
        zombie = world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            handle = await client.start(lengthily, 1, run_id="run")
            await asyncio.sleep(2)
            zombie.process.freeze()
            world.start_worker()
            assert await handle.result(timeout=2 * MINUTE) == 2
            before = await client.work_items("run")
            zombie.process.thaw()
            await asyncio.sleep(30)
            assert await client.work_items("run") == before
            assert zombie.services.figures.late_commits + zombie.services.inflight.__len__() <= 1
            assert await world.settle() == {}

    world.play(play)
    assert world.story.violations == []


# --- poison


@pytest.mark.fault(45)
def test_an_item_that_kills_its_workers_fails_within_its_limit_and_its_neighbours_complete() -> None:
    killed: list[str] = []

    @node
    async def deadly(ctx: WorkflowCtx[NoContext], x: int) -> int:
        await ctx.sleep(0.1)
        lane = CURRENT.get()
        assert lane is not None
        killed.append(lane.name)
        lane.kill()
        await asyncio.sleep(0)
        return x

    poison = GraphBuilder(deadly, output=int, name="Poison").add(deadly).build()
    world = Simulation([poison, Chain], 8)

    async def keep_two() -> None:
        while True:
            for _ in range(2 - len(world.working())):
                world.start_worker()
            await asyncio.sleep(1)

    async def play() -> None:
        keeping = asyncio.create_task(keep_two())
        await asyncio.sleep(1)
        async with world.client("client") as client:
            doomed = await client.start(poison, 1, run_id="doomed")
            others = [await client.start(Chain, n, run_id=f"run-{n}") for n in range(10)]
            assert [await other.result(timeout=10 * MINUTE) for other in others] == [2 * n + 1 for n in range(10)]
            with pytest.raises(RunFailedError, match="PoisonError"):
                await doomed.result(timeout=10 * MINUTE)
        keeping.cancel()

    world.play(play)
    assert 3 <= len(killed) <= 6
    assert world.story.violations == []


# --- large fan-outs


@pytest.mark.fault(46)
@pytest.mark.parametrize("number", [3, 5])
def test_a_fan_out_whose_worker_dies_between_two_pages_expands_to_exactly_its_items(number: int) -> None:
    world = Simulation([Fan], number, settings=Settings(timeouts=QUICK, limits=Limits(concurrency=100)))

    async def play() -> None:
        first = world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            first.process.die_at(Death("committed", number))
            handle = await client.start(Fan, 1_500, run_id="run")
            await asyncio.sleep(2)
            assert first.process.is_dead
            world.start_worker()
            assert await handle.result(timeout=10 * MINUTE) == 2 * sum(range(1_500))
            assert (await client.services.runs.load(RunId("run"))).counts.completed == 1_502

    world.play(play)
    assert world.story.violations == []


# --- a retry storm


@pytest.mark.fault(53)
def test_a_thousand_items_that_fail_at_once_come_back_spread_over_their_backoff() -> None:
    tries: list[float] = []

    @node(retry=RetryPolicy(max_attempts=3, initial_backoff=20.0, jitter=0.5))
    async def failing(ctx: WorkflowCtx[NoContext], x: int) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("all at once")
        tries.append(asyncio.get_running_loop().time())
        return x

    storming = GraphBuilder(spread, output=int, name="Storming").add(spread >> failing >> gather(total)).build()
    world = Simulation([storming], 9, settings=Settings(timeouts=QUICK, limits=Limits(concurrency=1_000)))

    async def play() -> None:
        world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            handle = await client.start(storming, 1_000, run_id="run")
            assert await handle.result(timeout=10 * MINUTE) == sum(range(1_000))

    world.play(play)
    busiest = Counter(int(at) for at in tries).most_common(1)[0][1]
    assert len(tries) == 1_000
    assert busiest <= 250
    assert world.story.violations == []


# --- the store


@pytest.mark.fault(25)
def test_a_store_that_is_away_for_30_seconds_makes_nobody_give_messages_back_in_a_hurry() -> None:
    world = Simulation([Chain], 9, settings=Settings(timeouts=Timeouts()))

    async def play() -> None:
        world.start_worker()
        await asyncio.sleep(1)
        async with world.client("client") as client:
            handles = [await client.start(Chain, n, run_id=f"run-{n}") for n in range(5)]
            await asyncio.sleep(0.003)
            world.servers[""].weather.is_away = True
            delivered = world.broker.delivered
            with pytest.raises((StoreError, TimeoutError)):
                async with asyncio.timeout(1):
                    await client.status("run-0")
            await asyncio.sleep(29)
            assert world.broker.delivered - delivered <= 30
            world.servers[""].weather.is_away = False
            assert [await handle.result(timeout=5 * MINUTE) for handle in handles] == [2 * n + 1 for n in range(5)]

    world.play(play)
    assert world.story.faults["store out of reach"] >= 1
    assert world.story.violations == []


# --- one worker per name


def _ended_with(world: Simulation, number: int) -> str:
    main = world.workers[number].process.main
    assert main is not None
    return type(main.exception()).__name__ if main.done() else "still runs"


@pytest.mark.fault(6)
@pytest.mark.parametrize("seed", range(5))
def test_a_worker_that_stood_still_until_its_name_was_taken_over_ends_and_harms_no_run(seed: int) -> None:
    world = Simulation([Slow], seed)

    async def play() -> None:
        first = world.start_worker("worker")
        async with world.client("client") as client:
            handle = await client.start(Slow, 20, run_id="run")
            await asyncio.sleep(QUICK.heartbeat / 2)  # no beat is on its way
            first.process.freeze()
            heir = world.start_worker("worker")
            await asyncio.sleep(4 * QUICK.dead_after)
            first.process.thaw()
            assert await handle.result(timeout=HOUR) == 41
            assert await world.settle() == {}
            await asyncio.sleep(3 * QUICK.heartbeat)
        assert _ended_with(world, 0) == "WorkerNameLostError"
        assert heir.process.is_up

    world.play(play)
    assert world.story.violations == []
    assert world.story.faults["name lost"] == 1


def test_a_worker_whose_name_somebody_living_has_is_refused() -> None:
    world = Simulation([Chain], 1)

    async def play() -> None:
        world.start_worker("worker")
        await asyncio.sleep(1)
        world.start_worker("worker")
        await asyncio.sleep(2 * QUICK.dead_after)
        assert [_ended_with(world, number) for number in (0, 1)] == ["still runs", "WorkerNameTakenError"]

    world.play(play)


def test_every_process_has_a_life_of_its_own_and_the_same_one_each_time() -> None:
    def lives(seed: int) -> list[str]:
        world, found = Simulation([Chain], seed), list[str]()

        async def play() -> None:
            found.extend(world.process("worker").life for _ in range(3))

        world.play(play)
        return found

    assert lives(1) == lives(1)
    assert len({*lives(1), *lives(2)}) == 6
