# ruff: noqa: D102 - the names of the tests are the sentences
"""The conformance suite of the work queue port: what every driver must keep, as tests.

Subclass it in a test module and give it a `work_queue` fixture::

    class TestMyWorkQueue(WorkQueueSuite):
        @pytest.fixture
        async def work_queue(self):
            async with MyWorkQueue() as work_queue:
                yield work_queue
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Final, TypeVar

import pytest

from floxide_amqp.exceptions import ConsumerStoppedError
from floxide_amqp.ports.work_queue import Consumer, Delivery, Message, PublishOutcome, WorkQueue

SOON: Final = 60.0
"""Seconds within which what must happen has happened, also on a slow machine."""

A_WHILE: Final = 0.2
"""Seconds after which what must not happen is taken not to happen."""

T = TypeVar("T")


@pytest.mark.asyncio
class WorkQueueSuite:
    """Tests for one driver of the work queue port.

    Attributes:
        creates_on_publish: Whether publishing to a task queue that nobody consumed from yet keeps the message.
    """

    creates_on_publish: ClassVar[bool] = False

    async def test_a_message_arrives_with_its_body_and_its_queue(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            assert await work_queue.publish([message("a", b"\x00body\xff")]) == [PublishOutcome.CONFIRMED]
            delivery = await received(consumer)
            assert (delivery.body, delivery.queue) == (b"\x00body\xff", "a")

    async def test_an_empty_body_arrives(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            await work_queue.publish([message("a", b"")])
            assert (await received(consumer)).body == b""

    async def test_the_largest_body_arrives(self, work_queue: WorkQueue) -> None:
        body = b"x" * work_queue.max_message_bytes
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            assert await work_queue.publish([message("a", body)]) == [PublishOutcome.CONFIRMED]
            delivery = await received(consumer)
            assert delivery.body == body
            await delivery.acknowledge()

    async def test_a_longer_body_is_refused_and_disturbs_no_other(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            too_long = message("a", b"x" * (work_queue.max_message_bytes + 1))
            outcomes = await work_queue.publish([message("a", b"1"), too_long, message("a", b"2")])
            assert outcomes == [PublishOutcome.CONFIRMED, PublishOutcome.REFUSED, PublishOutcome.CONFIRMED]
            assert await bodies(consumer, 2) == Counter([b"1", b"2"])

    async def test_publishing_nothing_reports_nothing(self, work_queue: WorkQueue) -> None:
        assert list(await work_queue.publish([])) == []

    async def test_a_message_for_a_queue_nobody_ever_consumed_is_returned_or_kept(self, work_queue: WorkQueue) -> None:
        expected = PublishOutcome.CONFIRMED if self.creates_on_publish else PublishOutcome.RETURNED
        assert await work_queue.publish([message("unheard", b"1")]) == [expected]
        assert await work_queue.depth("unheard") == int(self.creates_on_publish)

    async def test_outcomes_stand_in_the_order_of_the_messages(self, work_queue: WorkQueue) -> None:
        missing = PublishOutcome.CONFIRMED if self.creates_on_publish else PublishOutcome.RETURNED
        async with work_queue.consume(["a"], prefetch=1):
            messages = [message("a" if number % 3 else "unheard", b"%d" % number) for number in range(60)]
            outcomes = await work_queue.publish(messages)
            assert outcomes == [PublishOutcome.CONFIRMED if number % 3 else missing for number in range(60)]

    async def test_publishes_at_the_same_time_each_get_their_own_outcomes(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=100) as consumer:
            calls = [
                work_queue.publish([message("a", b"%d" % (10 * call + number)) for number in range(call)])
                for call in range(10)
            ]
            outcomes = await asyncio.gather(*calls)
            assert [len(one) for one in outcomes] == list(range(10))
            assert {outcome for one in outcomes for outcome in one} == {PublishOutcome.CONFIRMED}
            assert (await bodies(consumer, 45)).total() == 45

    async def test_cancelling_a_publish_does_not_cancel_the_publishing(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=100) as consumer:
            publishing = asyncio.ensure_future(work_queue.publish([message("a", b"%d" % n) for n in range(40)]))
            await asyncio.sleep(0)
            publishing.cancel()
            assert (await bodies(consumer, 40)) == Counter(b"%d" % n for n in range(40))

    async def test_a_message_waits_for_its_consumer(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1):
            pass
        await work_queue.publish([message("a", b"1")])
        assert await work_queue.depth("a") == 1
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            assert (await received(consumer)).body == b"1"

    async def test_depth_counts_what_waits_and_not_what_is_delivered(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=2) as consumer:
            await work_queue.publish([message("a", b"%d" % number) for number in range(5)])
            deliveries = [await received(consumer) for _ in range(2)]
            await eventually(lambda: work_queue.depth("a"), 3)
            for delivery in deliveries:
                await delivery.acknowledge()
            await received(consumer)

    async def test_the_depth_of_an_unknown_queue_is_zero(self, work_queue: WorkQueue) -> None:
        assert await work_queue.depth("unheard") == 0

    async def test_a_queue_may_be_called_anything(self, work_queue: WorkQueue) -> None:
        names = ["with space", "über/größe", "dots.and-dashes", "#", "*"]
        async with work_queue.consume(names, prefetch=len(names)) as consumer:
            await work_queue.publish([message(name, name.encode()) for name in names])
            assert await bodies(consumer, len(names)) == Counter(name.encode() for name in names)

    async def test_a_message_reaches_only_its_own_queue(self, work_queue: WorkQueue) -> None:
        async with (
            work_queue.consume(["a"], prefetch=5) as first,
            work_queue.consume(["b"], prefetch=5) as second,
        ):
            await work_queue.publish([message("b", b"for b")])
            assert (await received(second)).body == b"for b"
            await nothing_received(first)

    async def test_each_message_goes_to_one_consumer(self, work_queue: WorkQueue) -> None:
        async with (
            work_queue.consume(["a"], prefetch=3) as first,
            work_queue.consume(["a"], prefetch=3) as second,
        ):
            await work_queue.publish([message("a", b"%d" % number) for number in range(30)])
            seen = await drained([first, second], 30)
            assert seen == Counter(b"%d" % number for number in range(30))

    async def test_consumers_of_one_queue_share_what_waits(self, work_queue: WorkQueue) -> None:
        async with (
            work_queue.consume(["a"], prefetch=1) as first,
            work_queue.consume(["a"], prefetch=1) as second,
        ):
            await work_queue.publish([message("a", b"1"), message("a", b"2")])
            together = await asyncio.gather(received(first), received(second))
            assert Counter(delivery.body for delivery in together) == Counter([b"1", b"2"])

    async def test_a_consumer_of_several_queues_serves_them_all(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["busy", "calm"], prefetch=2) as consumer:
            await work_queue.publish([message("busy", b"busy")] * 20 + [message("calm", b"calm")])
            seen: list[bytes] = []
            while b"calm" not in seen:
                delivery = await received(consumer)
                seen.append(delivery.body)
                await delivery.acknowledge()
            assert len(seen) <= 10

    async def test_no_more_than_prefetch_deliveries_are_out_at_a_time(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=2) as consumer:
            await work_queue.publish([message("a", b"%d" % number) for number in range(3)])
            first, _ = await received(consumer), await received(consumer)
            await nothing_received(consumer)
            await first.acknowledge()
            await received(consumer)

    async def test_prefetch_is_counted_over_all_queues(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a", "b", "c"], prefetch=2) as consumer:
            await work_queue.publish([message(name, b"") for name in "abcabc"])
            await received(consumer)
            second = await received(consumer)
            await nothing_received(consumer)
            await second.release()
            await received(consumer)

    async def test_a_first_delivery_is_not_called_redelivered(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            await work_queue.publish([message("a", b"1")])
            assert not (await received(consumer)).redelivered

    async def test_what_was_acknowledged_never_comes_back(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=5) as consumer:
            await work_queue.publish([message("a", b"%d" % number) for number in range(5)])
            for _ in range(5):
                await (await received(consumer)).acknowledge()
        async with work_queue.consume(["a"], prefetch=5) as consumer:
            await nothing_received(consumer)

    async def test_what_was_released_comes_back_as_redelivered(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            await work_queue.publish([message("a", b"1")])
            await (await received(consumer)).release()
            again = await received(consumer)
            assert (again.body, again.redelivered) == (b"1", True)

    async def test_what_is_released_ever_again_comes_back_ever_again(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            await work_queue.publish([message("a", b"1")])
            for _ in range(30):  # RabbitMQ 4 gives up after 20, unless told otherwise
                await (await received(consumer)).release()
            assert (await received(consumer)).body == b"1"

    async def test_leaving_gives_back_what_was_not_acknowledged(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=3) as consumer:
            await work_queue.publish([message("a", b"%d" % number) for number in range(3)])
            kept, *lost = [await received(consumer) for _ in range(3)]
            await kept.acknowledge()
        async with work_queue.consume(["a"], prefetch=3) as consumer:
            again = [await received(consumer) for _ in range(2)]
            assert Counter(one.body for one in again) == Counter(one.body for one in lost)
            assert all(one.redelivered for one in again)
            await nothing_received(consumer)

    async def test_leaving_by_an_error_gives_back_as_well(self, work_queue: WorkQueue) -> None:
        async def fail() -> None:
            async with work_queue.consume(["a"], prefetch=1) as consumer:
                await work_queue.publish([message("a", b"1")])
                await received(consumer)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            assert (await received(consumer)).redelivered

    async def test_settling_a_stale_delivery_is_forgotten_in_silence(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=2) as consumer:
            await work_queue.publish([message("a", b"1"), message("a", b"2")])
            first, second = await received(consumer), await received(consumer)
        await first.acknowledge()
        await second.release()
        await eventually(lambda: work_queue.depth("a"), 2)

    async def test_settling_twice_changes_nothing(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            await work_queue.publish([message("a", b"1"), message("a", b"2")])
            first = await received(consumer)
            await first.acknowledge()
            await first.acknowledge()
            await first.release()
            second = await received(consumer)
            assert second.body != first.body
            await second.acknowledge()
            await nothing_received(consumer)

    async def test_a_waiting_receive_gets_what_is_published_later(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            waiting = asyncio.ensure_future(consumer.receive())
            await asyncio.sleep(0)
            await work_queue.publish([message("a", b"1")])
            assert (await within(waiting)).body == b"1"

    async def test_several_may_receive_at_a_time(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=5) as consumer:
            waiting = [asyncio.ensure_future(received(consumer)) for _ in range(5)]
            await work_queue.publish([message("a", b"%d" % number) for number in range(5)])
            assert len({delivery.body for delivery in await asyncio.gather(*waiting)}) == 5

    async def test_a_cancelled_receive_loses_no_delivery(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=50) as consumer:
            publishing = asyncio.ensure_future(
                work_queue.publish([message("a", b"%d" % number) for number in range(50)])
            )
            seen: Counter[bytes] = Counter()
            while seen.total() < 50:
                receiving = asyncio.ensure_future(received(consumer))
                for _ in range(seen.total() % 7):
                    await asyncio.sleep(0)
                receiving.cancel()
                await asyncio.wait([receiving])
                if receiving.cancelled():
                    delivery = await received(consumer)
                else:
                    delivery = receiving.result()
                seen[delivery.body] += 1
            await publishing
            assert seen == Counter(b"%d" % number for number in range(50))

    async def test_a_stopped_consumer_gives_back_what_nobody_received(self, work_queue: WorkQueue) -> None:
        async with (
            work_queue.consume(["a"], prefetch=10) as stopped,
            work_queue.consume(["b"], prefetch=10),
        ):
            await work_queue.publish([message("a", b"%d" % number) for number in range(5)])
            held = await received(stopped)
            await stopped.stop()
            await eventually(lambda: work_queue.depth("a"), 4)
            async with work_queue.consume(["a"], prefetch=10) as other:
                seen = [await received(other) for _ in range(4)]
                assert held.body not in {delivery.body for delivery in seen}
                await held.acknowledge()
                for delivery in seen:
                    await delivery.acknowledge()
        await eventually(lambda: work_queue.depth("a"), 0)

    async def test_receiving_from_a_stopped_consumer_is_an_error(self, work_queue: WorkQueue) -> None:
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            waiting = asyncio.ensure_future(consumer.receive())
            await asyncio.sleep(0)
            await consumer.stop()
            await consumer.stop()
            with pytest.raises(ConsumerStoppedError, match="a was stopped; open another"):
                await within(waiting)
            with pytest.raises(ConsumerStoppedError):
                await received(consumer)

    async def test_consuming_needs_a_queue_and_a_prefetch(self, work_queue: WorkQueue) -> None:
        with pytest.raises(ValueError, match="at least one task queue"):
            work_queue.consume([], prefetch=1)
        with pytest.raises(ValueError, match="prefetch of at least 1"):
            work_queue.consume(["a"], prefetch=0)


def message(queue: str, body: bytes) -> Message:
    """Return a message as the suite publishes it."""
    return Message(queue=queue, body=body, correlation_id=f"item-{body[:20]!r}")


async def within(work: Awaitable[T]) -> T:
    """Await what must come soon."""
    return await asyncio.wait_for(work, SOON)


async def received(consumer: Consumer) -> Delivery:
    """Return the next delivery, which must come soon."""
    return await within(consumer.receive())


async def nothing_received(consumer: Consumer) -> None:
    """Fail if anything is delivered within a while."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(consumer.receive(), A_WHILE)


async def bodies(consumer: Consumer, count: int) -> Counter[bytes]:
    """Receive and acknowledge so many deliveries and return their bodies."""
    return await drained([consumer], count)


async def drained(consumers: Sequence[Consumer], count: int) -> Counter[bytes]:
    """Receive and acknowledge so many deliveries over several consumers and return their bodies."""
    seen: Counter[bytes] = Counter()
    done = asyncio.Event()

    async def drain(consumer: Consumer) -> None:
        while True:
            delivery = await consumer.receive()
            seen[delivery.body] += 1
            await delivery.acknowledge()
            if seen.total() >= count:
                done.set()

    drains = [asyncio.ensure_future(drain(consumer)) for consumer in consumers]
    try:
        await within(done.wait())
    finally:
        for one in drains:
            one.cancel()
        await asyncio.gather(*drains, return_exceptions=True)
    return seen


async def eventually(ask: Callable[[], Awaitable[T]], expected: T) -> None:
    """Ask until the answer is as expected, which must be soon."""
    deadline = asyncio.get_running_loop().time() + SOON
    while (answer := await ask()) != expected:
        assert asyncio.get_running_loop().time() < deadline, f"{answer} is not {expected}"
        await asyncio.sleep(0.02)
