"""Behind PgBouncer in transaction mode: no transaction finds anything that an earlier one left in its session."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.exceptions import InvalidBatchError, StoreUnavailableError
from floxide_amqp.ports.key_value import Add, Batch, Clear, Committed, IndexRange, Read
from tests.integration.postgresql.support import COUNTER, SLOT, counted, guarded, once, opened, schema_of, until_waiting


class Forgetful:
    """A connection that forgets its session at the end of each transaction, and does nothing outside of one."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def execute(self, query: str) -> str:
        if query.startswith("BEGIN"):
            await self._real.execute("DISCARD ALL")
        else:
            assert self._real.is_in_transaction(), query
        answer: str = await self._real.execute(query)
        return answer

    async def fetch(self, query: str, *arguments: object) -> Any:
        assert self._real.is_in_transaction(), query
        return await self._real.fetch(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        assert self._real.is_in_transaction(), query
        return await self._real.fetchval(query, *arguments)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let each connection forget, and return what each was opened with."""
    connect = asyncpg.connect
    seen: list[dict[str, Any]] = []

    async def opened_so(url: str, **options: Any) -> Forgetful:
        seen.append(options)
        return Forgetful(await connect(url, **options))

    monkeypatch.setattr(asyncpg, "connect", opened_so)
    return seen


async def test_nothing_is_kept_between_transactions(postgresql_url: str, forgetful: list[dict[str, Any]]) -> None:
    async with opened(postgresql_url, has_pooler=True, pool_size=2) as store:
        for number in range(3):
            reply = await store.commit([once(f"a{number}"), once(f"b{number}")])
            assert all(isinstance(outcome, Committed) for outcome in reply.outcomes)
            assert (await counted(store))[0] == 2 * (number + 1)
        await asyncio.gather(*(store.commit([once(f"k{number}")]) for number in range(8)))
        assert (await counted(store))[0] == 14
        assert await store.scan(IndexRange("i")) == ()
        assert len((await store.records(SLOT)).records) == 16
        cleared = await store.commit([Batch(slot=SLOT, writes=(Clear("run", 100),))])
        assert cleared.outcomes == (Committed(cleared=16),)
        await store.read([Read(slot=Slot(1))])
    assert all(options["statement_cache_size"] == 0 for options in forgetful)
    assert all(set(options["server_settings"]) == {"application_name"} for options in forgetful)


async def test_the_limits_hold_in_each_transaction(postgresql_url: str, forgetful: list[dict[str, Any]]) -> None:
    url = f"{postgresql_url}&pooler=transaction&lock_timeout=0.1"
    async with opened(url) as store:
        assert store.durability.value == "power loss"
        async with guarded(postgresql_url, schema_of(postgresql_url), "run") as guard:
            call = asyncio.create_task(store.commit([once("first")]))
            await until_waiting(guard)
            with pytest.raises(StoreUnavailableError, match="lock_timeout"):
                await call
        await store.commit([once("first")])
        assert (await counted(store))[0] == 1
    assert forgetful


async def test_a_faulty_group_leaves_no_transaction_open(postgresql_url: str, forgetful: list[dict[str, Any]]) -> None:
    async with opened(postgresql_url, has_pooler=True, pool_size=1) as store:
        too_much = [(1 << 63) - 1, 1 << 63]  # the sum that the server refuses, the number that cannot even be sent
        for amount in too_much:
            with pytest.raises(InvalidBatchError):
                await store.commit([once("first"), Batch(slot=SLOT, writes=(Add(COUNTER, amount),))])
            assert (await counted(store))[0] == 0
        await store.commit([once("first")])
        assert (await counted(store))[0] == 1
    assert len(forgetful) == 1
