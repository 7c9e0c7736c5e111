"""A chain that moves into the store while its body is at work: what becomes of the body where the store refuses it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from floxide_amqp import Workflow, node
from floxide_amqp.exceptions import CommitOutcomeUnknownError, StoreReadOnlyError, StoreUnavailableError
from floxide_amqp.ports.key_value import Batch, Enter
from floxide_amqp.runtime.long_steps import MOVE_AGAIN_SECONDS
from floxide_amqp.stores import keys
from tests.unit.runtime.cluster import QUICK, Cluster, Member

MakeCluster = Callable[..., Cluster]

LONG = QUICK.early_acknowledge + 3.0


class Bodies:
    """A workflow of two steps, and what became of the bodies of the first.

    Attributes:
        seconds: How long these take, one after the other; those that follow take none.
    """

    def __init__(self, *seconds: float, heeds: bool = True) -> None:
        self.began = 0
        self.cancelled = 0
        self.ended = 0

        @node
        async def slow(x: int) -> int:
            self.began += 1
            until = asyncio.get_running_loop().time() + (seconds[self.began - 1] if self.began <= len(seconds) else 0)
            while (left := until - asyncio.get_running_loop().time()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    if heeds:
                        raise
            self.ended += 1
            return x + 1

        @node
        async def after(x: int) -> int:
            return x * 10

        class Chain(Workflow[int, int]):
            start = slow
            edges = (slow >> after,)

        self.workflow = Chain


def at_move(member: Member, act: Callable[[], Awaitable[None]]) -> None:
    """Do something when the worker first asks the store to hold a chain of its."""
    owned = keys.owned(member.name)
    is_done = False

    async def look(batches: Sequence[Batch]) -> None:
        nonlocal is_done
        holds = any(isinstance(write, Enter) and write.index == owned for batch in batches for write in batch.writes)
        if holds and not is_done:
            is_done = True
            await act()

    member.store.before_commit = look


async def refuse() -> None:
    raise StoreReadOnlyError(store="memory", reason="for this test")


async def outcome(here: Cluster, workflow: Any) -> int:
    run = await here.client().start(workflow, 1, run_id="run")
    result: int = await run.result(600)
    await here.check_completed("run")
    return result


async def test_a_body_is_ended_whose_chain_the_store_does_not_take_and_runs_again(cluster: MakeCluster) -> None:
    bodies = Bodies(LONG)
    here = cluster(bodies.workflow)
    member = await here.start_worker()
    at_move(member, refuse)
    assert await outcome(here, bodies.workflow) == 20
    assert (bodies.began, bodies.cancelled, bodies.ended) == (2, 1, 1)
    assert len(member.services.inflight) == 0


async def test_a_body_that_heeds_no_cancellation_is_left_alone_where_its_chain_is_refused(cluster: MakeCluster) -> None:
    bodies = Bodies(LONG + 100, heeds=False)
    here = cluster(bodies.workflow)
    member = await here.start_worker()
    at_move(member, refuse)
    assert await outcome(here, bodies.workflow) == 20
    assert (bodies.began, bodies.cancelled, bodies.ended) == (2, 1, 1)
    assert [step.node for step in member.services.inflight.left_behind] == ["slow"]
    await asyncio.sleep(200)
    assert bodies.ended == 2
    assert not member.services.inflight.left_behind


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_body_that_ends_while_its_chain_moves_counts_only_if_the_store_takes_it(
    cluster: MakeCluster, is_refused: bool
) -> None:
    bodies = Bodies(LONG)
    here = cluster(bodies.workflow)
    member = await here.start_worker()

    async def take_long() -> None:
        while not bodies.ended:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
        if is_refused:
            await refuse()

    at_move(member, take_long)
    assert await outcome(here, bodies.workflow) == 20
    assert (bodies.began, bodies.cancelled) == (2 if is_refused else 1, 0)


async def test_nothing_is_left_of_a_move_when_its_worker_ends(cluster: MakeCluster) -> None:
    bodies = Bodies(LONG + 100)
    here = cluster(bodies.workflow)
    member = await here.start_worker()
    moving = asyncio.Event()

    async def hang() -> None:
        moving.set()
        await asyncio.Event().wait()

    at_move(member, hang)
    await here.client().start(bodies.workflow, 1, run_id="run")
    await moving.wait()
    await member.kill()
    await asyncio.gather(member.task, return_exceptions=True)
    assert bodies.cancelled == 1
    assert "floxide.long_step" not in {task.get_name() for task in asyncio.all_tasks()}
    await here.start_worker()
    assert await here.client().wait("run", 600)
    assert bodies.began == 2


@pytest.mark.parametrize("share", [0.4, 0.9])
async def test_each_body_of_a_chain_gets_its_own_time_before_its_chain_moves(
    cluster: MakeCluster, share: float
) -> None:
    began: list[float] = []
    moved: list[float] = []
    short, long = share * QUICK.early_acknowledge, 3 * QUICK.early_acknowledge

    @node
    async def work(seconds: float) -> float:
        began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(seconds)
        return short if len(began) < 5 else long

    class Chain(Workflow[float, float]):
        start = work
        edges = (
            work >> work.named("second") >> work.named("third") >> work.named("fourth") >> work.named("fifth")
            >> work.named("sixth"),
        )  # fmt: skip

    async def note() -> None:
        moved.append(asyncio.get_running_loop().time())

    here = cluster(Chain)
    member = await here.start_worker()
    at_move(member, note)
    run = await here.client().start(Chain, short)
    await run.result(60)
    assert len(began) == 6
    assert moved == pytest.approx([began[5] + QUICK.early_acknowledge], abs=0.1)


class Refusals:
    """A store that takes no chain of a worker's for a while, and has been waited for by then.

    Attributes:
        at: When the chain's own worker asked it to, by the event loop's clock.
    """

    def __init__(self, member: Member, seconds: float, patch: pytest.MonkeyPatch) -> None:
        self.at: list[float] = []
        self._owned = keys.owned(member.name)
        self._seconds = seconds
        self._commit = member.services.session.commit
        patch.setattr(member.services.session, "commit", self._look)

    async def _look(self, batch: Batch) -> Any:
        if any(isinstance(write, Enter) and write.index == self._owned for write in batch.writes):
            now, task = asyncio.get_running_loop().time(), asyncio.current_task()
            if task is not None and task.get_name() == "floxide.long_step":  # and no copy of the message
                self.at.append(now)
            if now < self.at[0] + self._seconds:
                raise StoreUnavailableError(store="memory", reason="for this test")
        return await self._commit(batch)


def held(here: Cluster) -> int:
    """How many messages workers have and have not acknowledged."""
    return sum(len(consumer._held) for consumer in here.queue._consumers)


async def test_a_chain_that_the_store_does_not_take_moves_as_soon_as_it_does(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = Bodies(LONG + 600)
    here = cluster(bodies.workflow)
    member = await here.start_worker()
    refusals = Refusals(member, 100, monkeypatch)
    await here.client().start(bodies.workflow, 1, run_id="run")
    while not refusals.at or held(here):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    between = [later - sooner for sooner, later in itertools.pairwise(refusals.at)]
    assert between == pytest.approx([MOVE_AGAIN_SECONDS] * len(between), abs=1)
    assert 100 <= refusals.at[-1] - refusals.at[0] <= 100 + 2 * MOVE_AGAIN_SECONDS
    assert (bodies.began, bodies.ended) == (1, 0)
    assert await here.client().wait("run", 1000)
    assert bodies.began == 1
    await here.check_completed("run")


async def test_a_body_that_ends_while_the_store_does_not_take_its_chain_waits_for_nothing(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = Bodies(QUICK.early_acknowledge + MOVE_AGAIN_SECONDS / 2)
    here = cluster(bodies.workflow)
    member = await here.start_worker()
    refusals = Refusals(member, 1000, monkeypatch)
    assert await outcome(here, bodies.workflow) == 20
    assert bodies.began == len(refusals.at) == 1
    assert asyncio.get_running_loop().time() < refusals.at[0] + MOVE_AGAIN_SECONDS
    assert "floxide.long_step" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_chain_of_which_the_store_did_not_say_that_it_took_it_is_held_once(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = Bodies(LONG + 100)
    here = cluster(bodies.workflow)
    member = await here.start_worker()
    services, commit = member.services, member.services.session.commit
    unanswered: list[Batch] = []

    async def lose_reply(batch: Batch) -> Any:
        outcome = await commit(batch)
        holds = any(isinstance(write, Enter) and write.index == keys.owned(member.name) for write in batch.writes)
        if holds and not unanswered:
            unanswered.append(batch)
            raise CommitOutcomeUnknownError(store="memory", reason="for this test")
        return outcome

    monkeypatch.setattr(services.session, "commit", lose_reply)
    await here.client().start(bodies.workflow, 1, run_id="run")
    while not unanswered:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await asyncio.sleep(3 * MOVE_AGAIN_SECONDS)
    assert not held(here)
    assert await here.client().wait("run", 1000)
    assert (bodies.began, bodies.cancelled) == (1, 0)
    await here.check_completed("run")
