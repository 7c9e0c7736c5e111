"""Descriptions of versions on a store with several servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from floxide_amqp import Workflow, node
from floxide_amqp.core.descriptions import describe_graph, encode_description
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.versions import VersionStore
from floxide_amqp.testing.virtual_time import VirtualClock, pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]


@node
async def only(x: int) -> int:
    return x


class One(Workflow[int, int], name="One@/x"):
    start = only


class Away(Session):
    """A server that has not answered for long, and that nobody may ask who need not."""

    def failing_seconds(self) -> float:
        return 5.0

    async def read(self, wanted: Any) -> Any:
        raise AssertionError("a server that is away was asked")


@dataclass
class Whole:
    parts: tuple[Session, ...]


def session(kind: type[Session] = Session) -> Session:
    return kind(MemoryKeyValueStore(VirtualClock()), VirtualClock())


async def test_a_description_is_kept_once_found_and_forgotten() -> None:
    store = VersionStore(session())
    description = describe_graph(One.graph)
    assert await store.put("One@/x", "1", encode_description(description)) is False
    assert await store.put("One@/x", "1", encode_description(description)) is False
    assert await store.put("One@/x", "1", b"{}") is True  # another one was there
    assert await store.find("One@/x", "1") is None  # and this one cannot be read
    await store.put("One@/x", "1", encode_description(description))
    assert await store.find("One@/x", "1") == description
    assert await store.all() == [("One@/x", "1")]
    stamp = (await store.stamps())["One@/x", "1"]
    assert await store.remove("One@/x", "1", stamp=stamp)
    assert (await store.find("One@/x", "1"), await store.all()) == (None, [])


async def test_a_description_that_is_written_again_meanwhile_is_not_forgotten() -> None:
    store = VersionStore(session())
    description = encode_description(describe_graph(One.graph))
    for write in (store.put, store.offer):
        await write("One@/x", "1", description)
        stamp = (await store.stamps())["One@/x", "1"]
        await write("One@/x", "1", description)
        assert not await store.remove("One@/x", "1", stamp=stamp)
        assert await store.read("One@/x", "1") == description


async def test_a_description_that_is_offered_does_not_take_the_place_of_another() -> None:
    store = VersionStore(session())
    assert await store.read("One@/x", "1") is None
    await store.offer("One@/x", "1", b"first")
    await store.offer("One@/x", "1", b"second")
    assert await store.read("One@/x", "1") == b"first"


async def test_a_server_that_is_away_keeps_no_version_from_being_found() -> None:
    here = session()
    await VersionStore(here).put("One@/x", "1", encode_description(describe_graph(One.graph)))
    whole: Any = Whole((session(Away), here))
    assert await VersionStore(whole).find("One@/x", "1") is not None
