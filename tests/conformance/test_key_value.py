from __future__ import annotations

from pathlib import Path

import pytest

from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, Synchronous
from floxide_amqp.ports.key_value import Durability, KeyValueStore
from floxide_amqp.testing.key_value_suite import KeyValueSuite, SharedKeyValueSuite, StoreUnderTest

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
