"""Signals that nodes send to runs which are about to start, or never will; letters and values that are encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from floxide_amqp import (
    ChildWorkflow,
    Encryption,
    Hold,
    RunStatus,
    Signal,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.letters import Letter
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.runtime.child_letters import StartChild
from floxide_amqp.runtime.letter_kinds import KINDS
from floxide_amqp.runtime.letters import Postman
from floxide_amqp.runtime.signal_letters import WAITS_FOR_RUN_MS, SendSignal
from floxide_amqp.stores.letters import GRACE_MS
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_sealed_runs import BOTH, NEW, OLD, SealedCluster
from tests.unit.runtime.test_signals import held

MakeCluster = Callable[..., Cluster]

WORD = Signal("word", str)


@node
async def listen(ctx: WorkflowCtx[Any], _: int) -> str | Hold:
    word = ctx.received(WORD)
    return Hold(until=WORD) if word is None else word


class Listening(Workflow[int, str]):
    start = listen


@node
async def tell(ctx: WorkflowCtx[Any], child: str) -> str:
    ctx.signal(child, WORD, "hello")
    return child


class Telling(Workflow[int, str]):
    start = ChildWorkflow(Listening, wait=False)
    edges = (start >> tell,)


@node
async def tell_nobody(ctx: WorkflowCtx[Any], run_id: str) -> str:
    ctx.signal(run_id, WORD, "hello")
    return run_id


class TellingLate(Workflow[str, str]):
    start = tell_nobody


async def test_a_signal_to_a_child_comes_after_what_starts_it(cluster: MakeCluster) -> None:
    here = cluster(Telling)
    worker = await here.start_worker()
    posted: list[Letter] = []
    worker.services.on_letters = posted.extend  # whoever delivers them takes the later one first
    handle = await here.client().start(Telling, 1, run_id="parent")
    child = await handle.result(60)
    signal, start = [next(each for each in posted if each.kind == kind.name) for kind in (SendSignal, StartChild)]
    assert await here.client().services.runs.find(RunId(child)) is None
    postman = Postman(worker.services, KINDS)
    assert await postman.deliver(signal)
    assert await postman.deliver(start)
    assert await here.client().handle(Listening, child).result(60) == "hello"


async def test_a_signal_waits_for_a_run_that_starts_soon(cluster: MakeCluster) -> None:
    here = cluster(TellingLate, Listening)
    await here.start_worker()
    client = here.client()
    assert await (await client.start(TellingLate, "late", run_id="teller")).result(60) == "late"
    await asyncio.sleep(2 * GRACE_MS / 1000)
    assert await (await client.start(Listening, 1, run_id="late")).result(60) == "hello"
    assert here.store.leftovers("letters") == {}


async def test_a_signal_to_a_run_that_nobody_ever_starts_is_found_in_the_quarantine(cluster: MakeCluster) -> None:
    here = cluster(TellingLate)
    await here.start_worker()
    client = here.client()
    assert await (await client.start(TellingLate, "never", run_id="teller")).result(60) == "never"
    assert len(here.store.leftovers("letters")["letters"]) == 1
    await asyncio.sleep(WAITS_FOR_RUN_MS / 1000 + 2 * GRACE_MS / 1000)
    assert here.store.leftovers("letters") == {}
    (kept,) = await client.services.quarantine.list()
    assert "The signal 'word' that run 'teller' has sent: There is no run 'never'" in kept.reason


async def test_a_run_that_has_signalled_one_that_is_not_there_is_deleted_once_that_is_waited_for_no_more(
    cluster: MakeCluster,
) -> None:
    here = cluster(TellingLate)
    await here.start_worker()
    client = here.client()
    await (await client.start(TellingLate, "never", run_id="teller")).wait(60)
    with pytest.raises(InvalidRunStateError) as refused:
        await client.delete("teller")
    said = str(refused.value)
    assert "It has signalled run never, which is not there. It is waited for until " in said
    assert "servers" not in said
    await asyncio.sleep(WAITS_FOR_RUN_MS / 1000)
    assert await client.delete("teller")
    (kept,) = await client.services.quarantine.list()
    assert "There is no run 'never'" in kept.reason


@pytest_asyncio.fixture
async def sealed() -> AsyncIterator[SealedCluster]:
    here = SealedCluster(Telling, Listening)
    yield here
    await here.close()
    assert here.store.violations == []


async def test_letters_are_delivered_at_once_where_encryption_is_required(sealed: SealedCluster) -> None:
    sealed.codecs = (Encryption({"new": NEW}, required=True),)
    worker = await sealed.start_worker()
    handle = await sealed.client().start(Telling, 1, run_id="parent")
    began = asyncio.get_running_loop().time()
    child = await handle.result(60)
    assert await sealed.client().handle(Listening, child).result(60) == "hello"
    assert asyncio.get_running_loop().time() - began < GRACE_MS / 1000
    assert worker.services.figures.letters_put_off == 0


async def test_an_item_woken_with_a_value_that_no_worker_can_read_waits_for_one_that_can(
    sealed: SealedCluster,
) -> None:
    old_only = (Encryption({"old": OLD}),)
    await sealed.worker_with(*old_only)
    handle = await sealed.client_with(*old_only).start(Listening, 1, run_id="run")
    await held(sealed, "run")
    assert await sealed.client_with(*BOTH).signal("run", WORD, "hello")
    await parked(sealed, "run")
    assert await handle.status() is RunStatus.WAITING
    await sealed.worker_with(*BOTH)
    assert await sealed.client().handle(Listening, "run").result(60) == "hello"
    assert sealed.store.leftovers("parked") == {}


async def test_a_step_does_not_begin_while_its_mailbox_has_a_value_that_the_worker_cannot_read(
    sealed: SealedCluster,
) -> None:
    old_only = (Encryption({"old": OLD}),)
    client = sealed.client_with(*old_only)
    await client.start(Listening, 1, run_id="run")
    assert await sealed.client_with(*BOTH).signal("run", WORD, "hello")
    await sealed.worker_with(*old_only)
    await parked(sealed, "run")
    (item,) = await client.pending_work("run")
    assert "the encryption key 'new'" in item.note
    await sealed.worker_with(*BOTH)
    assert await sealed.client().handle(Listening, "run").result(60) == "hello"
    assert await client.errors("run") == []


async def parked(here: Cluster, run_id: str) -> None:
    """Wait until the item of a run is parked; it must not fail before."""
    client = here.client()
    while True:
        assert await client.status(run_id) is not RunStatus.FAILED
        items = await client.pending_work(run_id)
        if items and items[0].status is WorkItemStatus.PARKED:
            return
        await asyncio.sleep(0.05)
