"""A signal that reaches an item of a fan-out which is closed already, or is closed then, is not lost with the item."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from floxide_amqp import Hold, Limits, NextAll, RunStatus, Signal, Workflow, WorkflowCtx, WorkItemStatus, first, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import Read, Snapshot
from floxide_amqp.stores import signal_keys
from floxide_amqp.stores.mailbox import SOME_MAIL
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_signals import held

MakeCluster = Callable[..., Cluster]

GO = Signal("go", str)


def racing(gate: asyncio.Event, *, asks_behind: bool = True) -> Any:
    """A fan-out of one element that waits at a gate and one that waits for a signal; the first that ends closes it."""

    @node
    async def split(_: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def work(ctx: WorkflowCtx[Any], number: int) -> str | Hold:
        if number == 0:
            await gate.wait()
            return "0"
        value = ctx.received(GO)
        return Hold(until=GO) if value is None else value

    @node
    async def behind(ctx: WorkflowCtx[Any], winner: str) -> str | Hold:
        if not asks_behind:
            return winner
        value = ctx.received(GO)
        return Hold(until=GO) if value is None else f"{winner} {value}"

    class Racing(Workflow[int, str]):
        start = split
        edges = (split >> work >> first(behind),)

    return Racing


async def ended(here: Cluster, run_id: str, item_id: str) -> None:
    """Wait until an item has ended."""
    services = here.client().services
    while True:
        (found,) = await services.items.find(RunId(run_id), (item_id,))  # type: ignore[arg-type]
        if found is not None and found.item.status is WorkItemStatus.COMPLETED:
            return
        await asyncio.sleep(0.05)


async def in_flight(here: Cluster, run_id: str) -> str:
    """Return the item whose body is at the gate."""
    at_work = [key for member in here.members for key in member.services.inflight.items(RunId(run_id))]
    (item_id,) = at_work
    return item_id


async def test_a_signal_to_a_fan_out_that_is_closed_is_kept_for_who_comes_behind_it(cluster: MakeCluster) -> None:
    gate = asyncio.Event()
    workflow = racing(gate)
    here = cluster(workflow)
    await here.start_worker()
    handle = await here.client().start(workflow, 1, run_id="run")
    await held(here, "run")
    winner = await in_flight(here, "run")
    await handle.pause()
    gate.set()
    await ended(here, "run", winner)
    assert await handle.signal(GO, "value")
    (waiting,) = [item for item in await here.client().pending_work("run") if item.status is WorkItemStatus.HELD]
    assert waiting.node == "work"
    await handle.resume()
    assert await handle.result(60) == "0 value"


async def test_a_signal_that_woke_an_item_of_a_fan_out_which_is_closed_then_goes_to_another(
    cluster: MakeCluster,
) -> None:
    gate = asyncio.Event()
    workflow = racing(gate)
    here = cluster(workflow)
    await here.start_worker()
    handle = await here.client().start(workflow, 1, run_id="run")
    await held(here, "run")
    winner = await in_flight(here, "run")
    await handle.pause()
    assert await handle.signal(GO, "value")
    await held(here, "run", items=0)
    gate.set()
    await ended(here, "run", winner)
    await handle.resume()
    assert await handle.result(60) == "0 value"


async def test_a_value_nobody_takes_is_left_in_the_mailbox_of_its_run(cluster: MakeCluster) -> None:
    gate = asyncio.Event()
    workflow = racing(gate, asks_behind=False)
    here = cluster(workflow)
    await here.start_worker()
    handle = await here.client().start(workflow, 1, run_id="run")
    await held(here, "run")
    winner = await in_flight(here, "run")
    await handle.pause()
    assert await handle.signal(GO, "value")
    gate.set()
    await ended(here, "run", winner)
    await handle.resume()
    assert await handle.wait(60) is RunStatus.COMPLETED
    unread = await here.client().services.mailbox.unread(RunId("run"))
    assert [mail.name for mail in unread.mail] == ["go"]


async def test_a_value_that_comes_back_wakes_an_item_that_waits_elsewhere_in_the_run(cluster: MakeCluster) -> None:
    gate = asyncio.Event()

    @node
    async def begin(x: int) -> int:
        return x

    @node
    async def split(_: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def work(ctx: WorkflowCtx[Any], number: int) -> str | Hold:
        if number == 0:
            await gate.wait()
            return "0"
        value = ctx.received(GO)
        return Hold(until=GO) if value is None else value

    @node
    async def ends(winner: str) -> str:
        return winner

    @node
    async def later(ctx: WorkflowCtx[Any], _: int) -> str | Hold:
        await ctx.sleep(5)
        value = ctx.received(GO)
        return Hold(until=GO) if value is None else value

    class Both(Workflow[int, list[str]]):
        start = begin
        edges = (begin >> (split, later), split >> work >> first(ends))

    here = cluster(Both)
    await here.start_worker()
    handle = await here.client().start(Both, 1, run_id="run")
    await held(here, "run", items=2)
    winner = await in_flight(here, "run")
    await handle.pause()
    assert await handle.signal(GO, "value")
    await held(here, "run", items=1)
    gate.set()
    await ended(here, "run", winner)
    await handle.resume()
    assert sorted(await handle.result(60)) == ["0", "value"]
    assert not (await here.client().services.mailbox.unread(RunId("run"))).mail


async def test_values_that_come_back_and_that_nobody_waits_for_cost_a_few_reads_together(cluster: MakeCluster) -> None:
    gate, many = asyncio.Event(), 60

    @node
    async def split(_: int) -> NextAll[int]:
        return NextAll(range(many + 1))

    @node
    async def work(ctx: WorkflowCtx[Any], number: int) -> str | Hold:
        if number == 0:
            await gate.wait()
            return "0"
        return Hold(until=GO)

    @node
    async def behind(winner: str) -> str:
        return winner

    class Wide(Workflow[int, str]):
        start = split
        edges = (split >> work >> first(behind),)

    here = cluster(Wide, limits=Limits(concurrency=many + 1))
    member = await here.start_worker()
    handle = await here.client().start(Wide, 1, run_id="run")
    await held(here, "run", items=many)
    winner = await in_flight(here, "run")
    await handle.pause()
    for number in range(many):
        assert await handle.signal(GO, str(number))
    gate.set()
    await ended(here, "run", winner)
    read, looked = member.services.session.read, list[int]()

    async def counted(asked: Read) -> Snapshot:
        snapshot = await read(asked)
        for index, entries in zip(asked.indexes, snapshot.indexes, strict=True):
            if index.index == signal_keys.mail_of(RunId("run")) and index.limit != SOME_MAIL:  # not with an admission
                looked.append(len(entries))
        return snapshot

    member.services.session.read = counted  # type: ignore[method-assign]
    await handle.resume()
    assert await handle.result(60) == "0"
    while await member.services.letters.of_run(RunId("run")):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.05)
    unread = await here.client().services.mailbox.unread(RunId("run"))
    assert len(unread.mail) == many
    assert sum(looked) <= many
