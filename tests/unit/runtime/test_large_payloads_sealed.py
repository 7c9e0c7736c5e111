"""What is large is compressed and encrypted in a thread, so that it does not keep the event loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from floxide_amqp import Encryption, Workflow, node
from floxide_amqp.drivers.codecs import encryption
from floxide_amqp.ports.codec import Codec
from floxide_amqp.runtime.services import SEALED_IN_THREAD_BYTES
from floxide_amqp.stores.sealing import Sealing
from tests.unit.runtime.cluster import Cluster


@node
async def repeat(text: str) -> str:
    return text * 2


@node
async def again(text: str) -> str:
    return text


class Texts(Workflow[str, str]):
    start = repeat
    edges = (repeat >> again,)


class Marking:
    """A codec that leaves everything as it is, and notes what it was called with, and whether on this thread."""

    name, key_id = "marking", ""

    def __init__(self) -> None:
        self._home = threading.get_ident()
        self.calls: list[tuple[int, bool]] = []

    def encode(self, data: bytes, bound: bytes) -> bytes | None:
        self.calls.append((len(data), threading.get_ident() == self._home))
        return None

    def decode(self, data: bytes, bound: bytes, key_id: str) -> bytes:
        return data


class CodedCluster(Cluster):
    codecs: Sequence[Codec] = ()

    def _services(self, name: str, workflows: Any) -> tuple[Any, Any, Any]:
        services, store, queue = super()._services(name, workflows)
        services.sealing = Sealing(self.codecs)
        services._open_stores()
        return services, store, queue


@pytest.mark.parametrize(("size", "is_large"), [(100, False), (SEALED_IN_THREAD_BYTES, True)])
async def test_the_payloads_of_a_commit_are_sealed_in_a_thread_if_they_are_large(size: int, is_large: bool) -> None:
    codec, text = Marking(), "x" * size
    here = CodedCluster(Texts)
    here.codecs = (codec,)
    try:
        await here.start_worker()
        assert await (await here.client().start(Texts, text, run_id="run")).result(60) == text * 2
    finally:
        await here.close()
    found = {is_here for length, is_here in codec.calls if length >= size}
    assert found == {not is_large}


def test_of_payloads_encrypted_in_several_threads_no_more_share_a_salt_than_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encryption, "PAYLOADS_PER_SALT", 7)
    codec = Encryption({"key": bytes(range(32))})
    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(lambda number: codec.encode(b"%d" % number, b"place"), range(700)))
    assert [codec.decode(data, b"place", "key") for data in sealed] == [b"%d" % number for number in range(700)]
    salts = [data[: encryption.SALT_BYTES] for data in sealed]
    assert max(map(salts.count, salts)) == 7
