"""What happens to a run is told in order, once each, as it happens; whoever goes on from a position misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

import pytest

from floxide_amqp import (
    AttemptFailed,
    DefinitionError,
    Hold,
    ItemCompleted,
    ItemFailed,
    ItemHeld,
    Next,
    NextAll,
    NoContext,
    RetryPolicy,
    RunDeletedError,
    RunEnded,
    RunEvent,
    RunNotFoundError,
    RunSignalled,
    RunStarted,
    RunStatus,
    RunSteered,
    Signal,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.runtime import followers
from floxide_amqp.runtime.settings import Timeouts
from floxide_amqp.stores import run_logs
from floxide_amqp.stores.run_logs import LogPosition
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]
NEVER = 10**9


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=5, jitter=0))
async def shaky(ctx: WorkflowCtx, n: int) -> int:
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return n


@node
async def wait(ctx: WorkflowCtx, n: int) -> Next[int] | Hold:
    return Hold(for_=timedelta(days=n))


@node
async def fall(n: int) -> int:
    raise KeyError(n)


@node
async def catch(n: int) -> int:
    return n


class Story(Workflow[int, int]):
    start = shaky
    edges = (shaky >> fall, fall.on_failure >> catch)


class Waiting(Workflow[int, int]):
    start = wait


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def each(n: int) -> int:
    return n


@node
async def total(ns: list[int]) -> int:
    return sum(ns)


class Wide(Workflow[int, int]):
    start = spread
    edges = (spread >> each >> gather(total),)


class Broken(Workflow[int, int]):
    start = fall.named("broken")


async def all_of(told: AsyncIterator[RunEvent]) -> list[RunEvent]:
    return [event async for event in told]


def kinds(events: Sequence[RunEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_a_run_is_told_from_its_start_to_its_end(cluster: MakeCluster) -> None:
    here = cluster(Story)
    await here.start_worker()
    handle = await here.client().start(Story, 7, run_id="run")
    events = await asyncio.wait_for(all_of(handle.events()), 120)
    assert kinds(events) == [
        "RunStarted", "AttemptFailed", "ItemCompleted", "AttemptFailed", "ItemFailed", "ItemCompleted", "RunEnded",
    ]  # fmt: skip
    started, first, retried, second, failed, caught, ended = events
    assert isinstance(started, RunStarted)
    assert (started.workflow, started.run_id) == ("Story", "run")
    assert isinstance(first, AttemptFailed)
    assert (first.node, first.attempt, first.error_type, first.will_retry) == ("shaky", 1, "ValueError", True)
    assert isinstance(second, AttemptFailed)
    assert (second.node, second.will_retry, "7" in second.message) == ("fall", False, True)
    assert isinstance(retried, ItemCompleted)
    assert (retried.node, retried.attempts) == ("shaky", 2)
    assert isinstance(failed, ItemFailed)
    assert isinstance(caught, ItemCompleted)
    assert caught.parent == failed.item_id
    assert isinstance(ended, RunEnded)
    assert ended.status is RunStatus.COMPLETED
    assert [event.at for event in events] == sorted(event.at for event in events)


async def test_whoever_goes_on_from_any_event_is_told_exactly_what_follows(cluster: MakeCluster) -> None:
    here = cluster(Story)
    await here.start_worker()
    client = here.client()
    await client.start(Story, 7, run_id="run")
    events = await all_of(client.events("run"))
    for number, event in enumerate(events):
        assert await all_of(here.client().events("run", after=event.position)) == events[number + 1 :]


async def test_long_logs_are_told_page_by_page_in_order(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_logs, "PAGE", 3)
    here = cluster(Wide)
    await here.start_worker()
    await here.start_worker()
    client = here.client()
    await client.start(Wide, 40, run_id="run")
    events = await asyncio.wait_for(all_of(client.events("run")), 120)
    told = [event.item_id for event in events if isinstance(event, ItemCompleted)]
    assert told == [entry.item_id for entry in await here.history("run")]
    assert (len(told), kinds(events)[0], kinds(events)[-1]) == (42, "RunStarted", "RunEnded")
    assert await all_of(client.events("run", after=events[20].position)) == events[21:]


async def test_what_people_do_to_a_run_is_told_with_who_and_why(cluster: MakeCluster) -> None:
    here = cluster(Waiting)
    await here.start_worker()
    client = here.client()
    await client.start(Waiting, 5, run_id="run")
    telling = asyncio.create_task(all_of(client.events("run")))
    await asyncio.sleep(5)
    await client.pause("run", reason="look first")
    await asyncio.sleep(5)
    await client.resume("run")
    await asyncio.sleep(5)
    await client.cancel("run", reason="enough")
    events = await asyncio.wait_for(telling, 60)
    assert kinds(events) == ["RunStarted", "ItemHeld", "RunSteered", "RunSteered", "RunSteered", "RunEnded"]
    held, ended = events[1], events[-1]
    assert isinstance(held, ItemHeld)
    assert held.until is not None
    assert timedelta(days=5) - timedelta(seconds=1) < held.until - held.at <= timedelta(days=5)
    steered = [(event.action, event.reason) for event in events if isinstance(event, RunSteered)]
    assert steered == [("pause", "look first"), ("resume", ""), ("cancel", "enough")]
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.reason) == (RunStatus.CANCELLED, "enough")


async def test_a_signal_and_who_waited_for_it_are_told(cluster: MakeCluster) -> None:
    approval = Signal("approval", bool)

    @node
    async def ask(ctx: WorkflowCtx[NoContext], n: int) -> Next[int] | Hold:
        answer = ctx.received(approval)
        return Hold(until=approval, timeout=timedelta(days=1)) if answer is None else Next(n)

    class Asking(Workflow[int, int]):
        start = ask

    here = cluster(Asking)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Asking, 7, run_id="run")
    await asyncio.sleep(5)
    await handle.signal(approval, value=True)
    started, held, signalled, *rest = await asyncio.wait_for(all_of(handle.events()), 60)
    assert isinstance(started, RunStarted)
    assert isinstance(held, ItemHeld)
    assert (held.node, held.signals, held.until is not None) == ("ask", ("approval",), True)
    assert isinstance(signalled, RunSignalled)
    assert signalled.signal == "approval"
    assert kinds(rest) == ["ItemCompleted", "RunEnded"]


async def test_a_failed_run_ends_the_events_and_they_go_on_when_it_is_taken_up_again(cluster: MakeCluster) -> None:
    here = cluster(Broken)
    await here.start_worker()
    client = here.client()
    await client.start(Broken, 7, run_id="run")
    first = await all_of(client.events("run"))
    ended = first[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.status, "KeyError" in ended.failure) == (RunStatus.FAILED, True)
    assert await all_of(client.events("run", after=ended.position)) == []
    await client.resume("run")
    again = await all_of(client.events("run", after=ended.position))
    assert kinds(again) == ["RunSteered", "AttemptFailed", "RunEnded"]


async def test_without_following_they_end_with_what_has_happened(cluster: MakeCluster) -> None:
    here = cluster(Waiting)
    await here.start_worker()
    client = here.client()
    await client.start(Waiting, 5, run_id="run")
    await asyncio.sleep(5)
    assert kinds(await all_of(client.events("run", follow=False))) == ["RunStarted", "ItemHeld"]


async def test_workers_tell_followers_of_what_they_commit_so_that_the_store_is_not_asked_all_the_time(
    cluster: MakeCluster,
) -> None:
    timeouts = Timeouts(**{**vars_of(QUICK), "result_backstop": float(NEVER)})
    here = cluster(Story, timeouts=timeouts)
    await here.start_worker()
    client = here.client()
    client.services.timeouts = timeouts
    async with client.open():
        await client.start(Story, 7, run_id="run")
        first = asyncio.create_task(all_of(client.events("run")))
        second = asyncio.create_task(all_of(client.events("run")))
        await asyncio.wait({first, second}, timeout=600)
        assert first.done()
        assert first.result() == await second
        assert kinds(first.result())[-1] == "RunEnded"


def vars_of(timeouts: Timeouts) -> dict[str, float]:
    return {name: getattr(timeouts, name) for name in timeouts.__dataclass_fields__}


async def test_a_client_that_hears_nothing_is_told_all_the_same(cluster: MakeCluster) -> None:
    here = cluster(Story)
    await here.start_worker()
    client = here.client()  # not opened: it listens to nothing
    await client.start(Story, 7, run_id="run")
    assert kinds(await asyncio.wait_for(all_of(client.events("run")), 120))[-1] == "RunEnded"


async def test_an_item_that_is_held_for_ever_does_not_fill_its_runs_log(cluster: MakeCluster) -> None:
    @node
    async def poll(ctx: WorkflowCtx, n: int) -> Next[int] | Hold:
        return Hold(for_=timedelta(seconds=1))

    class Polling(Workflow[int, int]):
        start = poll

    here = cluster(Polling)
    await here.start_worker()
    client = here.client()
    await client.start(Polling, 1, run_id="run")
    await asyncio.sleep(300)
    held = [event async for event in client.events("run", follow=False) if isinstance(event, ItemHeld)]
    assert len(held) == 100


async def test_a_run_that_is_not_there_has_no_events(cluster: MakeCluster) -> None:
    here = cluster(Story)
    await here.start_worker()
    client = here.client()
    with pytest.raises(RunNotFoundError):
        await all_of(client.events("nobody"))
    await client.start(Story, 7, run_id="run")
    await client.wait("run")
    await client.delete("run")
    with pytest.raises(RunDeletedError):
        await all_of(client.events("run"))


@pytest.mark.parametrize("position", ["x", "1", "1.2.3", "1.2.3.4.x", "1.2.3.4.5.6", "1.2.3.4.-5", "\u0661.2.3.4.5"])
async def test_what_is_no_position_is_refused(cluster: MakeCluster, position: str) -> None:
    client = cluster(Story).client()
    with pytest.raises(DefinitionError, match="no position of an event"):
        await all_of(client.events("run", after=position))


def test_a_position_survives_being_written_down() -> None:
    position = LogPosition((1, 20, 0, 4), 7)
    assert LogPosition.parse(str(position)) == position
    assert LogPosition.parse("") == LogPosition()


async def test_followers_who_stop_asking_are_forgotten(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "MOST_RUNS", 2)
    told: list[str] = []

    class Bus:
        async def announce(self, routing_key: str, body: bytes) -> None:
            told.append(routing_key)

    here = followers.Followers()
    telling = asyncio.create_task(here.tell(Bus()))  # type: ignore[arg-type]
    here.follow([RunId("a"), RunId("b"), RunId("c")], "client")
    for run_id in "abcd":
        here.note(RunId(run_id))
    await asyncio.sleep(1)
    assert told == ["client", "client"]
    await asyncio.sleep(followers.FORGOTTEN_AFTER_SECONDS)
    here.note(RunId("a"))
    await asyncio.sleep(1)
    here.follow([RunId("c")], "other")
    here.note(RunId("c"))
    await asyncio.sleep(1)
    assert told == ["client", "client", "other"]
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


async def test_who_begins_to_follow_a_run_is_told_once_to_look_again() -> None:
    told: list[str] = []

    class Bus:
        async def announce(self, routing_key: str, body: bytes) -> None:
            told.append(routing_key)

    here = followers.Followers()
    telling = asyncio.create_task(here.tell(Bus()))  # type: ignore[arg-type]
    here.follow([RunId("a")], "client")  # something may have been committed since it looked, and before this was heard
    await asyncio.sleep(1)
    assert told == ["client"]
    here.follow([RunId("a")], "client")  # it goes on following
    await asyncio.sleep(1)
    assert told == ["client"]
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
