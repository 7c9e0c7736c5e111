"""One worker per name: the living is not robbed of it, the dead give it up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from floxide_amqp import RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import WorkerNameLostError, WorkerNameTakenError
from floxide_amqp.runtime.naming import Name
from floxide_amqp.runtime.vitals import new_record
from floxide_amqp.stores.liveness import DEAD, LivenessStore
from floxide_amqp.stores.session import Session
from floxide_amqp.testing.faults import FaultyKeyValueStore
from floxide_amqp.testing.virtual_time import VirtualClock
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]

DEAD_AFTER = 8.0


class Office:
    """A store with heartbeats, as several processes see it."""

    def __init__(self) -> None:
        self._store = MemoryKeyValueStore(VirtualClock())

    def liveness(self) -> LivenessStore:
        return LivenessStore(Session(self._store, VirtualClock()))

    def name(self) -> Name:
        return Name(self.liveness(), DEAD_AFTER, 2.0)


def record(**changes: object) -> WorkerRecord:
    """A worker elsewhere, of which only its heartbeat can tell whether it lives."""
    made = new_record(WorkerId("w"), now_ms=0, queues=(), workflows=(), concurrency=1)
    return replace(made, host="elsewhere", **changes)  # type: ignore[arg-type]  # tests name fields


async def beat_for_ever(name: Name, own: WorkerRecord) -> None:
    while True:
        own = replace(own, beat=own.beat + 1)
        await name.beat(own)
        await asyncio.sleep(2.0)


async def test_a_second_worker_of_a_name_is_refused_while_the_first_beats() -> None:
    office = Office()
    holder, first = office.name(), record(pid=4711)
    await holder.take(first)
    beating = asyncio.create_task(beat_for_ever(holder, first))
    with pytest.raises(WorkerNameTakenError, match=r"'w' is at work already, on host 'elsewhere' as process 4711"):
        await office.name().take(record())
    beating.cancel()


@pytest.mark.parametrize("how", ["goodbye", "grave", "process gone"])
async def test_a_name_that_is_provably_free_is_had_at_once(how: str) -> None:
    office = Office()
    holder, first = office.name(), record()
    if how == "process gone":
        here = new_record(WorkerId("w"), now_ms=0, queues=(), workflows=(), concurrency=1)
        first = replace(here, process_started="1")
    await holder.take(first)
    if how == "goodbye":
        await holder.leave(first)
    elif how == "grave":
        await office.liveness().bury(first)
    before = asyncio.get_running_loop().time()
    await office.name().take(record(beat=1))
    assert asyncio.get_running_loop().time() == before


async def test_a_name_whose_holder_cannot_be_judged_is_watched_and_then_taken_over() -> None:
    office = Office()
    first, second = record(), record(beat=1)
    await office.name().take(first)
    began = asyncio.get_running_loop().time()
    await office.name().take(second)
    assert DEAD_AFTER <= asyncio.get_running_loop().time() - began <= DEAD_AFTER + 2.0
    found, _ = await office.liveness().find(WorkerId("w"))
    assert found is not None
    assert found.life == second.life


async def test_of_two_that_start_at_once_only_one_gets_the_name() -> None:
    office = Office()

    async def start() -> Exception | None:
        name, own = office.name(), record()
        try:
            await name.take(own)
        except WorkerNameTakenError as error:
            return error
        task = asyncio.create_task(beat_for_ever(name, own))
        await asyncio.sleep(3 * DEAD_AFTER)
        task.cancel()
        return None

    outcomes = await asyncio.gather(*(start() for _ in range(4)))
    assert outcomes.count(None) == 1


async def test_who_was_taken_for_dead_and_lives_finds_out_that_its_name_is_gone() -> None:
    office = Office()
    holder, first, second = office.name(), record(), record(beat=1)
    await holder.take(first)
    await office.name().take(second)
    with pytest.raises(WorkerNameLostError, match="has taken over the name 'w'"):
        await holder.beat(replace(first, beat=2))
    await holder.leave(first)
    found, _ = await office.liveness().find(WorkerId("w"))
    assert found is not None, "a farewell under a lost name must not remove who has it now"


async def test_who_was_buried_and_lives_beats_on() -> None:
    office = Office()
    holder, first = office.name(), record()
    await holder.take(first)
    await office.liveness().bury(first)
    await holder.beat(replace(first, beat=2))
    found, _ = await office.liveness().find(WorkerId("w"))
    assert found is not None
    assert (found.status, found.beat) == ("starting", 2)


async def test_a_burial_that_comes_late_does_not_hit_the_next_of_the_name() -> None:
    office = Office()
    first, second = record(status=DEAD), record(beat=1)
    await office.name().take(first)
    next_holder = office.name()
    await next_holder.take(second)
    await office.liveness().bury(first)
    found, _ = await office.liveness().find(WorkerId("w"))
    assert found == second


@pytest.mark.fault(6)
async def test_a_worker_whose_name_is_taken_over_ends_with_an_error_and_its_step_is_done_by_the_other(
    cluster: MakeCluster,
) -> None:
    began: list[str] = []

    @node
    async def works(ctx: WorkflowCtx, x: int) -> int:
        began.append(ctx.worker_id)
        await asyncio.sleep(QUICK.early_acknowledge + 10 if len(began) == 1 else 0.1)
        return x

    class Working(Workflow[int, int]):
        start = works
        edges = ()

    here = cluster(Working)
    zombie = await here.start_worker()
    run = await here.client().start(Working, 1, run_id="run")
    await asyncio.sleep(QUICK.early_acknowledge + 1)
    liveness = here.client().services.liveness
    is_taken = False
    while not is_taken:  # unless the zombie beats just then
        found, version = await liveness.find(zombie.name)
        assert found is not None
        is_taken = await liveness.beat_after(replace(found, life="another", beat=1), version)
    with pytest.raises(WorkerNameLostError):
        await zombie.task
    here.members.remove(zombie)
    await here.start_worker()
    assert await run.wait(100) is RunStatus.COMPLETED
    await here.check_completed("run")


async def test_a_name_whose_taking_was_not_confirmed_is_taken_all_the_same() -> None:
    clock = VirtualClock()
    store = FaultyKeyValueStore(MemoryKeyValueStore(clock), random.Random(0))
    await LivenessStore(Session(store, clock)).beat(record(life="former"))
    store.lose_next_replies()
    name = Name(LivenessStore(Session(store, clock)), DEAD_AFTER, 2.0)
    own = record(life="own")
    await name.take(own)
    await name.beat(replace(own, beat=1))
