"""Host names that stand for several addresses, some of which swallow every packet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest

from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import BrokerUnavailableError
from floxide_amqp.testing.proxy import TcpProxy
from tests.integration.amqp.support import SWIFT, confirmed, message, until

pytestmark = pytest.mark.fault(56)

Resolver: TypeAlias = Callable[[list[tuple[str, int]]], None]
HASTY = replace(SWIFT, connect_deadline=1.0, open_deadline=60.0)


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Says what every name stands for from now on."""
    addresses: list[tuple[str, int]] = []

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    def say(these: list[tuple[str, int]]) -> None:
        addresses[:] = these

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    return say


@pytest.fixture
def blackhole() -> Iterator[tuple[str, int]]:
    """An address where every SYN is dropped: its backlog is full."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield deaf.getsockname()


def place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 5672


def named(url: str) -> str:
    host, port = place_of(url)
    return url.replace(f"{host}:{port}", "broker.test")


async def test_an_address_that_swallows_packets_costs_a_part_of_the_deadline_and_the_next_is_tried(
    rabbitmq_url: str, namespace: str, resolver: Resolver, blackhole: tuple[str, int]
) -> None:
    resolver([blackhole, place_of(rabbitmq_url)])
    async with AmqpWorkQueue(named(rabbitmq_url), namespace=namespace, settings=HASTY) as work_queue:
        assert work_queue.health()[0].generation == 1
        await confirmed(work_queue, message(b"1"))


async def test_an_address_that_accepts_and_never_speaks_is_tried_last_the_next_time(
    rabbitmq_url: str, namespace: str, resolver: Resolver, proxy: TcpProxy
) -> None:
    proxy.blackhole()
    resolver([(proxy.host, proxy.port), place_of(rabbitmq_url)])
    async with AmqpWorkQueue(named(rabbitmq_url), namespace=namespace, settings=HASTY) as work_queue:
        await confirmed(work_queue, message(b"1"))


async def test_a_broker_that_moved_is_found_where_its_name_says_now(
    rabbitmq_url: str, namespace: str, resolver: Resolver, proxy: TcpProxy
) -> None:
    resolver([(proxy.host, proxy.port)])
    async with AmqpWorkQueue(named(rabbitmq_url), namespace=namespace, settings=HASTY) as work_queue:
        resolver([])
        proxy.blackhole()
        await until(lambda: "Name or service not known" in work_queue.health()[0].problem)
        resolver([place_of(rabbitmq_url)])
        await until(lambda: work_queue.health()[0].is_ready)
        await confirmed(work_queue, message(b"1"))


async def test_when_no_address_answers_the_error_names_them_all(
    rabbitmq_url: str, namespace: str, resolver: Resolver, blackhole: tuple[str, int]
) -> None:
    resolver([blackhole, ("127.0.0.1", 1)])
    settings = replace(HASTY, open_deadline=2.0)
    with pytest.raises(BrokerUnavailableError) as caught:
        await AmqpWorkQueue(named(rabbitmq_url), namespace=namespace, settings=settings).__aenter__()
    assert f"no answer from 127.0.0.1 port {blackhole[1]} within 0.5 s" in str(caught.value)
    assert "Connect call failed ('127.0.0.1', 1)" in str(caught.value)
