"""The conformance suite of the key-value port: subclass it, say how your driver opens, run pytest.

    class TestMyStore(SharedKeyValueSuite):
        @pytest.fixture
        def under_test(self, tmp_path: Path) -> StoreUnderTest:
            path = str(tmp_path / "my.store")
            return StoreUnderTest(
                open=lambda: MyStore.open(path),
                durability=Durability.POWER_LOSS,
                is_shared=True,
                opener="my_package:MyStore.open",
                address=path,
            )

Every test gets a store of its own, empty. Take the suite that fits what the driver claims: `KeyValueSuite` for a store
that is gone with its process, `DurableKeyValueSuite` for one that can be opened again, `SharedKeyValueSuite` for one
that many processes open at once. Nothing is skipped: a driver that claims more than its suite tests fails.

It needs the extra ``floxide-amqp[testing]``.
"""

from __future__ import annotations

import asyncio

from floxide_amqp.ports.key_value import Durability
from floxide_amqp.testing.key_value.cells import CellTests, CheckTests, CounterTests, DeleteTests
from floxide_amqp.testing.key_value.clears import ClearTests
from floxide_amqp.testing.key_value.concurrency import ConcurrencyTests, LifecycleTests, ReadTests
from floxide_amqp.testing.key_value.groups import GroupTests, WhenTests
from floxide_amqp.testing.key_value.harness import StoreUnderTest
from floxide_amqp.testing.key_value.indexes import IndexTests, SlotTests
from floxide_amqp.testing.key_value.logs import LogTests, TrimTests
from floxide_amqp.testing.key_value.machine import compare_with_model
from floxide_amqp.testing.key_value.records import RecordTests
from floxide_amqp.testing.key_value.sharing import DurableTests, SharedTests

__all__ = [
    "DurableKeyValueSuite",
    "KeyValueSuite",
    "SharedKeyValueSuite",
    "StoreUnderTest",
    "compare_with_model",
]


class KeyValueSuite(
    CellTests,
    CheckTests,
    CounterTests,
    DeleteTests,
    ClearTests,
    LogTests,
    TrimTests,
    IndexTests,
    SlotTests,
    GroupTests,
    WhenTests,
    ReadTests,
    RecordTests,
    ConcurrencyTests,
    LifecycleTests,
):
    """What every store keeps."""

    async def test_it_claims_no_more_than_this_suite_tests(self, under_test: StoreUnderTest) -> None:
        """A durable or shared store must run the suite that tests it."""
        assert isinstance(self, DurableTests) == (under_test.durability is not Durability.NOTHING)
        assert isinstance(self, SharedTests) == under_test.is_shared

    async def test_it_answers_as_the_model_does(self, under_test: StoreUnderTest) -> None:
        """Hypothesis compares long histories of commits and reads with dictionaries."""
        await asyncio.to_thread(  # it runs an event loop of its own
            compare_with_model, under_test.open, has_several_servers=under_test.has_several_servers
        )


class DurableKeyValueSuite(KeyValueSuite, DurableTests):
    """What a store keeps that can be closed and opened again."""


class SharedKeyValueSuite(DurableKeyValueSuite, SharedTests):
    """What a store keeps that many processes open at once."""
