"""AMQP source: each message of a queue that another program fills becomes one run, however often it comes.

    python -m examples.amqp_source

The queue is the other program's: nothing here knows how it fills it. What no run can be made of is kept, with the
reason, for somebody to look at: `floxide dead-letters list`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import aio_pika

from examples.cluster import place_with_workers
from floxide_amqp import AmqpSource, Floxide, MessageKey, Orchestrator, Workflow, node


@dataclass(frozen=True)
class Order:
    id: str
    item: str
    count: int = 1


@node
async def ship(order: Order) -> str:
    return f"{order.count} {order.item} shipped"


class Shipping(Workflow[Order, str]):
    start = ship


def make_app(broker: str, store: str, namespace: str) -> Floxide:
    orders = AmqpSource(
        "orders",
        Shipping,
        queue=f"{namespace}.shop.orders",
        key=MessageKey.field("id"),  # an order that comes twice is one run: orders:17
        attributes={"tenant": "x-tenant"},
    )
    return Floxide(broker, store=store, namespace=namespace, workflows=[Shipping], sources=[orders])


async def shop(broker: str, queue: str) -> None:
    """Be the other program: it makes its queue, and sends one order twice, and one that makes no sense."""
    pens, ink = {"id": "17", "item": "pen", "count": 2}, {"id": "18", "item": "ink"}
    bodies = [json.dumps(order).encode() for order in (pens, ink, pens, {"id": "19", "count": "many"})]
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        for body in bodies:
            message = aio_pika.Message(body, content_type="application/json", headers={"x-tenant": "acme"})
            await channel.default_exchange.publish(message, routing_key=queue)


async def told(orchestrator: Orchestrator, messages: int) -> list[str]:
    """Return what became of the messages once all of them were taken."""
    while sum(each.received for each in await orchestrator.sources.list()) < messages:  # noqa: ASYNC110
        await asyncio.sleep(0.05)  # the counts are written after the runs, and before the messages go
    info = await orchestrator.sources.get("orders")
    runs = [orchestrator.handle(Shipping, f"orders:{number}") for number in (17, 18)]
    lines = [await run.result(timeout=60) for run in runs]
    letters = await orchestrator.dead_letters()
    counts = f"{info.started} started, {info.duplicates} twice, {info.quarantined} unusable"
    return [*lines, counts, *(letter.reason for letter in letters)]


async def drive(broker: str, store: str, namespace: str) -> list[str]:
    async with make_app(broker, store, namespace).orchestrator() as orchestrator:
        await shop(broker, f"{namespace}.shop.orders")
        return await told(orchestrator, 4)


def main() -> list[str]:
    with place_with_workers("examples.amqp_source", workers=2) as place:
        return asyncio.run(drive(*place))


if __name__ == "__main__":
    print("\n".join(main()))
