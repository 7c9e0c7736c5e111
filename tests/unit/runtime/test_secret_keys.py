"""Where users' data is encrypted, so are the keys of limits: the store has digests of them, and their texts sealed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from floxide_amqp import Concurrency, Encryption, NextAll, RateLimit, Workflow, WorkflowCtx, gather, node
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.limit_keys import copy_limit
from floxide_amqp.stores.rate_keys import copy_rate
from floxide_amqp.stores.sealing import Sealing
from tests.unit.runtime.cluster import Cluster

ADDRESS = "ada.lovelace@example.com"

PER_ADDRESS = Concurrency("address", limit=1, key=lambda address: address)
PACE = RateLimit("pace", 1, per=timedelta(seconds=2), key=lambda address: address)


@node
async def split(addresses: list[str]) -> NextAll[str]:
    return NextAll(addresses)


@node(concurrency=PER_ADDRESS, rate=PACE)
async def write(ctx: WorkflowCtx[Any], address: str) -> str:
    await ctx.sleep(5)
    return address


@node
async def count(done: list[str]) -> int:
    return len(done)


class Writing(Workflow[list[str], int]):
    start = split
    edges = (split >> write >> gather(count),)


class SealedCluster(Cluster):
    """A cluster whose processes encrypt."""

    def _services(self, name: str, workflows: Any) -> Any:
        services, store, queue = super()._services(name, workflows)
        services.sealing = Sealing((Encryption({"k1": bytes(32)}),))
        services._open_stores()
        return services, store, queue


def everything(here: Cluster) -> str:
    """All that the store has, names and values, as text."""
    parts: list[object] = []
    for slot in here.store._slots.values():
        parts += [(key, cell.value) for key, cell in slot.cells.items()]
        parts += list(slot.counters)
    for name, entries in here.store._indexes.items():
        parts += [name, *entries.between("", None, reverse=False)]
    return repr(parts)


async def until_shown(services: Services) -> None:
    async with asyncio.timeout(60):
        while not (await services.limit_keys.ids() and await services.rate_keys.ids()):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


async def test_the_key_of_a_limit_is_not_in_the_store_as_it_is() -> None:
    here = SealedCluster(Writing)
    try:
        await here.start_worker()
        client = here.client()
        run = await client.start(Writing, [ADDRESS] * 3, run_id="r")
        await until_shown(client.services)
        for _ in range(12):  # while it is held, waited for, and given back
            await asyncio.sleep(0.5)
            assert ADDRESS not in everything(here)
        (held,), (rate,) = await client.limits.list(), await client.limits.rates()
        assert (held.name, held.key, rate.name, rate.key) == ("address", ADDRESS, "pace", ADDRESS)
        assert (await client.limits.get("address", ADDRESS)).held == 1
        there = SealedCluster(Writing).client()
        for copy, index in ((copy_limit, client.services.limit_keys), (copy_rate, client.services.rate_keys)):
            (limit_id,) = await index.ids()
            place = f" {'limit' if copy is copy_limit else 'rate'}:{limit_id}"
            await copy(client.services.session, there.services.session, place)  # type: ignore[arg-type]
        assert [each.key for each in await there.limits.list()] == [ADDRESS]
        assert [each.key for each in await there.limits.rates()] == [ADDRESS]
        assert await run.result(timeout=120) == 3
        async with asyncio.timeout(300):
            while here.store.leftovers("limits", "rates"):  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(1)
        assert not [key for slot in here.store._slots.values() for key in slot.cells if key.name == "shown"]
    finally:
        await here.close()


async def test_who_lacks_the_encryption_key_sees_the_digest() -> None:
    here = SealedCluster(Writing)
    client = here.client()
    await client.limits.set("address", ADDRESS, limit=2)
    client.services.sealing = Sealing()
    (found,) = await client.limits.list()
    assert found.key.startswith("#")
    assert found.limit == 2


async def test_lists_of_secret_keys_go_on_behind_the_last_one() -> None:
    here = SealedCluster(Writing)
    client = here.client()
    for number in range(5):
        await client.limits.set("address", f"{number}", limit=2)
        await client.limits.set_rate("pace", f"{number}", limit=2, per=3)
    for page in (client.limits.list, client.limits.rates):
        keys, after = list[str](), ""
        while found := await page(after=after, limit=2):
            keys += [each.key for each in found]
            after = found[-1].id if page == client.limits.list else f"{found[-1].name}/{found[-1].key}"
        assert sorted(keys) == ["0", "1", "2", "3", "4"]
    await here.close()
