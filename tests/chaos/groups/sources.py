"""Group 10: runs that messages of somebody else's queue start; some messages come twice, some say nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aio_pika
from aio_pika.exceptions import AMQPException, DeliveryError

from floxide_amqp import AmqpSource, RunNotFoundError, Workflow, node
from floxide_amqp.core.records import Quarantined
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
    run_id = f"{SOURCE}:{name}"
    while not await _is_there(desk, run_id):
        await _send(desk, f'"{name}"'.encode(), name)
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
                    await channel.default_exchange.publish(message, QUEUE)
                    desk.tell("sent", f"{SOURCE}:{key}")
    await asyncio.sleep(AGAIN_SECONDS)


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


GROUP = Group(10, "sources", ("queue", "unusable"), (Unpacking,), deed)
