"""Runs that fail or are cancelled undo what their steps did: which, in which order, and whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from floxide_amqp import (
    Cancelled,
    Compensation,
    Encryption,
    FailureInfo,
    NextAll,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    Workflow,
    WorkItemStatus,
    first,
    gather,
    node,
)
from floxide_amqp.core.compensation import begin
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.log_records import HistoryEntry
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, ItemInput, RunFailure, WorkItem
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.ports.key_value import Append, Batch, LogRange, Read, Trim
from floxide_amqp.runtime import control_actions
from floxide_amqp.stores import keys
from floxide_amqp.stores.sealing import Sealing
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]

RUN = RunId("run")


class PaymentError(Exception):
    """What a step of a test fails with."""


@dataclass
class Shop:
    """What the steps of a test share with it.

    Attributes:
        did: What bodies did, in order.
        undone: What compensations were given: step, input, output.
        broken: Steps whose body fails, and compensations that do, as often as it says.
        gates: Steps that wait until they are let go.
        stubborn: Steps that heed no cancellation while they wait.
    """

    did: list[str] = field(default_factory=list[str])
    undone: list[tuple[str, Any, Any]] = field(default_factory=list[tuple[str, Any, Any]])
    broken: dict[str, int] = field(default_factory=dict[str, int])
    gates: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    begun: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    stubborn: set[str] = field(default_factory=set[str])

    def wait_in(self, name: str) -> None:
        self.gates[name], self.begun[name] = asyncio.Event(), asyncio.Event()

    async def do(self, name: str) -> None:
        if name in self.gates:
            self.begun[name].set()
            while True:
                try:
                    await self.gates[name].wait()
                    break
                except asyncio.CancelledError:
                    if name not in self.stubborn:
                        raise
        if self.broken.get(name, 0):
            self.broken[name] -= 1
            raise PaymentError(name)
        self.did.append(name)

    async def undo(self, name: str, of: Compensation[Any, Any]) -> None:
        await self.do(f"un{name}")
        self.undone.append((name, of.input, of.output))


def shopping(shop: Shop, *, retry: RetryPolicy | None = None, **options: Any) -> Any:
    """A workflow of three steps, each of which can be undone; the last may fail."""

    @node(retry=retry)
    async def uncharge(of: Compensation[int, int]) -> None:
        await shop.undo("charge", of)

    @node(retry=retry)
    async def unpack(of: Compensation[int, str]) -> None:
        await shop.undo("pack", of)

    @node(retry=retry)
    async def unship(of: Compensation[str, int]) -> None:
        await shop.undo("ship", of)

    @node(compensation=uncharge)
    async def charge(x: int) -> int:
        await shop.do("charge")
        return x + 1

    @node(compensation=unpack)
    async def pack(x: int) -> str:
        await shop.do("pack")
        return f"box {x}"

    @node(compensation=unship)
    async def ship(box: str) -> int:
        await shop.do("ship")
        return len(box)

    @node
    async def tell(of: Cancelled) -> None:
        await shop.do(f"told {of.reason}")

    class Shopping(Workflow[int, int], **options):
        start = charge
        edges = (charge >> pack >> ship,)
        on_cancel = tell

    return Shopping


def undoing(history: list[HistoryEntry]) -> list[tuple[str, WorkItemStatus]]:
    return [(entry.node, entry.status) for entry in history if "#" in entry.node]


async def test_a_run_that_fails_undoes_its_steps_in_reverse_order_and_then_has_failed(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1})
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    with pytest.raises(RunFailedError, match="what this one did has been undone") as failed:
        await handle.result(60)
    assert failed.value.was_undone
    assert shop.undone == [("ship", "box 2", None), ("pack", 2, "box 2"), ("charge", 1, 2)]
    assert shop.did == ["charge", "pack", "unship", "unpack", "uncharge"]
    info = await here.client().run_info("run")
    assert (info.status, info.undo.left, info.undo.done, info.undo.failed) == (RunStatus.FAILED, 0, 3, 0)
    assert await here.settle() == {}
    with pytest.raises(InvalidRunStateError, match="what it did has been undone"):
        await handle.resume()


async def test_a_run_that_completes_undoes_nothing(cluster: MakeCluster) -> None:
    shop = Shop()
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.result(60) == 5
    assert shop.undone == []
    await here.check_completed("run")


async def test_a_cancelled_run_undoes_also_what_was_in_flight_once_its_body_has_ended(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    assert await handle.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        await handle.result(60)
    assert shop.did == ["charge", "told enough", "unpack", "uncharge"]
    assert shop.undone == [("pack", 2, None), ("charge", 1, 2)]
    assert await here.settle() == {}


async def test_nothing_is_undone_before_a_body_that_heeds_no_cancellation_is_given_up(cluster: MakeCluster) -> None:
    shop = Shop(stubborn={"pack"})
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    begun_at = asyncio.get_running_loop().time()
    await handle.cancel()
    assert await handle.wait(60) is RunStatus.CANCELLED
    assert asyncio.get_running_loop().time() - begun_at >= QUICK.cancel_grace
    assert shop.undone == [("pack", 2, None), ("charge", 1, 2)]
    shop.gates["pack"].set()


async def test_what_a_dead_worker_had_begun_is_undone_by_others(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    victim = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    await victim.kill()
    await handle.cancel()
    await here.start_worker()
    assert await handle.wait(120) is RunStatus.CANCELLED
    assert shop.undone == [("pack", 2, None), ("charge", 1, 2)]
    assert await here.settle() == {}


async def test_a_worker_that_dies_while_it_undoes_is_followed_by_another(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1})
    shop.wait_in("unpack")
    here = cluster(shopping(shop))
    victim = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["unpack"].wait()
    await victim.kill()
    shop.gates["unpack"].set()
    await here.start_worker()
    assert await handle.wait(120) is RunStatus.FAILED
    assert [name for name, _, _ in shop.undone][-1] == "charge"
    assert undoing(await here.history("run")) == [
        ("ship#unship", WorkItemStatus.COMPLETED),
        ("pack#unpack", WorkItemStatus.COMPLETED),
        ("charge#uncharge", WorkItemStatus.COMPLETED),
    ]


async def test_a_compensation_that_fails_is_tried_again_by_its_policy(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1, "unpack": 2})
    here = cluster(shopping(shop, retry=RetryPolicy(max_attempts=3, initial_backoff=timedelta(seconds=1))))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    assert [name for name, _, _ in shop.undone] == ["ship", "pack", "charge"]
    assert (await here.client().run_info("run")).undo.failed == 0


async def test_a_compensation_that_fails_for_good_is_shown_and_the_others_run(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1, "unpack": 9})
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    with pytest.raises(RunFailedError, match="node 'ship'"):
        await handle.result(60)
    assert [name for name, _, _ in shop.undone] == ["ship", "charge"]
    info = await here.client().run_info("run")
    assert (info.undo.done, info.undo.failed) == (2, 1)
    errors = [(error.node, error.will_retry) for error in await here.client().errors("run")]
    assert errors == [("ship", False), ("pack#unpack", False)]
    assert await here.settle() == {}


async def test_cancelling_a_run_that_undoes_changes_nothing_and_terminating_it_ends_it(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1})
    shop.wait_in("unpack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["unpack"].wait()
    assert await handle.cancel() is False
    with pytest.raises(InvalidRunStateError, match="compensating"):
        await handle.pause()
    assert await handle.status() is RunStatus.COMPENSATING
    assert await handle.terminate("never mind")
    with pytest.raises(RunCancelledError, match="never mind"):
        await handle.result(1)
    assert [name for name, _, _ in shop.undone] == ["ship"]
    assert await here.settle() == {}
    info = await here.client().run_info("run")
    assert (info.undo.left, info.undo.done) == (2, 1)


async def test_a_run_that_is_terminated_undoes_nothing(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    assert await handle.terminate()
    assert await handle.terminate() is False
    assert await here.settle() == {}
    assert shop.did == ["charge"]
    assert await handle.status() is RunStatus.CANCELLED


async def test_a_run_that_is_too_late_undoes_what_it_did(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("ship")
    here = cluster(shopping(shop, timeout=timedelta(seconds=30)))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    with pytest.raises(RunTimeoutError):
        await handle.result(120)
    assert [name for name, _, _ in shop.undone] == ["ship", "pack", "charge"]


async def test_a_paused_run_that_is_cancelled_undoes_what_it_did(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    await handle.pause()
    shop.gates["pack"].set()
    while (await here.client().run_info("run")).undo.left != 2 or "pack" not in shop.did:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await handle.cancel()
    assert await handle.wait(60) is RunStatus.CANCELLED
    assert [name for name, _, _ in shop.undone] == ["pack", "charge"]


async def test_a_step_that_waits_for_its_next_try_is_undone_as_well(cluster: MakeCluster) -> None:
    shop = Shop(broken={"charge": 1})
    here = cluster(shopping(shop, retry=None), retry=RetryPolicy(max_attempts=5, initial_backoff=timedelta(hours=1)))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    while not await here.client().errors("run"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    await handle.cancel()
    assert await handle.wait(60) is RunStatus.CANCELLED
    assert shop.undone == [("charge", 1, None)]


async def test_a_step_whose_fallback_took_over_has_its_turn_among_those_that_are_undone(cluster: MakeCluster) -> None:
    shop = Shop(broken={"pay": 1, "ship": 1})

    def step(name: str) -> Any:
        @node
        async def undo(of: Compensation[int, int]) -> None:
            await shop.undo(name, of)

        @node(compensation=undo.named(f"un{name}"))
        async def do(x: int) -> int:
            await shop.do(name)
            return x + 1

        return do.named(name)

    first, pay, invoice, ship = step("first"), step("pay"), step("invoice"), step("ship")

    class Paying(Workflow[int, int]):
        start = first
        edges = (first >> pay >> ship, pay.on_failure(PaymentError) >> invoice >> ship)

    here = cluster(Paying)
    await here.start_worker()
    handle = await here.client().start(Paying, 1, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    assert shop.undone == [("ship", 3, None), ("invoice", 2, 3), ("pay", 2, None), ("first", 1, 2)]


async def test_a_late_commit_of_a_step_that_is_undone_is_refused(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    listeners, here.bus._listeners = here.bus._listeners, set()
    await handle.cancel()
    here.bus._listeners = listeners
    shop.gates["pack"].set()
    assert await handle.wait(60) is RunStatus.CANCELLED
    assert "pack" in shop.did
    assert shop.undone == [("pack", 2, None), ("charge", 1, 2)]
    ended = [entry.node for entry in await here.history("run")]
    assert ended == ["charge", "#tell", "pack#unpack", "charge#uncharge"]


async def test_a_run_that_failed_by_a_damaged_record_undoes_only_when_it_is_cancelled(cluster: MakeCluster) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    client = here.client()
    damage = RunFailure(node="", item_id="x", error=describe_error(ValueError("damaged")), attempts=0)  # type: ignore[arg-type]
    assert await control_actions.fail_run(client.services, RUN, lambda run: damage, undoes=False)
    assert await handle.status() is RunStatus.FAILED
    assert shop.undone == []
    assert await handle.cancel("give up")
    assert await handle.wait(60) is RunStatus.CANCELLED
    assert [name for name, _, _ in shop.undone] == ["pack", "charge"]


async def test_undoing_goes_on_when_the_record_that_stopped_it_is_repaired(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1})
    shop.wait_in("unship")
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["unship"].wait()
    client = here.client()
    log = keys.compensables(RUN)
    whole = (await client.services.session.read(Read(slot=slot_of(RUN), logs=(LogRange(log, 0, 100),)))).logs[0]
    await rewrite(client, log, whole.length, (b"\x00" * 9,) * 2)
    shop.gates["unship"].set()
    assert await handle.wait(60) is RunStatus.FAILED
    info = await client.run_info("run")
    assert "run/u" in info.failure
    assert [name for name, _, _ in shop.undone] == ["ship"]
    await rewrite(client, log, whole.length + 2, whole.entries)
    assert await handle.resume()
    assert await handle.wait(60) is RunStatus.FAILED
    assert [name for name, _, _ in shop.undone] == ["ship", "pack", "charge"]


async def rewrite(client: Any, log: Any, length: int, entries: tuple[bytes, ...]) -> None:
    """What the log had is trimmed away, and other entries are in its place."""
    writes = (Append(log, entries), Trim(log, length))
    await client.services.session.commit(Batch(slot=slot_of(RUN), writes=writes))


async def test_a_run_that_was_undone_is_deleted_with_all_that_was_noted_of_it(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1, "unpack": 9})
    here = cluster(shopping(shop))
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    terminated = await here.client().start(here.workflows[0], 1, run_id="other")
    await terminated.terminate()
    assert here.store.leftovers("in:run:", "in:other:")
    for each in (handle, terminated):
        assert await each.delete()
    assert here.store.leftovers("in:", "live:") == {}
    for run_id in (RUN, RunId("other")):
        page = await here.client().services.session.records(slot_of(run_id), partition=run_id, after=b"", limit=100)
        assert [record.key.name for record in page.records] == ["tombstone"]


async def test_an_exported_run_is_undone_in_another_store(cluster: MakeCluster, tmp_path: Path) -> None:
    shop = Shop()
    shop.wait_in("pack")
    here, there = cluster(shopping(shop)), cluster(shopping(shop))
    member = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await shop.begun["pack"].wait()
    await handle.pause(reason="moving")
    await member.kill()
    await here.client().export_run("run", tmp_path / "run")
    there.store._guard = lambda *_: None  # type: ignore[method-assign]  # an import gives cells their versions
    await there.client().import_run(tmp_path / "run")
    await there.start_worker()
    moved = there.client().handle(there.workflows[0], "run")
    assert [entry.action for entry in await there.client().audit_log("run")] == ["pause"]
    assert await moved.cancel()
    assert await moved.wait(60) is RunStatus.CANCELLED
    assert shop.undone == [("pack", 2, None), ("charge", 1, 2)]


async def test_an_encrypted_run_is_undone_and_nobody_reads_what_its_steps_returned(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1})
    sealing = Sealing((Encryption({"key": bytes(range(32))}),))
    here = cluster(shopping(shop))
    make = here._services

    def sealed(*args: Any) -> Any:
        services, *rest = make(*args)
        services.sealing = sealing
        services._open_stores()
        services.cache.forget(RUN)
        return (services, *rest)

    here._services = sealed  # type: ignore[method-assign]
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    assert shop.undone == [("ship", "box 2", None), ("pack", 2, "box 2"), ("charge", 1, 2)]
    log = LogRange(keys.compensables(RUN), 0, 9)
    entries = (await here.client().services.session.read(Read(slot=slot_of(RUN), logs=(log,)))).logs[0].entries
    assert len(entries) == 2
    assert not any(b"box" in entry for entry in entries)


@pytest.mark.parametrize("kind", sorted(OF_THE_ENGINE, key=str))
def test_what_the_engine_does_in_the_name_of_a_node_is_no_step_to_be_undone(kind: InputKind) -> None:
    shop = Shop()
    graph = shopping(shop).graph
    name = next(name for name, held in graph.nodes.items() if held.options.compensation is not None)
    item = WorkItem(
        item_id=WorkItemId("i"), node=name, queue="default", status=WorkItemStatus.PENDING, input=ItemInput(kind=kind)
    )
    assert begin(item, graph.nodes) == (item, ())
    assert begin(replace(item, input=ItemInput()), graph.nodes)[1] != ()


async def test_a_step_whose_fan_out_was_closed_while_the_run_was_paused_is_let_go_and_undone(
    cluster: MakeCluster,
) -> None:
    begun, go, did = [asyncio.Event() for _ in range(2)], [asyncio.Event() for _ in range(2)], list[str]()

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def unwork(of: Compensation[int, int]) -> None:
        did.append(f"undo {of.input}")

    @node(compensation=unwork)
    async def work(x: int) -> int:
        begun[x].set()
        await go[x].wait()
        return x

    @node
    async def ship(x: int) -> int:
        return x

    class Race(Workflow[int, int]):
        start = split
        edges = (split >> work >> first(ship),)

    here = cluster(Race)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Race, 1, run_id="run")
    for each in begun:
        await each.wait()
    await client.pause("run")
    await asyncio.sleep(1)
    for each in go:
        each.set()
        await asyncio.sleep(1)
    await client.cancel("run")
    assert await handle.wait(600) is RunStatus.CANCELLED
    assert sorted(did) == ["undo 0", "undo 1"]


async def test_a_run_that_stopped_while_it_undid_goes_on_with_a_compensation_that_nothing_leads_to(
    cluster: MakeCluster,
) -> None:
    shop = Shop(broken={"ship": 1})
    shop.wait_in("unship")
    here = cluster(shopping(shop))
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    await shop.begun["unship"].wait()
    damage = RunFailure(
        node="", item_id=WorkItemId("x"), error=describe_error(ValueError("a damaged record")), attempts=0
    )
    assert await control_actions.fail_run(client.services, RUN, lambda run: damage, undoes=False)
    await asyncio.sleep(10)
    shop.gates["unship"].set()
    await asyncio.sleep(60)
    assert await handle.resume()
    assert await handle.wait(600) is RunStatus.FAILED
    assert [step for step, _, _ in shop.undone] == ["ship", "pack", "charge"]


LATER = RetryPolicy(max_attempts=9, initial_backoff=timedelta(seconds=5))


async def waits_for_its_next_try(client: Any, name: str) -> WorkItemId:
    """Return the item of a node once it waits for a retry."""
    while True:
        for found in await client.services.items.live(RUN):
            if found.item.node == name and found.item.status is WorkItemStatus.WAITING_RETRY:
                return found.item.item_id
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("ends", ["resumed", "cancelled"])
async def test_a_compensation_that_waited_for_its_next_try_while_the_run_had_failed_is_tried_again(
    cluster: MakeCluster, ends: str
) -> None:
    shop = Shop(broken={"ship": 1, "unship": 1})
    work = shopping(shop, retry=LATER)
    here = cluster(work)
    await here.start_worker()
    client = here.client()
    handle = await client.start(work, 1, run_id="run")
    await waits_for_its_next_try(client, "ship#unship")
    damage = RunFailure(
        node="", item_id=WorkItemId("x"), error=describe_error(ValueError("a damaged record")), attempts=0
    )
    assert await control_actions.fail_run(client.services, RUN, lambda run: damage, undoes=False)
    await asyncio.sleep(60)  # the timer of the retry finds a run that is over
    assert await (handle.resume() if ends == "resumed" else handle.cancel())
    assert await handle.wait(600) is (RunStatus.FAILED if ends == "resumed" else RunStatus.CANCELLED)
    assert [step for step, _, _ in shop.undone] == ["ship", "pack", "charge"]
    assert await here.settle() == {}


async def test_cancelling_a_run_whose_compensation_waits_for_its_next_try_changes_nothing(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1, "unship": 1})
    work = shopping(shop, retry=LATER)
    here = cluster(work)
    await here.start_worker()
    client = here.client()
    handle = await client.start(work, 1, run_id="run")
    await waits_for_its_next_try(client, "ship#unship")
    assert not await handle.cancel()
    assert await handle.wait(600) is RunStatus.FAILED
    assert [step for step, _, _ in shop.undone] == ["ship", "pack", "charge"]
    assert await here.settle() == {}


async def test_terminating_a_run_whose_compensation_waits_for_its_next_try_leaves_nothing(cluster: MakeCluster) -> None:
    shop = Shop(broken={"ship": 1, "unship": 1})
    work = shopping(shop, retry=LATER)
    here = cluster(work)
    await here.start_worker()
    client = here.client()
    handle = await client.start(work, 1, run_id="run")
    await waits_for_its_next_try(client, "ship#unship")
    assert await handle.terminate()
    assert await handle.wait(600) is RunStatus.CANCELLED
    assert shop.undone == []
    assert await here.settle() == {}


async def test_a_step_that_waits_for_its_next_try_when_its_run_is_cancelled_is_undone_once(
    cluster: MakeCluster,
) -> None:
    did: list[str] = []

    @node
    async def give_back(of: Compensation[int, int]) -> None:
        did.append(f"undo {of.input} {of.is_completed}")

    @node(compensation=give_back, retry=LATER)
    async def pay(x: int) -> int:
        did.append("pay")
        raise PaymentError("later")

    class Paying(Workflow[int, int]):
        start = pay
        edges = ()

    here = cluster(Paying)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Paying, 1, run_id="run")
    await waits_for_its_next_try(client, "pay")
    assert await handle.cancel()
    assert await handle.wait(600) is RunStatus.CANCELLED
    await asyncio.sleep(60)
    assert did == ["pay", "undo 1 False"]
    assert await here.settle() == {}


async def test_a_failure_that_arrived_at_its_join_is_undone_after_what_came_behind(cluster: MakeCluster) -> None:
    did: list[str] = []

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def unwork(of: Compensation[int, int]) -> None:
        did.append(f"unwork {of.input} {of.is_completed}")

    @node(compensation=unwork)
    async def work(x: int) -> int:
        if x == 0:
            raise PaymentError("work")
        return x

    @node
    async def unsum(of: Compensation[list[int | FailureInfo], int]) -> None:
        did.append("unsum")

    @node(compensation=unsum)
    async def sum_up(parts: list[int | FailureInfo]) -> int:
        return len(parts)

    @node
    async def ship(x: int) -> int:
        raise PaymentError("ship")

    class Collecting(Workflow[int, int]):
        start = split
        edges = (split >> work >> gather(sum_up, errors="collect") >> ship,)

    here = cluster(Collecting)
    await here.start_worker()
    handle = await here.client().start(Collecting, 1, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    assert did[0] == "unsum"
    assert sorted(did[1:]) == ["unwork 0 False", "unwork 1 True"]
