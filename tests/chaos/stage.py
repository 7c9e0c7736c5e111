"""Where the chaos happens: a private RabbitMQ, a store on a small disk, proxies before both, the processes."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.testing.proxy import TcpProxy
from floxide_amqp.testing.rabbitmq_servers import PrivateRabbitMQ
from tests.chaos.application import NAMESPACE
from tests.chaos.disk import SmallDisk
from tests.chaos.processes import Slot
from tests.chaos.store_reader import StoreAwayError, StoreReader, open_reader, save
from tests.chaos.stores import SQLITE, StorePlace, launched

DISK_MEGABYTES = 1_500
CONNECT_SECONDS = 60.0
NAMES = Names(NAMESPACE)


class Stage:
    """All parts; get one from `staged`."""

    def __init__(self, folder: Path, seed: int, broker: PrivateRabbitMQ, disk: SmallDisk, place: StorePlace) -> None:
        self.folder = folder
        self.seed = seed
        self.broker = broker
        self.broker_lock = asyncio.Lock()
        self.disk = disk
        self.place = place
        self.store = place.url
        self.reader: StoreReader = open_reader(self.store)
        self.workers: list[Slot] = []
        self.proxies: list[TcpProxy] = []
        self.store_proxies: list[TcpProxy] = []
        self.client: Slot | None = None
        self.garbage: list[str] = []
        self.old_messages: list[bytes] = []
        self.drains: dict[str, int] = {}
        self.suspended_ms = 0
        self.duration = 0.0

    def new_worker(self, broker: str, store: str, name: str) -> Slot:
        return Slot(name, "tests.chaos.worker", (broker, store, str(self.folder)), logs=self.folder / "logs")

    def new_client(self, broker: str, store: str, name: str) -> Slot:
        arguments = (broker, store, str(self.folder), str(self.seed))
        return Slot(name, "tests.chaos.client", arguments, logs=self.folder / "logs")

    @asynccontextmanager
    async def channel(self) -> AsyncGenerator[AbstractChannel]:
        """A channel straight to the broker."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await aio_pika.connect(self.broker.url)
        async with connection:
            yield await connection.channel()

    async def ctl(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.broker.ctl, *arguments)

    async def queues(self) -> list[dict[str, Any]]:
        """The broker's own list of queues."""
        columns = ("name", "messages_ready", "messages_unacknowledged", "consumers")
        listed = json.loads(await self.ctl("list_queues", *columns, "--formatter", "json"))
        return [queue for queue in listed if queue["name"].startswith(f"{NAMESPACE}.")]


@asynccontextmanager
async def staged(
    seed: int, *, workers: int = 4, client: bool = True, configuration: str = "", keep: bool = False,
    through_proxies: bool = True, starts: bool = True, store: str = SQLITE,
) -> AsyncGenerator[Stage]:  # fmt: skip
    """Put everything up, and take it down at the end.

    Args:
        seed: For the client's orders.
        workers: How many workers.
        client: Whether there is a client process.
        configuration: More lines for the broker's configuration.
        keep: Whether the folder stays, with its logs, ledger and evidence.
        through_proxies: Whether workers and client reach broker and store through proxies.
        starts: Whether the processes are started.
        store: The kind of store.
    """
    folder = Path(tempfile.mkdtemp(prefix="floxide-chaos-"))
    (folder / "logs").mkdir()
    async with AsyncExitStack() as stack:
        if not keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        disk = SmallDisk(folder / "store", megabytes=DISK_MEGABYTES)
        disk.mount()
        stack.callback(_save, disk, folder)
        broker = await asyncio.to_thread(PrivateRabbitMQ, configuration=configuration)
        stack.callback(broker.close)
        await asyncio.to_thread(broker.start)
        place = await asyncio.to_thread(stack.enter_context, launched(store, disk))
        stage = Stage(folder, seed, broker, disk, place)
        if keep and place.server is not None:
            stack.callback(_save_tables, stage)
        for number in range(workers + 1):
            urls = await _urls(stage, stack, through_proxies=through_proxies)
            if number < workers:
                stage.workers.append(stage.new_worker(*urls, f"w{number}"))
            elif client:
                stage.client = stage.new_client(*urls, "client")
        slots = [*stage.workers, *([stage.client] if stage.client else [])]
        for slot in slots:
            stack.push_async_callback(slot.close, signal.SIGKILL)
        if starts:
            await asyncio.gather(*(slot.open() for slot in slots))
        yield stage


async def _urls(stage: Stage, stack: AsyncExitStack, *, through_proxies: bool) -> tuple[str, str]:
    """Where one process is to find broker and store."""
    urls = [stage.broker.url, stage.store]
    for number, proxies in enumerate((stage.proxies, stage.store_proxies)):
        if proxies is stage.store_proxies and stage.place.server is None:
            continue
        proxies.append(await stack.enter_async_context(TcpProxy.before(urls[number])))
        if through_proxies:
            urls[number] = proxies[-1].url_of(urls[number])
    return urls[0], urls[1]


def _save_tables(stage: Stage) -> None:
    """Keep what is in the store's server, unless that is down because something else went wrong."""
    with suppress(StoreAwayError):
        save(stage.reader.tables, stage.folder / "runs.db")


def _save(disk: SmallDisk, folder: Path) -> None:
    """Copy the store off the small disk before that goes."""
    if disk.is_limited:
        for path in disk.folder.glob("runs.db*"):
            shutil.copy(path, folder / path.name)
    disk.unmount()
