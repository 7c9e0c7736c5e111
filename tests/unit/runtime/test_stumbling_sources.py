"""What one message, one item, one refusal of the store or one dead worker must not do to a source: end it for good."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from pamqp.commands import Exchange, Queue

from floxide_amqp import (
    AmqpSource,
    Binding,
    DefinitionError,
    Encryption,
    Hold,
    IteratorSource,
    MessageKey,
    SourceMessage,
    Workflow,
    node,
)
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.exceptions import StoreReadOnlyError
from floxide_amqp.runtime.feed_control import HELD_SECONDS
from floxide_amqp.stores import keys
from floxide_amqp.stores.sealing import Sealing
from tests.unit.runtime.hand_fed_queue import HandFedQueue, HandReader, SourceCluster, run_ids
from tests.unit.runtime.test_iterator_source import Doubling, IteratorCluster
from tests.unit.runtime.test_secret_keys import everything

MakeCluster = Callable[..., Any]


@dataclass(frozen=True)
class Order:
    id: str
    count: int = 1


@node
async def ship(order: Order) -> str:
    return order.id


@node
async def wait_for_long(order: Order) -> str | Hold:
    return Hold(for_=timedelta(days=30))


class Shipping(Workflow[Order, str]):
    start = ship


class Endless(Workflow[Order, str]):
    start = wait_for_long


@dataclass(frozen=True)
class Parcel:
    parts: list[str]

    @property
    def first(self) -> str:
        return self.parts[0]


@node
async def send(parcel: Parcel) -> int:
    return len(parcel.parts)


class Sending(Workflow[Parcel, int]):
    start = send


def orders(workflow: Any = Shipping, **options: Any) -> AmqpSource[Any]:
    return AmqpSource("orders", workflow, **{"queue": "shop.orders", **options})


def placed(number: int, **properties: Any) -> SourceMessage:
    body = json.dumps({"id": str(number), "count": number}).encode()
    return SourceMessage(**{"body": body, "message_id": f"m{number}", **properties})


@pytest_asyncio.fixture
async def world() -> AsyncIterator[MakeCluster]:
    made: list[SourceCluster | IteratorCluster] = []

    def make(source: AmqpSource[Any] | IteratorSource[Any, Any] | SourceCluster | IteratorCluster) -> Any:
        if isinstance(source, AmqpSource):
            made.append(SourceCluster(source))
        elif isinstance(source, IteratorSource):
            made.append(IteratorCluster(source))
        else:
            made.append(source)
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def is_read(cluster: SourceCluster) -> None:
    """Wait until somebody reads a queue."""
    while not cluster.upstream.readers:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)


def counting_states(member: Any) -> Callable[[], int]:
    """Count the states of runs that a process reads from now on."""
    inner, count = member.store.read, 0

    async def counted(reads: Any) -> Any:
        nonlocal count
        count += sum(cell.name == "state" for each in reads for cell in each.cells)
        return await inner(reads)

    member.store.read = counted
    return lambda: count


async def test_each_unusable_message_is_kept_though_they_have_one_body(world: MakeCluster) -> None:
    cluster = world(orders(key=MessageKey.header("x-order-id")))
    await cluster.start_worker()
    body = json.dumps({"id": "1"}).encode()
    cluster.upstream.put(*(SourceMessage(body=body, headers={"x-tenant": name}) for name in ("acme", "bcme", "ccme")))
    await cluster.taken(3)
    kept = await cluster.client().services.quarantine.list()
    assert ((await cluster.info()).quarantined, len(kept)) == (3, 3)


async def test_a_message_whose_run_is_damaged_is_kept_and_the_others_go_on(world: MakeCluster) -> None:
    cluster = world(orders())
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await cluster.taken(1)
    run_id = RunId("orders:m1")
    await cluster.client().handle(Shipping, run_id).result()
    cells = cluster.store._slots[slot_of(run_id)].cells
    header = keys.header(run_id)
    cells[header] = cells[header]._replace(value=b"damaged")
    cluster.upstream.put(placed(1), *(placed(number) for number in range(2, 6)))  # its sender sends it again
    await cluster.taken(6)
    (kept,) = await cluster.client().services.quarantine.list()
    assert "orders:m1/header" in kept.reason


async def test_a_message_whose_key_raises_is_kept(world: MakeCluster) -> None:
    cluster = world(AmqpSource("parcels", Sending, queue="q", key=MessageKey.field("first")))
    await cluster.start_worker()
    cluster.upstream.put(*(SourceMessage(body=json.dumps({"parts": parts}).encode()) for parts in (["a"], [], ["b"])))
    await cluster.taken(3)
    (kept,) = await cluster.client().services.quarantine.list()
    assert "key=... raised IndexError" in kept.reason


async def test_a_message_whose_decoder_would_end_the_process_is_kept(world: MakeCluster) -> None:
    def parse(message: SourceMessage) -> Order:
        raise SystemExit(2)  # as argparse does

    cluster = world(orders(decode=parse))
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await cluster.taken(1)
    (kept,) = await cluster.client().services.quarantine.list()
    assert "decode=... raised SystemExit: 2" in kept.reason


async def test_a_reason_with_half_a_surrogate_pair_is_kept_like_any_other(world: MakeCluster) -> None:
    def refuse(message: SourceMessage) -> Order:
        raise ValueError("not an order: \udcff")

    cluster = world(orders(decode=refuse))
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await cluster.taken(1)
    (kept,) = await cluster.client().services.quarantine.list()
    assert "not an order: \\udcff" in kept.reason


async def test_a_message_id_that_is_not_utf_8_is_said_to_be(world: MakeCluster) -> None:
    cluster = world(orders())
    await cluster.start_worker()
    cluster.upstream.put(placed(1, message_id="", headers={"undecodable.message_id": b"B\xe4r"}))
    await cluster.taken(1)
    (kept,) = await cluster.client().services.quarantine.list()
    assert "Its message_id, by which its run would be called, is not UTF-8" in kept.reason


class Watched(HandFedQueue):
    """Notes for how long the broker has waited for an answer to a message.

    Attributes:
        longest: The longest time that one was in hand, seconds.
        most: The most that were in hand.
    """

    longest = 0.0
    most = 0

    async def watch(self) -> None:
        while True:
            now = asyncio.get_running_loop().time()
            for reader in self.readers:
                self.most = max(self.most, len(reader.in_hand))
                self.longest = max([self.longest, *(now - each.arrived_at for each in reader.in_hand)])
            await asyncio.sleep(10)


@pytest.mark.parametrize("options", [{"rate": 0.1}, {"rate": 0.001}, {"max_open_runs": 20}], ids=str)
async def test_messages_are_in_hand_for_minutes_only(world: MakeCluster, options: dict[str, Any]) -> None:
    """RabbitMQ closes the channel over one that is not answered for half an hour."""
    cluster = world(orders(Endless if "max_open_runs" in options else Shipping, **options))
    cluster.upstream = queue = Watched()
    watching = asyncio.create_task(queue.watch())
    await cluster.start_worker()
    queue.put(*(placed(number) for number in range(150)))
    client = cluster.client()
    for minute in range(12):  # in each of which one run ends
        await asyncio.sleep(60)
        if "max_open_runs" in options:
            await client.cancel((await run_ids(client))[minute])
    watching.cancel()
    assert 0 < queue.longest <= HELD_SECONDS + 60
    assert queue.most <= 20
    assert len(queue.acknowledged) >= (1 if options.get("rate") == 0.001 else 30)


async def test_a_full_source_looks_at_few_runs_while_nothing_happens(world: MakeCluster) -> None:
    cluster = world(orders(Endless, max_open_runs=100))
    members = [await cluster.start_worker() for _ in range(3)]
    cluster.upstream.put(*(placed(number) for number in range(200)))
    await cluster.taken(100)
    await asyncio.sleep(30)
    counts = [counting_states(member) for member in members]
    await asyncio.sleep(60)
    assert sum(count() for count in counts) < 1_500


async def test_a_full_source_goes_on_wherever_in_its_list_runs_have_ended(world: MakeCluster) -> None:
    cluster = world(orders(Endless, max_open_runs=120))
    await cluster.start_worker()
    cluster.upstream.put(*(placed(number) for number in range(200)))
    await cluster.taken(120)
    client = cluster.client()
    ids = await run_ids(client)
    for started, run_id in enumerate((ids[-1], ids[0], ids[60], ids[61]), 121):
        await client.cancel(run_id)
        await cluster.taken(started)
    for run_id in ids[1:60]:
        await client.cancel(run_id)
    await cluster.taken(124 + 59)
    await asyncio.sleep(60)
    assert len(cluster.upstream.acknowledged) == 124 + 59
    assert await client.sources.open_runs("orders") == 120


async def test_the_problem_of_a_dead_worker_goes_when_all_is_well(world: MakeCluster) -> None:
    cluster = world(orders())
    dying = await cluster.start_worker()
    await is_read(cluster)
    cluster.upstream.problem = "there is no queue 'q'; it is waited for"
    while not (await cluster.info()).problem:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await dying.kill()
    cluster.upstream.problem = ""
    await cluster.start_worker()
    while (await cluster.info()).problem:  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)


async def test_a_problem_that_lasts_is_shown_for_as_long_and_since_it_began(world: MakeCluster) -> None:
    cluster = world(orders())
    await cluster.start_worker()
    await is_read(cluster)
    cluster.upstream.problem = "there is no queue 'q'; it is waited for"
    while not (info := await cluster.info()).problem:  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    for _ in range(10):
        await asyncio.sleep(60)
        assert await cluster.info() == info


async def test_the_store_may_refuse_for_a_while(world: MakeCluster) -> None:
    cluster = world(orders())
    member = await cluster.start_worker()
    cluster.upstream.put(placed(0))
    await cluster.taken(1)
    inner, refusals = member.store.commit, 0

    async def refused(batches: Any) -> Any:
        nonlocal refusals
        refusals += 1
        raise StoreReadOnlyError(store="postgresql://…", reason="a failover is under way")

    member.store.commit = refused
    cluster.upstream.put(placed(1))
    while not (refusals and cluster.upstream.returned):  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    member.store.commit = inner
    cluster.upstream.put(placed(2))
    await cluster.taken(3)


async def test_a_cancellation_that_nobody_asked_for_does_not_end_a_source(world: MakeCluster) -> None:
    """aiormq ends calls of a lost connection with CancelledError, in tasks that nobody has cancelled."""

    class Astray(HandFedQueue):
        tries = 0

        def read(self, *, prefetch: int) -> AbstractAsyncContextManager[HandReader]:
            self.tries += 1
            if self.tries == 1:
                raise asyncio.CancelledError
            return super().read(prefetch=prefetch)

    cluster = world(orders())
    cluster.upstream = Astray()
    await cluster.start_worker()
    cluster.upstream.put(placed(1))
    await cluster.taken(1)
    assert cluster.upstream.tries == 2


async def test_items_before_one_of_another_type_are_started(world: MakeCluster) -> None:
    async def items(after: int | None) -> AsyncIterator[tuple[int, int]]:
        for n in range((after or 0) + 1, 101):
            value: Any = n if n != 100 else "one hundred"
            yield n, value

    cluster = world(IteratorSource("rows", Doubling, items))
    await cluster.start_worker()
    client = await cluster.until(99)
    while not (info := await client.sources.get("rows")).problem:  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    assert "must be int, but it is str" in info.problem
    assert (info.position, info.started) == ("99", 99)
    assert len(await run_ids(client)) == 99


@pytest.mark.parametrize("key", ["", None, 7])
async def test_an_item_without_a_key_is_an_error_and_those_before_it_are_started(world: MakeCluster, key: Any) -> None:
    async def items(after: int | None) -> AsyncIterator[tuple[int, int]]:
        for n in range((after or 0) + 1, 6):
            yield n, n

    cluster = world(IteratorSource("rows", Doubling, items, key=lambda n: key if n > 2 else str(n)))
    await cluster.start_worker()
    client = await cluster.until(2)
    while not (info := await client.sources.get("rows")).problem:  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    assert f"The item at position 3 has no key: key=... made {key!r} of it" in info.problem
    assert await run_ids(client) == ["rows:1", "rows:2"]


@pytest.mark.parametrize(("asked", "said"), [("key", "the source's key"), ("attributes", "making the run of an item")])
async def test_a_function_that_would_end_the_process_stops_the_source_at_its_item(
    world: MakeCluster, asked: str, said: str
) -> None:
    async def items(after: int | None) -> AsyncIterator[tuple[int, int]]:
        for n in range((after or 0) + 1, 6):
            yield n, n

    def make(n: int) -> Any:
        if n > 2:
            raise SystemExit(2)
        return str(n) if asked == "key" else {"n": n}

    options: dict[str, Any] = {asked: make}
    cluster = world(IteratorSource("rows", Doubling, items, **options))
    await cluster.start_worker()
    client = await cluster.until(2)
    while not (info := await client.sources.get("rows")).problem:  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    assert info.problem == f"RuntimeError: {said} raised SystemExit"
    assert await run_ids(client) == ["rows:1", "rows:2"]


async def test_an_iterator_that_raises_odd_text_is_begun_again(
    world: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "floxide_amqp")  # the test runner cannot send what it captures to its parent
    tries = 0

    async def items(after: int | None) -> AsyncIterator[tuple[int, int]]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("no number: " + bytes([49, 255]).decode("utf-8", "surrogateescape"))
        for n in range((after or 0) + 1, 4):
            yield n, n

    cluster = world(IteratorSource("rows", Doubling, items))
    await cluster.start_worker()
    await cluster.until(3)
    assert tries >= 2


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
async def test_an_iterator_that_is_cancelled_by_nobody_or_would_end_the_process_is_begun_again(
    world: MakeCluster, raised: type[BaseException]
) -> None:
    tries = 0

    async def items(after: int | None) -> AsyncIterator[tuple[int, int]]:
        nonlocal tries
        tries += 1
        for n in range((after or 0) + 1, 4):
            if n == 3 and tries == 1:
                raise raised
            yield n, n

    cluster = world(IteratorSource("rows", Doubling, items))
    await cluster.start_worker()
    async with asyncio.timeout(3600):
        client = await cluster.until(2)
        while not (info := await client.sources.get("rows")).problem:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
        await cluster.until(3)
    assert info.problem == f"RuntimeError: the iterator raised {raised.__name__}"


class SealedIterators(IteratorCluster):
    """A cluster whose processes encrypt."""

    def _services(self, *arguments: Any) -> Any:
        services, store, queue = super()._services(*arguments)
        services.sealing = Sealing((Encryption({"k1": bytes(32)}),))
        services._open_stores()
        return services, store, queue


async def test_what_an_iterator_raises_is_neither_stored_nor_logged_where_data_are_encrypted(
    world: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async def items(after: int | None) -> AsyncIterator[tuple[int, int]]:
        yield 1, 1
        raise ValueError("cannot read the row of ada.lovelace@example.com")

    cluster = world(SealedIterators(IteratorSource("rows", Doubling, items)))
    await cluster.start_worker()
    client = await cluster.until(1)
    while not (info := await client.sources.get("rows")).problem:  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    assert info.problem == "ValueError: (not logged: encryption is on)"
    assert "source.failed" in caplog.text
    assert "ada.lovelace" not in everything(cluster) + caplog.text


@pytest.mark.parametrize(
    "name", ["bestellungen.für.heute", "orders!high", "orders*", "a=b", "q" * 255, "q\n", "Aa0-_.:@#,/+ "]
)
def test_a_name_is_refused_where_the_client_library_would_refuse_it(name: str) -> None:
    """RabbitMQ allows any; refused only when it is used, the source would wait for it for ever."""
    assert is_refused(lambda: orders(queue=name)) == is_refused(lambda: Queue.Declare(queue=name).validate())
    assert is_refused(lambda: Binding(name)) == is_refused(lambda: Exchange.Declare(exchange=name).validate())


def test_a_routing_key_may_be_anything_but_too_long() -> None:
    Binding("shop", "für.alle!")
    with pytest.raises(DefinitionError, match="at most 255 bytes"):
        Binding("shop", "k" * 256)


def is_refused(declare: Callable[[], object]) -> bool:
    try:
        declare()
    except (DefinitionError, ValueError):
        return True
    return False
