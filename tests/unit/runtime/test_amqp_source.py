"""A source from a queue, in virtual time: each message one run, whatever dies, and no message lost or stuck."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgpack
import pytest
import pytest_asyncio

from floxide_amqp import (
    AmqpSource,
    ConfigurationError,
    Context,
    DeadLetterKind,
    DefinitionError,
    Encryption,
    Fixed,
    Floxide,
    Hold,
    MessageKey,
    Priority,
    RunStatus,
    SourceMessage,
    SourceNotFoundError,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import PayloadMismatchError
from floxide_amqp.runtime.feed_control import HELD_SECONDS
from floxide_amqp.stores.sealing import Sealing
from floxide_amqp.testing.faults import StoreFaults
from tests.unit.runtime.hand_fed_queue import SourceCluster

MakeCluster = Callable[..., SourceCluster]


@dataclass(frozen=True)
class Order:
    id: str
    count: int = 1


@node
async def ship(order: Order) -> str:
    return f"{order.count} for {order.id}"


class Shipping(Workflow[Order, str]):
    start = ship


@node
async def wait_for_ever(order: Order) -> str | Hold:
    return Hold(for_=timedelta(days=30))


class Endless(Workflow[Order, str]):
    start = wait_for_ever


class Urgent(Workflow[Order, str], priorities=True):
    start = ship


class Tenant(Context):
    name: Fixed[str]


@node
async def greet(ctx: WorkflowCtx[Tenant], order: Order) -> str:
    return f"{ctx.state.name}: {order.id}"


class Greeting(Workflow[Order, str, Tenant]):
    start = greet


def orders(workflow: Any = Shipping, **options: Any) -> AmqpSource[Any]:
    return AmqpSource("orders", workflow, queue="shop.orders", **options)


def placed(number: int, **properties: Any) -> SourceMessage:
    body = json.dumps({"id": str(number), "count": number}).encode()
    return SourceMessage(**{"body": body, "message_id": f"m{number}", **properties})


@pytest_asyncio.fixture
async def world() -> AsyncIterator[MakeCluster]:
    made: list[SourceCluster] = []

    def make(source: AmqpSource[Any] | None = None, **options: Any) -> SourceCluster:
        made.append(SourceCluster(source or orders(), **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()
        assert each.store.violations == []


async def test_each_message_becomes_a_run_and_is_acknowledged(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(1, 4)))
    await cluster.taken(3)
    client = cluster.client()
    results = [await client.handle(Shipping, run_id).result(timeout=60) for run_id in await cluster.runs()]
    assert await cluster.runs() == ["orders:m1", "orders:m2", "orders:m3"]
    assert results == ["1 for 1", "2 for 2", "3 for 3"]
    info = await cluster.info()
    assert (info.received, info.started, info.duplicates, info.origin) == (3, 3, 0, "queue shop.orders")


async def test_a_message_that_comes_again_starts_nothing_again(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(placed(1), placed(1), placed(2), placed(1))
    await cluster.taken(4)
    assert await cluster.runs() == ["orders:m1", "orders:m2"]
    info = await cluster.info()
    assert (info.received, info.started, info.duplicates) == (4, 2, 2)


async def test_nothing_is_acknowledged_before_its_run_is_recorded(world: MakeCluster) -> None:
    cluster = world()
    member = await cluster.start_worker()
    while not cluster.upstream.readers:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    member.store.faults = StoreFaults(unavailable=1.0)
    cluster.upstream.put(placed(1))
    await asyncio.sleep(30)
    assert (cluster.upstream.acknowledged, await cluster.runs()) == ([], [])
    member.store.faults = StoreFaults()
    await cluster.taken(1)
    assert await cluster.runs() == ["orders:m1"]


async def test_a_worker_that_dies_loses_nothing_and_another_takes_what_it_held(world: MakeCluster) -> None:
    cluster = world(orders(batch=3))
    first = await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(100)))
    await cluster.taken(3)
    await first.kill()
    await asyncio.gather(first.task, return_exceptions=True)
    await cluster.start_worker()
    await cluster.taken(100)
    assert await cluster.runs() == sorted(f"orders:m{number}" for number in range(100))


async def test_a_lost_connection_repeats_messages_and_no_runs(world: MakeCluster) -> None:
    cluster = world(orders(batch=5))
    await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(50)))
    for _ in range(5):
        await asyncio.sleep(0.001)
        cluster.upstream.lose_connections()
    await cluster.taken(50)
    assert len(await cluster.runs()) == 50


async def test_two_workers_share_a_queue(world: MakeCluster) -> None:
    cluster = world(orders(prefetch=1))
    for _ in range(2):
        await cluster.start_worker()
    while len(cluster.upstream.readers) < 2:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    cluster.upstream.put(*(placed(number) for number in range(20)))
    await cluster.taken(20)
    assert len(await cluster.runs()) == 20


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (placed(1, body=b"{not json"), "The body for workflow 'Shipping' must be Order"),
        (placed(1, body=b'{"id": "1", "count": "many"}'), "count: input should be a valid integer"),
        (placed(1, body=b"[" * 100_000), "must be Order"),
        (placed(1, content_type="text/html"), "Its content_type is 'text/html'"),
        (placed(1, content_encoding="gzip"), "Its content_encoding is 'gzip'"),
        (placed(1, content_type="application/msgpack", body=b"\xc1"), "cannot be unpacked"),
        (placed(1, content_type="application/msgpack", body=b"\xdd\xff\xff\xff\xff"), "cannot be unpacked"),
        (placed(1, message_id=""), "It has no message_id"),
        (placed(1, body=b'"' + b"a" * 2_000_000 + b'"'), "at most 1,048,576 are decoded"),
    ],
)
async def test_a_message_that_no_run_can_be_made_of_is_kept_with_its_reason(
    world: MakeCluster, message: SourceMessage, reason: str
) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(message, placed(2))
    await cluster.taken(2)
    client = cluster.client()
    (letter,) = await client.dead_letters()
    assert reason in letter.reason
    assert (letter.kind, letter.queue) == (DeadLetterKind.UNREADABLE, "shop.orders")
    assert (await client.dead_letter(letter.letter_id)).body == message.body
    assert (await cluster.info()).quarantined == 1
    assert await cluster.runs() == ["orders:m2"]


async def test_a_message_with_the_key_of_another_is_kept_and_does_not_stop_the_source(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(placed(1), placed(2, message_id="m1"), placed(3))
    await cluster.taken(3)
    (letter,) = await cluster.client().dead_letters()
    assert "orders:m1" in letter.reason
    assert len(await cluster.runs()) == 2


async def test_a_kept_message_is_started_once_it_can_be_decoded(world: MakeCluster) -> None:
    def decode(message: SourceMessage) -> Order:
        if not is_mended:
            raise ValueError("what is this?")
        return Order(**json.loads(message.body))

    is_mended = False
    cluster = world(orders(decode=decode, attributes={"tenant": "x-tenant"}))
    await cluster.start_worker()
    cluster.upstream.put(placed(7, headers={"x-tenant": "acme"}))
    await cluster.taken(1)
    client = cluster.client()
    (letter,) = await client.dead_letters()
    assert "decode=... raised ValueError: what is this?" in letter.reason
    is_mended = True
    await client.requeue_dead_letter(letter.letter_id)
    assert await client.dead_letters() == []
    assert await client.handle(Shipping, "orders:m7").result(timeout=60) == "7 for 7"
    assert [run.run_id for run in (await client.list_runs(attributes={"tenant": "acme"})).runs] == ["orders:m7"]


async def test_a_kept_message_that_still_makes_no_sense_stays(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(placed(1, body=b"{}"))
    await cluster.taken(1)
    client = cluster.client()
    (letter,) = await client.dead_letters()
    with pytest.raises(PayloadMismatchError):
        await client.requeue_dead_letter(letter.letter_id)
    assert len(await client.dead_letters()) == 1
    await client.drop_dead_letter(letter.letter_id)
    assert await client.dead_letters() == []


async def test_whoever_does_not_declare_the_source_cannot_requeue_its_messages(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(placed(1, body=b"{}"))
    await cluster.taken(1)
    client = cluster.client()
    (letter,) = await client.dead_letters()
    client.services.sources = ()
    with pytest.raises(ConfigurationError, match="came from source 'orders', which this application does not declare"):
        await client.requeue_dead_letter(letter.letter_id)


async def test_a_queue_may_get_back_what_makes_no_sense(world: MakeCluster) -> None:
    cluster = world(orders(on_unusable="reject"))
    await cluster.start_worker()
    cluster.upstream.put(placed(1, body=b"{}"), placed(2))
    await cluster.taken(2)
    assert [message.message_id for message in cluster.upstream.rejected] == ["m1"]
    assert [message.message_id for message in cluster.upstream.acknowledged] == ["m2"]
    assert await cluster.client().dead_letters() == []
    assert (await cluster.info()).rejected == 1


async def test_where_payloads_are_encrypted_the_quarantine_shows_nothing_to_the_store(world: MakeCluster) -> None:
    cluster = world(orders(extra_fields="refuse"))
    member = await cluster.start_worker()
    keys = Sealing((Encryption({"k1": bytes(32)}),))
    while not cluster.upstream.readers:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    member.services.sealing = keys
    cluster.upstream.put(placed(1, body=b'{"id": "secret-17", "secret-field": 1}', headers={"x": "secret-header"}))
    await cluster.taken(1)
    client = cluster.client()
    client.services.sealing = keys
    (kept,) = await client.quarantine()
    assert b"secret" not in kept.body
    assert "secret" not in kept.reason
    opened = await client.quarantined(kept.quarantine_id)
    assert opened is not None
    assert b"secret-17" in opened.body


async def test_msgpack_decodes_by_its_content_type(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    body = msgpack.packb({"id": "9", "count": 4, "unknown": True})
    cluster.upstream.put(placed(9, body=body, content_type="application/x-msgpack; version=1"))
    await cluster.taken(1)
    assert await cluster.client().handle(Shipping, "orders:m9").result(timeout=60) == "4 for 9"


async def test_context_and_attributes_come_from_the_message(world: MakeCluster) -> None:
    def context(_: Order, message: SourceMessage) -> Tenant:
        return Tenant(name=str(message.headers["tenant"]))

    cluster = world(orders(Greeting, context=context, attributes={"tenant": "tenant", "absent": "x-absent"}))
    await cluster.start_worker()
    cluster.upstream.put(placed(1, headers={"tenant": "acme"}), placed(2))
    await cluster.taken(2)
    client = cluster.client()
    assert await client.handle(Greeting, "orders:m1").result(timeout=60) == "acme: 1"
    assert (await client.run_info("orders:m1")).attributes == {"tenant": "acme"}
    (letter,) = await client.dead_letters()
    assert "context=... raised KeyError" in letter.reason


async def test_a_runs_level_comes_from_its_message(world: MakeCluster) -> None:
    cluster = world(orders(Urgent, priority=lambda message: Priority(message.headers["level"])))
    await cluster.start_worker()
    cluster.upstream.put(placed(1, headers={"level": "high"}), placed(2, headers={"level": "highest"}))
    await cluster.taken(2)
    run = await cluster.client().services.runs.load(RunId("orders:m1"))
    assert run.header.priority == Priority.HIGH.number
    (letter,) = await cluster.client().dead_letters()
    assert "priority=... raised ValueError" in letter.reason


async def test_while_too_many_runs_are_open_messages_stay_in_their_queue(world: MakeCluster) -> None:
    cluster = world(orders(Endless, max_open_runs=5, batch=2, prefetch=4))
    await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(12)))
    await cluster.taken(5)
    await asyncio.sleep(60)
    assert len(await cluster.runs()) == 5
    assert cluster.upstream.returned == 0
    client = cluster.client()
    assert await client.sources.open_runs("orders") == 5
    for run_id in (await cluster.runs())[:3]:
        await client.cancel(run_id)
    await cluster.taken(8)
    await asyncio.sleep(60)
    assert len(await cluster.runs()) == 8


async def test_messages_that_are_held_for_long_go_back_once(world: MakeCluster) -> None:
    cluster = world(orders(Endless, max_open_runs=1, prefetch=3))
    await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(4)))
    await cluster.taken(1)
    await asyncio.sleep(2 * HELD_SECONDS)
    assert (cluster.upstream.returned, cluster.upstream.readers, len(cluster.upstream.waiting)) == (1, [], 3)
    await cluster.client().cancel("orders:m0")
    await cluster.taken(2)
    assert len(await cluster.runs()) == 2


async def test_a_rate_holds_for_each_process(world: MakeCluster) -> None:
    cluster = world(orders(rate=10.0))
    await cluster.start_worker()
    began = asyncio.get_running_loop().time()
    cluster.upstream.put(*(placed(number) for number in range(100)))
    await cluster.taken(100)
    assert asyncio.get_running_loop().time() - began >= 9.0


async def test_a_paused_source_takes_nothing_and_a_resumed_one_goes_on(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await cluster.taken(1)
    client = cluster.client()
    await client.sources.pause("orders", reason="stock-taking")
    while cluster.upstream.readers:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    cluster.upstream.put(placed(2))
    await asyncio.sleep(60)
    assert len(await cluster.runs()) == 1
    info = await cluster.info()
    assert (info.paused, info.note) == (True, "stock-taking")
    await client.sources.resume("orders")
    await cluster.taken(2)
    assert not (await cluster.info()).paused


async def test_what_keeps_a_source_from_its_queue_is_shown_until_it_is_over(world: MakeCluster) -> None:
    cluster = world()
    cluster.upstream.problem = "there is no queue 'shop.orders'; it is waited for"
    member = await cluster.start_worker()
    await asyncio.sleep(5)
    info = await cluster.info()
    assert (info.problem, info.problem_worker) == (cluster.upstream.problem, member.name)
    assert info.problem_at is not None
    cluster.upstream.problem = ""
    await asyncio.sleep(5)
    assert (await cluster.info()).problem == ""


async def test_a_worker_that_is_asked_to_end_records_what_it_has_in_hand(world: MakeCluster) -> None:
    cluster = world()
    member = await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(300)))
    await cluster.taken(1)
    await member.stop()
    assert cluster.upstream.readers == []
    started = {f"orders:{message.message_id}" for message in cluster.upstream.acknowledged}
    assert started <= set(await cluster.runs())
    assert len(cluster.upstream.waiting) + len(started) == 300


async def test_runs_that_were_deleted_are_not_started_again(world: MakeCluster) -> None:
    cluster = world()
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await cluster.taken(1)
    client = cluster.client()
    await client.handle(Shipping, "orders:m1").result(timeout=60)
    await client.delete("orders:m1")
    while await client.services.runs.find(RunId("orders:m1")) is not None:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    cluster.upstream.put(placed(1, redelivered=True))
    await cluster.taken(2)
    assert (await cluster.info()).duplicates == 1
    assert await cluster.runs() == []


async def test_a_source_that_workers_are_not_to_run_waits_for_somebody_who_does(world: MakeCluster) -> None:
    cluster = world(orders(run_by_workers=False))
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await asyncio.sleep(30)
    assert await cluster.runs() == []
    with pytest.raises(SourceNotFoundError, match="There is no source 'orders'"):
        await cluster.info()


async def test_steering_what_is_not_there_says_so(world: MakeCluster) -> None:
    client = world().client()
    with pytest.raises(SourceNotFoundError, match="sources list"):
        await client.sources.pause("other")
    assert await client.sources.list() == []


async def test_a_run_of_a_source_ends_like_any_other(world: MakeCluster) -> None:
    cluster = world(orders(key=MessageKey.body()))
    await cluster.start_worker()
    cluster.upstream.put(placed(1), placed(1, message_id="another"))
    await cluster.taken(2)
    (run_id,) = await cluster.runs()
    await cluster.client().wait(run_id, timeout=60)
    assert await cluster.client().status(run_id) is RunStatus.COMPLETED
    assert await cluster.settle() == {}


def test_an_application_checks_its_sources() -> None:
    with pytest.raises(ConfigurationError, match="which is not among workflows"):
        Floxide(sources=[orders()])
    with pytest.raises(ConfigurationError, match="Two sources are called 'orders'"):
        Floxide(workflows=[Shipping], sources=[orders(), orders()])


async def test_opening_a_source_that_cannot_be_run_says_why() -> None:
    app = Floxide(workflows=[Shipping], sources=[orders()])
    with pytest.raises(ConfigurationError, match="Source 'orders' has no broker"):
        async with app.source("orders"):
            pass
    with pytest.raises(ConfigurationError, match="declares no source 'other'; it declares: 'orders'"):
        async with app.source("other"):
            pass


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queue": ""}, "queue='' has to have 1 to 255 characters"),
        ({"rate": 0.0}, "rate=0.0 has to be more than 0"),
        ({"prefetch": 0}, "prefetch=0 has to be from 1 to 65,535"),
        ({"max_open_runs": 0}, "max_open_runs=0 has to be"),
        ({"batch": 1_001}, "batch=1001 has to be"),
        ({"arguments": {"x-max-length": 3}}, "give declare='quorum' as well"),
        ({"priority": lambda _: Priority.HIGH}, "priorities=True"),
    ],
)
def test_a_declaration_that_cannot_be_says_why(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        AmqpSource("orders", Shipping, **{"queue": "q", **options})
