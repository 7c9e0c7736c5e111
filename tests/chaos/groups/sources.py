"""Group 10: runs that messages of somebody else's queue start.

Some messages come several times, some say nothing, and of some there is one copy only, so that none stands in for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPException, ChannelNotFoundEntity, DeliveryError

from floxide_amqp import AmqpSource, RunNotFoundError, Workflow, node
from floxide_amqp.core.message_records import Quarantined
from tests.chaos.checks.sources import QUEUE, SOURCE, UNUSABLE
from tests.chaos.groups.desk import AGAIN_SECONDS, Desk, Group

COPIES = 3
PATIENCE_SECONDS = 3.0
"""After which the message is sent again: a wiped broker has forgotten it, and its sender has not."""


@node
async def unpack(parcel: str) -> str:
    return f"unpacked {parcel}"


class Unpacking(Workflow[str, str], version="1"):
    start = unpack


INTAKE = AmqpSource(SOURCE, Unpacking, queue=QUEUE, declare="quorum")


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Send a message until there is what becomes of it."""
    name = f"sources-{kind}-{number}"
    if kind == "unusable":
        while not await _is_kept(desk, name):
            await _send(desk, f"{UNUSABLE} {name}".encode(), name)
        desk.tell("kept", name)
        return
    run_id, body = f"{SOURCE}:{name}", f'"{name}"'.encode()
    if kind == "once" and desk.broker is not None:
        await _send_once(desk, body, name)
    while not await _is_there(desk, run_id):
        await _send(desk, body, name)
    desk.journal.write(f"started {run_id}")
    await desk.end_of(run_id)


async def _send(desk: Desk, body: bytes, key: str) -> None:
    """Send a message a few times over, and give it some time to arrive."""
    if desk.broker is None:  # nobody would take it: what becomes of it is made by hand
        await _without_a_broker(desk, body, key)
        return
    with suppress(AMQPException, DeliveryError, OSError, TimeoutError, RuntimeError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            connection = await aio_pika.connect(desk.broker)
            async with connection:
                channel = await connection.channel(on_return_raises=True)
                for _ in range(COPIES):
                    message = aio_pika.Message(
                        body, message_id=key, content_type="application/json", delivery_mode=2
                    )  # fmt: skip
                    desk.tell("sent", f"{SOURCE}:{key}")  # it may arrive though nobody confirms it
                    await channel.default_exchange.publish(message, QUEUE)
    await asyncio.sleep(AGAIN_SECONDS)


async def _send_once(desk: Desk, body: bytes, name: str) -> None:
    """Send a single copy; another one only if the broker did not confirm it, or was wiped since: a mark tells that.

    So a message that is acknowledged and of which there is no run is lost for good, and this never ends.
    """
    mark, is_sent = f"{QUEUE}.mark.{name}", False
    while not await _is_there(desk, f"{SOURCE}:{name}"):
        with suppress(AMQPException, DeliveryError, OSError, TimeoutError, RuntimeError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                connection = await aio_pika.connect(desk.broker)
                async with connection:
                    if is_sent and await _is_marked(connection, mark):
                        await asyncio.sleep(AGAIN_SECONDS)
                        continue
                    is_sent = False
                    channel = await connection.channel(on_return_raises=True)
                    await channel.declare_queue(mark, durable=True)
                    message = aio_pika.Message(
                        body, message_id=name, content_type="application/json", delivery_mode=2
                    )  # fmt: skip
                    desk.tell("sent", f"{SOURCE}:{name}")  # it may arrive though nobody confirms it
                    await channel.default_exchange.publish(message, QUEUE)
                    is_sent = True
        await asyncio.sleep(AGAIN_SECONDS)


async def _is_marked(connection: AbstractConnection, mark: str) -> bool:
    """Whether the broker still has the queue that says that it was not wiped."""
    try:
        await (await connection.channel()).declare_queue(mark, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


async def _without_a_broker(desk: Desk, body: bytes, key: str) -> None:
    if body.startswith(UNUSABLE.encode()):
        kept = Quarantined(quarantine_id=key, queue=QUEUE, body=body, reason="no broker", at_ms=0)
        await desk.orchestrator.services.quarantine.add(kept)
    else:
        await desk.ask(lambda: desk.orchestrator.start(Unpacking, key, run_id=f"{SOURCE}:{key}"))
    for _ in range(COPIES):
        desk.tell("sent", f"{SOURCE}:{key}")


async def _is_there(desk: Desk, run_id: str) -> bool:
    async def look() -> bool:
        with suppress(RunNotFoundError):
            await desk.orchestrator.status(run_id)
            return True
        return False

    return await desk.ask(look)


async def _is_kept(desk: Desk, name: str) -> bool:
    async def look() -> bool:
        after = ""
        while page := await desk.orchestrator.quarantine(after=after):
            if any(name.encode() in each.body for each in page):
                return True
            after = page[-1].quarantine_id
        return False

    return await desk.ask(look)


GROUP = Group(10, "sources", ("queue", "unusable", "once"), (Unpacking,), deed)
