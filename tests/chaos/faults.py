"""What the conductor can do to the parts, one function per kind. Each returns a few words on what it did.

Whatever it takes away it gives back before it returns.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable

import aio_pika
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ConnectionInternalError

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.stores.record_codec import encode_envelope
from floxide_amqp.testing.proxy import TcpProxy
from tests.chaos.application import GAPS, QUEUES, QUICK
from tests.chaos.processes import Slot
from tests.chaos.stage import NAMES, Stage
from tests.chaos.store_faults import (
    disk_full,
    long_script,
    script_flush,
    store_away,
    store_kill,
    store_lock,
    store_restart,
    store_sessions_ended,
    store_suspend,
)
from tests.chaos.store_reader import Item

SUSPEND_SECONDS = QUICK.dead_after + 3.0
"""Beyond the lease: others take the suspended worker for dead."""

ALARM_SECONDS = 4.0
COMMAND_TRIES = 5
HALF_OPEN_SECONDS = 8.0
DELAY_SECONDS = 4.0
CRASH_PATIENCE_SECONDS = 60.0
STORM_RUNS = 4
OLD_MESSAGES = 5
FIRST_STORM = 1_000_000

Inject = Callable[[Stage, random.Random], Awaitable[str]]
LinkFault = Callable[[TcpProxy, random.Random], Awaitable[str]]


class NothingToHitError(Exception):
    """What the fault is for is not there just now; it is tried again a little later."""


def _worker(stage: Stage, chance: random.Random, *, spare_first: bool = True) -> Slot:
    """A worker at random; the first is never killed, so that one lives from beginning to end."""
    candidates = [slot for slot in stage.workers[1 if spare_first else 0 :] if slot.is_ready]
    if not candidates:
        raise NothingToHitError
    return chance.choice(candidates)


# --- workers


async def worker_kill(stage: Stage, chance: random.Random) -> str:
    slot = _worker(stage, chance)
    name, generation = slot.process_name, slot.generation
    slot.send(signal.SIGKILL)
    await slot.ended(generation)
    return f"SIGKILL {name}"


async def worker_suspend(stage: Stage, chance: random.Random) -> str:
    slot = _worker(stage, chance, spare_first=False)
    name, generation = slot.process_name, slot.generation
    seconds = SUSPEND_SECONDS + chance.uniform(0, 3)
    stage.suspended_ms = max(stage.suspended_ms, round(seconds * 1000))
    slot.send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    if slot.generation == generation:
        slot.send(signal.SIGCONT)
    return f"SIGSTOP {name} for {seconds:.1f} s, beyond its lease"


async def worker_drain(stage: Stage, chance: random.Random) -> str:
    slot = _worker(stage, chance)
    name, generation = slot.process_name, slot.generation
    slot.send(signal.SIGTERM)
    code = await slot.ended(generation)
    stage.drains[name] = code
    return f"SIGTERM {name}, exit code {code}"


def crash_in(gap: str) -> Inject:
    async def crash(stage: Stage, chance: random.Random) -> str:
        slot = _worker(stage, chance)
        name, generation = slot.process_name, slot.generation
        slot.tell(f"crash {gap}")
        await _dead_in(slot, generation, gap)
        return f"{name} died {gap.replace('-', ' the ')}"

    return crash


async def _dead_in(slot: Slot, generation: int, gap: str) -> None:
    """Wait until a process has died where it was told to."""
    async with asyncio.timeout(CRASH_PATIENCE_SECONDS):
        await slot.ended(generation)
    if slot.died_in(generation) != gap:  # of something else
        raise NothingToHitError


# --- the broker


async def broker_restart(stage: Stage, chance: random.Random) -> str:
    async with stage.broker_lock:
        await asyncio.to_thread(stage.broker.restart)
    return "stopped in good order and started again"


async def broker_kill(stage: Stage, chance: random.Random) -> str:
    async with stage.broker_lock:
        await asyncio.to_thread(stage.broker.kill)
        await asyncio.sleep(chance.uniform(0, 2))
        await asyncio.to_thread(stage.broker.start)
    return "killed with -9 and started again"


async def broker_wipe(stage: Stage, chance: random.Random) -> str:
    async with stage.broker_lock:
        await asyncio.to_thread(stage.broker.wipe)
    return "killed, its data directory deleted, started again"


async def memory_alarm(stage: Stage, chance: random.Random) -> str:
    async with stage.broker_lock:
        try:
            await stage.ctl("set_vm_memory_high_watermark", "0.000001")
            await asyncio.sleep(ALARM_SECONDS)
        finally:
            await _end_alarm(stage)
    return f"blocked publishers for {ALARM_SECONDS:g} s"


async def _end_alarm(stage: Stage) -> None:
    """An alarm left on would block everything for good; on a busy machine the command may need several tries."""
    for number in range(COMMAND_TRIES):
        try:
            await stage.ctl("set_vm_memory_high_watermark", "0.4")
        except subprocess.SubprocessError:
            if number == COMMAND_TRIES - 1:
                raise
        else:
            return


async def connections_closed(stage: Stage, chance: random.Random) -> str:
    async with stage.broker_lock:
        await stage.ctl("close_all_connections", "chaos")
    return "rabbitmqctl close_all_connections"


# --- links, each between one process and the broker or the store


async def _cut(proxy: TcpProxy, chance: random.Random) -> str:
    proxy.cut()
    return "closed the connections of"


async def _reset(proxy: TcpProxy, chance: random.Random) -> str:
    proxy.reset()
    return "RST to the connections of"


async def _mid_frame(proxy: TcpProxy, chance: random.Random) -> str:
    proxy.cut_mid_frame()
    return "cut in the middle of the next piece of data of"


async def _delay(proxy: TcpProxy, chance: random.Random) -> str:
    seconds = chance.uniform(0.2, 1.0)
    proxy.delay(seconds)
    await asyncio.sleep(DELAY_SECONDS)
    proxy.pass_through()
    return f"delayed by {seconds:.1f} s for {DELAY_SECONDS:g} s"


async def _half_open(proxy: TcpProxy, chance: random.Random) -> str:
    proxy.blackhole()
    await asyncio.sleep(HALF_OPEN_SECONDS)
    proxy.pass_through()
    return f"for {HALF_OPEN_SECONDS:g} s nothing through to or from"


def broker_link(fault: LinkFault) -> Inject:
    async def inject(stage: Stage, chance: random.Random) -> str:
        number = chance.randrange(len(stage.proxies))
        return f"{await fault(stage.proxies[number], chance)} {_linked(stage, number)}"

    return inject


def store_link(fault: LinkFault) -> Inject:
    async def inject(stage: Stage, chance: random.Random) -> str:
        number = chance.randrange(len(stage.store_proxies))
        if fault is _half_open:  # what a worker waits for it hears so much later
            stage.suspended_ms = max(stage.suspended_ms, round(HALF_OPEN_SECONDS * 1000))
        return f"{await fault(stage.store_proxies[number], chance)} {_linked(stage, number)} and the store"

    return inject


def _linked(stage: Stage, number: int) -> str:
    return stage.workers[number].name if number < len(stage.workers) else "the client"


# --- messages


async def queue_purge(stage: Stage, chance: random.Random) -> str:
    async with stage.broker_lock:
        purged = [await _emptied(stage, NAMES.work_queue(name)) for name in QUEUES]
    return f"{sum(purged)} messages gone"


async def _emptied(stage: Stage, name: str) -> int:
    """Take everything out of a queue; after some restarts RabbitMQ fails at purging one that it serves otherwise."""
    try:
        async with stage.channel() as channel:
            queue = await channel.get_queue(name, ensure=False)
            return (await queue.purge()).message_count or 0
    except ConnectionInternalError:
        taken = 0
        async with stage.channel() as channel:
            queue = await channel.get_queue(name, ensure=False)
            while await queue.get(no_ack=True, fail=False) is not None:
                taken += 1
        return taken


async def queue_delete(stage: Stage, chance: random.Random) -> str:
    name = NAMES.work_queue(chance.choice(QUEUES))
    async with stage.broker_lock, stage.channel() as channel:
        await channel.queue_delete(name)
    return f"{name}, with its messages and under its consumers"


async def duplicates(stage: Stage, chance: random.Random) -> str:
    """Copies of messages that wait, of messages under way, and of messages of items that ended long ago."""
    async with stage.broker_lock, stage.channel() as channel:
        name = chance.choice(QUEUES)
        bodies = await _waiting(channel, NAMES.work_queue(name))
        waiting = len(bodies)
        bodies += await asyncio.to_thread(_from_store, stage, name, chance)
        old = chance.sample(stage.old_messages, min(OLD_MESSAGES, len(stage.old_messages)))
        stage.old_messages += bodies
        bodies += old
        exchange = await channel.get_exchange(NAMES.work_exchange, ensure=False)
        for body in [each for each in bodies for _ in range(3)]:
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), name, mandatory=False)
    if not bodies:
        raise NothingToHitError
    made = len(bodies) - waiting - len(old)
    return f"three copies of {waiting} waiting messages, {made} made from the store and {len(old)} old ones, to {name}"


async def _waiting(channel: AbstractChannel, name: str) -> list[bytes]:
    queue = await channel.get_queue(name, ensure=False)
    taken = [message for _ in range(5) if (message := await queue.get(fail=False)) is not None]
    for message in taken:
        await message.nack(requeue=True)
    return [message.body for message in taken]


def _from_store(stage: Stage, queue: str, chance: random.Random) -> list[bytes]:
    bodies: list[bytes] = []
    for entry, run_id, item_id, turn in stage.reader.messages(queue, 20):
        found = stage.reader.item(run_id, item_id)
        if found is not None and found.queue == queue:
            bodies.append(_envelope(run_id, found, chance.choice((turn, found.turn)), entry))
            bodies += [
                _envelope(run_id, successor, successor.turn, "")
                for each in found.successors
                if (successor := stage.reader.item(run_id, each)) is not None and successor.queue == queue
            ]
    return chance.sample(bodies, min(10, len(bodies)))


def _envelope(run_id: str, item: Item, turn: int, entry: str) -> bytes:
    return encode_envelope(
        Envelope(
            run_id=RunId(run_id), item_id=WorkItemId(item.item_id), node=item.node, workflow="Orders", version="1",
            queue=item.queue, turn=turn, entry=entry,
        )
    )  # fmt: skip


async def garbage(stage: Stage, chance: random.Random) -> str:
    """What is no message, or a message about nothing."""
    bodies = [
        chance.randbytes(chance.randint(1, 200)),
        b"\x91" * 900 + b"\xc0",
        b"\x90" * 50_000,
        b"",
        _envelope("order-0", Item("f" * 32, "accept", "default", "pending", "", 0, "", (), 1, 0), 1, "")[:-3],
    ]
    unknown = _envelope("nobody", Item("f" * 32, "accept", "default", "pending", "", 0, "", (), 1, 0), 1, "")
    stage.garbage += [body.hex() for body in bodies]
    async with stage.broker_lock, stage.channel() as channel:
        exchange = await channel.get_exchange(NAMES.work_exchange, ensure=False)
        for body in (*bodies, unknown):
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), chance.choice(QUEUES), mandatory=False)
    return f"{len(bodies)} unreadable messages, and one about a run that is not"


# --- clients


async def client_crash(stage: Stage, chance: random.Random) -> str:
    client = stage.client
    if client is None or not client.is_ready:
        raise NothingToHitError
    name, generation = client.process_name, client.generation
    client.tell("crash")
    await _dead_in(client, generation, "after-commit")
    return f"{name} died between commit and publish of its next start"


async def storm(stage: Stage, chance: random.Random) -> str:
    number = chance.randrange(2**20)
    first = FIRST_STORM + number * STORM_RUNS
    if stage.client is None or not stage.client.tell(f"storm storm {first} {STORM_RUNS} {number}"):
        raise NothingToHitError
    return f"{STORM_RUNS} runs from storm-{first} on are paused, resumed and cancelled at random"


LINK_FAULTS: dict[str, LinkFault] = {
    "cut": _cut,
    "reset": _reset,
    "mid-frame": _mid_frame,
    "delay": _delay,
    "half-open": _half_open,
}

FAULTS: dict[str, Inject] = {
    "worker-kill": worker_kill,
    "worker-suspend": worker_suspend,
    "worker-drain": worker_drain,
    **{f"crash-{gap}": crash_in(gap) for gap in GAPS},
    "broker-restart": broker_restart,
    "broker-kill": broker_kill,
    "broker-wipe": broker_wipe,
    "memory-alarm": memory_alarm,
    "connections-closed": connections_closed,
    **{f"link-{name}": broker_link(fault) for name, fault in LINK_FAULTS.items()},
    "queue-purge": queue_purge,
    "queue-delete": queue_delete,
    "duplicates": duplicates,
    "garbage": garbage,
    "disk-full": disk_full,
    "store-away": store_away,
    "store-kill": store_kill,
    "store-restart": store_restart,
    "store-suspend": store_suspend,
    "store-sessions": store_sessions_ended,
    "store-lock": store_lock,
    "script-flush": script_flush,
    "long-script": long_script,
    **{f"store-link-{name}": store_link(fault) for name, fault in LINK_FAULTS.items()},
    "client-crash": client_crash,
    "storm": storm,
}
