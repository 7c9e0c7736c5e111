"""A worker forgets a context that it cannot merge, while another step of its run is not at its body yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated

import pytest

from floxide_amqp import Concurrency, Context, Hold, Signal, Sum, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import StoreReadOnlyError
from floxide_amqp.ports.key_value import Batch, Put
from floxide_amqp.runtime import steps
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.step_mail import StepMail, read_mail
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.contexts import ContextStore
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]

RUN = RunId("run")
ONE_BY_ONE = Limits(concurrency=8, chain_steps=1)
NO_DELTA = b"\xc1"
NEWS = Signal("news", str)


class Told(Context):
    spent: Annotated[int, Sum()] = 0


@node
async def first(ctx: WorkflowCtx[Told], x: int) -> int:
    ctx.state.spent += x
    return x


@node(at_most_once=True)
async def second(ctx: WorkflowCtx[Told], x: int) -> int:
    return ctx.state.spent + x


class Telling(Workflow[int, int, Told]):
    start = first
    edges = (first >> second,)


@node(concurrency=Concurrency("few", limit=2))
async def limited(ctx: WorkflowCtx[Told], x: int) -> int:
    return ctx.state.spent + x


class Limited(Workflow[int, int, Told]):
    start = first
    edges = (first >> limited,)


@node
async def hear(ctx: WorkflowCtx[Told], x: int) -> int | Hold:
    return Hold(until=NEWS) if ctx.received(NEWS) is None else ctx.state.spent + x


class Hearing(Workflow[int, int, Told]):
    start = first
    edges = (first >> hear,)


def deltas(here: Cluster) -> list[bytes]:
    return here.store._slots[slot_of(RUN)].logs[keys.context_log(RUN)].entries


async def forget_context(here: Cluster, member: Member) -> None:
    """Do what the admission of another of the run's items does that finds a delta which cannot be merged."""
    run = member.services.cache.find(RUN)
    assert run is not None
    deltas(here).append(NO_DELTA)
    with suppress(Exception):
        await run.refresh(member.services.contexts)
    assert not run.is_loaded


async def set_aside_reason(here: Cluster) -> str:
    for _ in range(200):
        if found := await here.client().set_aside.list():
            return found[0].reason
        await asyncio.sleep(1)
    raise AssertionError("nothing was set aside")


def at_claim(member: Member, act: Callable[[], Awaitable[None]]) -> None:
    """Do something while the worker claims an item, once."""
    is_done = False

    async def look(batches: Sequence[Batch]) -> None:
        nonlocal is_done
        writes = [write for batch in batches for write in batch.writes if isinstance(write, Put)]
        items = [codec.decode_item(w.value) for w in writes if w.key.name.startswith(keys.ITEM_PREFIX)]
        if not is_done and any(each.status is WorkItemStatus.IN_PROGRESS for each in items):
            is_done = True
            await act()

    member.store.before_commit = look


async def test_a_step_whose_context_was_forgotten_since_its_admission_reads_it_again(cluster: MakeCluster) -> None:
    here = cluster(Telling, limits=ONE_BY_ONE)
    member = await here.start_worker()

    async def forget_and_repair() -> None:
        await forget_context(here, member)
        deltas(here).remove(NO_DELTA)

    at_claim(member, forget_and_repair)
    run = await here.client().start(Telling, 4, run_id=RUN)
    assert await run.result(60) == 8
    await here.check_completed(RUN)


async def test_a_step_whose_context_cannot_be_put_together_any_more_is_set_aside_and_has_not_failed(
    cluster: MakeCluster,
) -> None:
    here = cluster(Telling, limits=ONE_BY_ONE)
    member = await here.start_worker()
    at_claim(member, lambda: forget_context(here, member))
    run = await here.client().start(Telling, 4, run_id=RUN)
    assert "The context of run 'run' cannot be" in await set_aside_reason(here)
    deltas(here).remove(NO_DELTA)
    await here.client().set_aside.requeue()
    assert await run.result(60) == 8
    await here.check_completed(RUN)


async def test_a_store_that_fails_where_a_context_is_read_again_gives_the_message_back(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster(Limited, limits=ONE_BY_ONE)
    member = await here.start_worker()

    async def forget_and_refuse() -> None:
        await forget_context(here, member)
        deltas(here).remove(NO_DELTA)
        read, refusals = ContextStore.read, [StoreReadOnlyError(store="memory", reason="for this test")]

        async def refuse(*arguments: object) -> object:
            if refusals:
                raise refusals.pop()
            return await read(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ContextStore, "read", refuse)

    at_claim(member, forget_and_refuse)
    run = await here.client().start(Limited, 4, run_id=RUN)
    assert await run.result(60) == 8
    await here.check_completed(RUN)


async def test_a_delta_that_comes_with_a_signal_and_cannot_be_merged_is_no_failure_of_the_node(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken = False

    async def read_and_break(services: Services, admitted: Admitted) -> StepMail:
        nonlocal is_broken
        mail = await read_mail(services, admitted)
        if mail.has_unread and not is_broken:
            is_broken = True
            deltas(here).append(NO_DELTA)
        return mail

    monkeypatch.setattr(steps, "read_mail", read_and_break)
    here = cluster(Hearing)
    run = await here.client().start(Hearing, 4, run_id=RUN)
    await run.signal(NEWS, "x")
    await here.start_worker()
    assert "The context of run 'run' cannot be" in await set_aside_reason(here)
    deltas(here).remove(NO_DELTA)
    await here.client().set_aside.requeue()
    assert await run.result(60) == 8
    await here.check_completed(RUN)
