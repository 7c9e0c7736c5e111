"""A folder as the chaos leaves it, in which all is well: for the tests of the checker, which then corrupt it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from floxide_amqp import Floxide, Limits
from tests.chaos.application import QUICK, Bookkeeping, OrderContext, Orders
from tests.chaos.checker import Evidence
from tests.chaos.groups import floor
from tests.chaos.groups.desk import Desk
from tests.chaos.groups.routing import labels_of
from tests.chaos.ledger import Ledger
from tests.chaos.orders import customer_of, order_of
from tests.chaos.store_reader import open_reader

SEED = 1
FINISHED = [number for number in range(40) if len(order_of(SEED, number).lines) >= 2][:6]
"""Orders with at least two lines each: what is corrupted is in all of them."""

FLAKY = next(number for number in FINISHED if any(line.fails for line in order_of(SEED, number).lines))
RUN, FLAKY_RUN = f"order-{FINISHED[0]}", f"order-{FLAKY}"

LEFT_ENTRY = "00000000000001:x:1:order-0"
"""The key of an entry that should be gone, such as that of a message."""


class Journal:
    """Lines of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, *lines: str) -> None:
        with self._path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


async def do_deeds(folder: Path, store: str) -> None:
    """Do each kind of deed of each group once, and bring the groups to their end."""
    ledgers = [Ledger(folder, name) for name in ("w4", "w2")]
    beside, app = (
        Floxide(store=store, workflows=floor.WORKFLOWS, timeouts=QUICK, interceptors=[Bookkeeping(ledger)])
        for ledger in ledgers
    )
    async with (
        app.worker(name="w2", labels=labels_of("w2")) as worker,
        app.orchestrator(with_worker=False) as orchestrator,
    ):
        working = asyncio.create_task(worker.run_forever())
        desk = Desk(orchestrator, beside, Journal(folder / "clients" / "deeds.log"), SEED)
        async with asyncio.TaskGroup() as all_of_them:
            for group in floor.GROUPS.values():
                for number in range(len(group.kinds)):
                    all_of_them.create_task(group.do(desk, number))
        for group in floor.GROUPS.values():
            if group.close is not None:
                await group.close(desk)
        reader = open_reader(store)
        while await asyncio.to_thread(reader.left_over):  # noqa: ASYNC110 - a child may go on when its parent has ended
            await asyncio.sleep(0.1)
        worker.stop()
        await working
    for ledger in ledgers:
        ledger.close()


async def finish_orders(folder: Path, store: str, limits: Limits | None = None, *, groups: bool = False) -> None:
    """Play the orders to their end on a store, and write down what others saw; with the deeds of all groups or not."""
    (folder / "clients").mkdir()
    ledger = Ledger(folder, "w0")
    app = Floxide(
        store=store, workflows=[Orders], timeouts=QUICK, interceptors=[Bookkeeping(ledger)], limits=limits or Limits()
    )  # fmt: skip
    journal: list[str] = []
    async with app.orchestrator() as orchestrator:
        for number in FINISHED:
            customer = customer_of(number)
            run = await orchestrator.start(
                Orders, order_of(SEED, number), context=OrderContext(customer=customer), run_id=f"order-{number}",
                attributes={"customer": customer},
            )  # fmt: skip
            result = asdict(await run.result(120))
            journal += [f"started {run.run_id}\n", f"result {run.run_id} {json.dumps(result)}\n"]
    (folder / "clients" / "client.log").write_text("".join(journal))
    if groups:
        await do_deeds(folder, store)
    ledger.close()
    healthy = {"descriptors": 20, "tasks": 10, "threads": 5, "resident_kib": 60_000}
    queue = {"name": "chaos.work.default", "messages_ready": 0, "messages_unacknowledged": 0}
    evidence = Evidence(
        seed=SEED, store=store, workers=1, clients=1, fresh=healthy, reports={"w0": healthy}, exits={"w0": 0},
        queues_quiet=[queue], queues_after=[queue],
    )  # fmt: skip
    (folder / "evidence.json").write_text(json.dumps(asdict(evidence)))
