"""An interceptor that raises around a publish: the commit stands, the item waits visibly, and nothing loops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from floxide_amqp import Interceptor, NextAll, Workflow, node
from floxide_amqp.ports.key_value import Batch
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]


@node
async def first(x: int) -> int:
    return x + 1


@node(queue="other")
async def second(x: int) -> int:
    return x * 10


class Two(Workflow[int, int]):
    start = first
    edges = (first >> second,)


class Failing(Interceptor):
    """Raises around the publishes of workers, before or after the queue was asked, while it is told to."""

    def __init__(self, *, when: str, error: BaseException | None = None) -> None:
        self.when = when
        self.error = error or ValueError("no tracer")
        self.calls = 0

    async def publish(
        self, messages: Sequence[Message], proceed: Callable[[], Awaitable[Sequence[PublishOutcome]]]
    ) -> Sequence[PublishOutcome]:
        if messages[0].queue != "other" or self.when == "never":
            return await proceed()
        self.calls += 1
        if self.when == "before":
            raise self.error
        outcomes = await proceed()
        if self.when == "miscounts":
            return [*outcomes, PublishOutcome.CONFIRMED]
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no tracer"), SystemExit(3), KeyboardInterrupt()])
async def test_a_publish_that_an_interceptor_keeps_back_leaves_the_item_pending_with_the_reason(
    cluster: MakeCluster, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    failing = Failing(when="before", error=error)
    here = cluster(Two, interceptors=[failing])
    member = await here.start_worker(queues=["default"])
    await here.start_worker(queues=["other"])
    client = here.client()
    run = await client.start(Two, 1, run_id="run")
    await asyncio.sleep(20)
    (item,) = await client.pending_work("run")
    assert f"an interceptor raised {type(error).__name__}" in item.note
    assert 3 <= failing.calls <= 20 / (QUICK.publish_retry / 2) + 1
    assert member.worker.health().error_count == 0, "its delivery is worked off, and comes back no more"
    assert "publish.interceptor_failed" in caplog.text
    failing.when = "never"
    assert await run.result(30) == 20
    await here.check_completed("run")


@pytest.mark.parametrize("when", ["after", "miscounts"])
async def test_an_interceptor_that_fails_after_the_queue_has_answered_changes_nothing(
    cluster: MakeCluster, when: str
) -> None:
    here = cluster(Two, interceptors=[Failing(when=when)])
    await here.start_worker(queues=["default"])
    await here.start_worker(queues=["other"])
    run = await here.client().start(Two, 1, run_id="run")
    assert await run.result(2) == 20
    await here.check_completed("run")


async def test_many_messages_that_no_queue_takes_are_noted_in_few_round_trips(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(100))

    class Many(Workflow[int, list[int]]):
        start = split
        edges = (split >> second,)

    here = cluster(Many, limits=Limits(concurrency=8))
    member = await here.start_worker(queues=["default"])
    member.queue.faults = QueueFaults(returned=1.0)
    groups: list[int] = []

    async def count(batches: Sequence[Batch]) -> None:
        groups.append(len(batches))
        await asyncio.sleep(0.01)

    member.store.before_commit = count
    await here.client().start(Many, 1, run_id="run")
    await asyncio.sleep(1.5)
    assert sum(groups) >= 100
    assert max(groups) >= 90, groups
