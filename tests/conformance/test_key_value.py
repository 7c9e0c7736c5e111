from __future__ import annotations

from pathlib import Path

import pytest

from floxide_amqp.apps.stores import open_another
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.postgresql import PostgresqlKeyValueStore
from floxide_amqp.drivers.redis import RedisKeyValueStore
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, Synchronous
from floxide_amqp.ports.key_value import Durability, KeyValueStore
from floxide_amqp.testing.key_value.clears import ClearTests
from floxide_amqp.testing.key_value.concurrency import ConcurrencyTests, ReadTests
from floxide_amqp.testing.key_value.groups import GroupTests
from floxide_amqp.testing.key_value_suite import KeyValueSuite, SharedKeyValueSuite, StoreUnderTest

POSTGRESQL_OPENER = "floxide_amqp.drivers.postgresql:PostgresqlKeyValueStore.open"
REDIS_OPENER = "floxide_amqp.drivers.redis:RedisKeyValueStore.open"
OPENER = "floxide_amqp.drivers.sqlite:SqliteKeyValueStore.open"


class TestMemory(KeyValueSuite):
    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        async def open_store() -> KeyValueStore:
            return MemoryKeyValueStore()

        return StoreUnderTest(open=open_store, durability=Durability.NOTHING, is_shared=False)


class TestSqlite(SharedKeyValueSuite):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> StoreUnderTest:
        path = str(tmp_path / "store.db")
        return StoreUnderTest(
            open=lambda: SqliteKeyValueStore.open(path),
            durability=Durability.POWER_LOSS,
            is_shared=True,
            opener=OPENER,
            address=path,
        )


class TestPostgresql(SharedKeyValueSuite):
    @pytest.fixture
    def under_test(self, postgresql_url: str) -> StoreUnderTest:
        return StoreUnderTest(
            open=lambda: PostgresqlKeyValueStore.open(postgresql_url),
            durability=Durability.POWER_LOSS,
            is_shared=True,
            opener=POSTGRESQL_OPENER,
            address=postgresql_url,
        )


class TestPostgresqlBehindAPooler(GroupTests, ClearTests, ReadTests, ConcurrencyTests):
    """With nothing kept between transactions, as PgBouncer's transaction mode needs it: what goes another way then."""

    @pytest.fixture
    def under_test(self, postgresql_url: str) -> StoreUnderTest:
        url = f"{postgresql_url}&pooler=transaction"
        return StoreUnderTest(
            open=lambda: PostgresqlKeyValueStore.open(url),
            durability=Durability.POWER_LOSS,
            is_shared=True,
            opener=POSTGRESQL_OPENER,
            address=url,
        )


class TestRedis(SharedKeyValueSuite):
    @pytest.fixture
    def under_test(self, redis_url: str) -> StoreUnderTest:
        return StoreUnderTest(
            open=lambda: RedisKeyValueStore.open(redis_url),
            durability=Durability.ORDERLY_STOP,
            is_shared=True,
            opener=REDIS_OPENER,
            address=redis_url,
        )


class TestRedisCluster(SharedKeyValueSuite):
    @pytest.fixture
    def under_test(self, redis_cluster_url: str) -> StoreUnderTest:
        return StoreUnderTest(
            open=lambda: RedisKeyValueStore.open(redis_cluster_url),
            durability=Durability.ORDERLY_STOP,
            is_shared=True,
            opener=REDIS_OPENER,
            address=redis_cluster_url,
        )


class TestSqliteSyncedAtCheckpointsOnly(SharedKeyValueSuite):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> StoreUnderTest:
        path = str(tmp_path / "store.db")
        return StoreUnderTest(
            open=lambda: SqliteKeyValueStore.open(path, synchronous=Synchronous.NORMAL),
            durability=Durability.PROCESS_CRASH,
            is_shared=True,
            opener=OPENER,
            address=path,
        )


class TestShardedMemory(KeyValueSuite):
    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        async def open_store() -> KeyValueStore:
            return ShardedKeyValueStore({name: MemoryKeyValueStore() for name in ("a", "b", "c")})

        return StoreUnderTest(open=open_store, durability=Durability.NOTHING, is_shared=False, has_several_servers=True)


class TestShardedSqlite(SharedKeyValueSuite):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> StoreUnderTest:
        address = " ".join(f"{name}=sqlite:///{tmp_path}/{name}.db" for name in ("a", "b", "c"))
        return StoreUnderTest(
            open=lambda: open_another(address),
            durability=Durability.POWER_LOSS,
            is_shared=True,
            opener="floxide_amqp.apps.stores:open_another",
            address=address,
            has_several_servers=True,
        )
