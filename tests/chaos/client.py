"""A client process: ``python -m tests.chaos.client NAME BROKER STORE FOLDER SEED``.

It obeys lines on its standard input: ``start PREFIX FIRST COUNT`` starts runs, ``crash`` makes it die between the
commit and the publish of its next start, ``storm PREFIX FIRST COUNT NUMBER`` pauses, resumes and cancels runs, and
``resume ID`` resumes one that a client left paused when it was killed. ``do GROUP NUMBER`` does a deed of a group of
the language, and ``close`` brings the groups to their end.

What it intends and what it has been told goes to a file, line by line: ``intend ID``, ``started ID``, ``result ID …``.
A deed is open from its line ``deed GROUP NUMBER`` to its line ``done GROUP NUMBER``; a client that takes the place of
another begins with the deeds that are open.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
from collections.abc import Coroutine, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floxide_amqp import Floxide, FloxideError, InvalidRunStateError, Orchestrator, RunCancelledError, RunHandle, Start
from tests.chaos.application import CrashPoint, OrderContext, Orders, Place, application
from tests.chaos.deeds import open_deeds
from tests.chaos.groups.desk import Desk
from tests.chaos.groups.floor import GROUPS
from tests.chaos.orders import Order, Parcel, customer_of, order_of

WATCHED = 5
"""Of so many runs, one is waited for by the client as users do it."""


class Journal:
    """What this client said and heard."""

    def __init__(self, folder: Path, name: str) -> None:
        (folder / "clients").mkdir(exist_ok=True)
        path = folder / "clients" / f"{name}.log"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, *lines: str) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


class Client:
    def __init__(
        self, orchestrator: Orchestrator, app: Floxide, place: Place, journal: Journal, crash: CrashPoint, seed: int
    ) -> None:
        self._orchestrator = orchestrator
        self._desk = Desk(orchestrator, app, journal, seed, place.broker)
        self._journal = journal
        self._crash = crash
        self._seed = seed
        self._tasks: set[asyncio.Task[object]] = set()

    def obey(self, line: str) -> None:
        match line.split():
            case ["start", prefix, first, count]:
                self._do(self._start(prefix, range(int(first), int(first) + int(count))))
            case ["storm", prefix, first, count, number]:
                self._do(self._storm(prefix, range(int(first), int(first) + int(count)), int(number)))
            case ["resume", run_id]:
                self._do(self._leave_running(self._orchestrator.handle(Orders, run_id)))
            case ["do", group, number]:
                self._journal.write(f"deed {group} {number}")
                self._do(self.deed(group, int(number)))
            case ["close"]:
                self._journal.write("deed close 0")
                self._do(self.deed("close", 0))
            case ["crash"]:
                self._crash.gap = "after-commit"
            case other:
                raise ValueError(other)

    def _do(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def deed(self, group: str, number: int) -> None:
        """Do a deed to its end."""
        try:
            if group == "close":
                for each in GROUPS.values():
                    if each.close is not None:
                        await each.close(self._desk)
            else:
                await GROUPS[group].do(self._desk, number)
        except Exception as error:  # noqa: BLE001 - told, and then a violation
            self._journal.write(f"broken {group}-{number} {type(error).__name__}: {error}".replace("\n", " "))
        self._journal.write(f"done {group} {number}")

    def go_on(self, folder: Path) -> None:
        """Do what a client before this one has not done to the end."""
        for group, number in open_deeds(folder):
            self._do(self.deed(group, number))

    async def _start(self, prefix: str, numbers: Iterable[int]) -> list[RunHandle[Parcel]]:
        orders = {f"{prefix}-{number}": order_of(self._seed, number) for number in numbers}
        self._journal.write(*(f"intend {run_id}" for run_id in orders))
        while True:
            try:
                handles = await self._orchestrator.start_many(Orders, [_start(*each) for each in orders.items()])
                break
            except FloxideError as error:  # users try again: start is idempotent
                self._journal.write(f"refused {type(error).__name__} {error}".replace("\n", " "))
                await asyncio.sleep(0.5)
        self._journal.write(*(f"started {run_id}" for run_id in orders))
        print(json.dumps({"kind": "started", "count": len(orders)}), flush=True)
        for handle in handles:
            if prefix == "order" and int(handle.run_id.rpartition("-")[2]) % WATCHED == 0:
                self._do(self._watch(handle))
        return handles

    async def _watch(self, handle: RunHandle[Parcel]) -> None:
        while True:
            try:
                result = asdict(await handle.result())
                break
            except FloxideError as error:
                self._journal.write(f"unheard {handle.run_id} {type(error).__name__}")
                await asyncio.sleep(1.0)
        self._journal.write(f"result {handle.run_id} {json.dumps(result, sort_keys=True)}")

    async def _storm(self, prefix: str, numbers: Iterable[int], number: int) -> None:
        chance = random.Random(f"storm:{self._seed}:{number}")
        handles = await self._start(prefix, numbers)
        await asyncio.gather(*(self._shake(handle, random.Random(chance.random())) for handle in handles))

    async def _shake(self, handle: RunHandle[Parcel], chance: random.Random) -> None:
        """Pause, resume and cancel a run in quick succession; it is never left paused."""
        for _ in range(chance.randint(2, 8)):
            act = chance.choice(("pause", "pause", "resume", "cancel"))
            try:
                if act == "cancel":
                    if await handle.cancel("storm"):
                        self._journal.write(f"cancelled {handle.run_id}")
                elif act == "pause":
                    await handle.pause("storm")
                else:
                    await handle.resume()
            except (InvalidRunStateError, RunCancelledError):
                return
            except FloxideError:
                pass
            await asyncio.sleep(chance.uniform(0, 0.3))
        await self._leave_running(handle)

    async def _leave_running(self, handle: RunHandle[Parcel]) -> None:
        while True:
            try:
                await handle.resume()
            except InvalidRunStateError:
                return
            except FloxideError:
                await asyncio.sleep(0.5)
            else:
                return


def _start(run_id: str, order: Order) -> Start[Order]:
    customer = customer_of(order.number)
    return Start(order, OrderContext(customer=customer), run_id, {"customer": customer})


async def main(name: str, broker: str, store: str, folder: str, seed: str) -> None:
    place = Place(broker, store, Path(folder))
    crash = CrashPoint()
    journal = Journal(place.folder, name)
    app = application(place, crash)
    async with app.orchestrator() as orchestrator:
        client = Client(orchestrator, app, place, journal, crash, int(seed))
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        client.go_on(place.folder)
        print(json.dumps({"kind": "ready"}), flush=True)
        while line := await reader.readline():
            client.obey(line.decode())


if __name__ == "__main__":
    logging.basicConfig(
        filename=Path(sys.argv[4]) / "logs" / f"{sys.argv[1]}.log", level=logging.INFO,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )  # fmt: skip
    asyncio.run(main(*sys.argv[1:6]))
