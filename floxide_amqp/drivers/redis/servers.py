"""Who runs a script: the one server, or the node of a cluster that has the tag."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from redis import exceptions as redis_errors

from floxide_amqp.drivers.redis.address import Address
from floxide_amqp.drivers.redis.calls import Call, ElsewhereError, Reply, call_on
from floxide_amqp.drivers.redis.errors import store_error
from floxide_amqp.drivers.redis.layout import hash_slot
from floxide_amqp.drivers.redis.links import Command, Node, ReplyLostError
from floxide_amqp.drivers.redis.lives import Lives
from floxide_amqp.drivers.redis.scripts import Script
from floxide_amqp.exceptions import ConfigurationError, FloxideError, StoreError, StoreUnavailableError

Place: TypeAlias = tuple[str, int]
"""Host and port."""

ROUNDS: Final = 5
"""Tries to find the node of a tag while a cluster changes; then the store is unavailable, and its caller waits."""

PAUSE_SECONDS: Final = 0.05
"""Before the second of these tries; longer before each further one."""


class Servers(Protocol):
    """The one server, or the nodes of a cluster."""

    async def run(self, script: Script, calls: Sequence[Call], lives: Lives | None) -> list[Reply]:
        """Run a script for some tags, each in one step of its own; raises nothing but when cancelled."""
        ...

    async def every(self, *commands: Command) -> list[tuple[str, list[Any]]]:
        """Give commands to every server that has data; returns the name of each and its replies.

        Raises:
            StoreError: One of them cannot be reached.
        """
        ...

    async def drop(self) -> None:
        """Connect anew from now on."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class OneServer:
    """A server of its own."""

    def __init__(self, address: Address) -> None:
        self._store = address.shown
        ((host, port),) = address.nodes
        self._node = Node(host, port, address)

    async def run(self, script: Script, calls: Sequence[Call], lives: Lives | None) -> list[Reply]:
        """Run a script; see `Servers`."""
        replies = await call_on(self._node, script, calls, lives, store=self._store)
        return [reply.error if isinstance(reply, ElsewhereError) else reply for reply in replies]

    async def every(self, *commands: Command) -> list[tuple[str, list[Any]]]:
        """Give it commands; see `Servers`."""
        return [(self._node.name, await exchanged(self._node, commands, store=self._store))]

    async def drop(self) -> None:
        """Connect anew from now on."""
        await self._node.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._node.aclose()


class Cluster:
    """The nodes of a Redis Cluster, and which of them has which tag."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._store = address.shown
        self._nodes = {place: Node(*place, address) for place in address.nodes}
        self._ranges: list[tuple[int, int, Place]] = []
        self._is_stale = True

    async def run(self, script: Script, calls: Sequence[Call], lives: Lives | None) -> list[Reply]:
        """Run a script for some tags, those of one node in one round trip; see `Servers`."""
        replies: list[Reply] = [None] * len(calls)
        waiting = list(range(len(calls)))
        for attempt in range(ROUNDS):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS * attempt)
            try:
                await self._look_around()
                places = self._places(calls, waiting)
            except StoreError as error:
                for number in waiting:
                    replies[number] = error
                break
            found = await asyncio.gather(
                *(self._run_on(place, script, [calls[n] for n in numbers], lives) for place, numbers in places.items())
            )
            for numbers, answers in zip(places.values(), found, strict=True):
                for number, answer in zip(numbers, answers, strict=True):
                    replies[number] = answer
            waiting = [number for number in waiting if isinstance(replies[number], ElsewhereError)]
            if not waiting:
                break
            self._is_stale = True
        return [reply.error if isinstance(reply, ElsewhereError) else reply for reply in replies]

    async def every(self, *commands: Command) -> list[tuple[str, list[Any]]]:
        """Give commands to every master; see `Servers`."""
        await self._look_around()
        masters = [self._nodes[place] for place in sorted({place for _, _, place in self._ranges})]
        replies = await asyncio.gather(*(exchanged(node, commands, store=self._store) for node in masters))
        return [(node.name, reply) for node, reply in zip(masters, replies, strict=True)]

    async def drop(self) -> None:
        """Connect anew and ask anew who has what."""
        self._is_stale = True
        for node in self._nodes.values():
            await node.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        for node in self._nodes.values():
            await node.aclose()

    async def _run_on(self, place: Place, script: Script, calls: Sequence[Call], lives: Lives | None) -> list[Reply]:
        replies = await call_on(self._nodes[place], script, calls, lives, store=self._store)
        for number, reply in enumerate(replies):
            if isinstance(reply, ElsewhereError) and reply.asks is not None:
                node = self._node(reply.asks)
                (replies[number],) = await call_on(
                    node, script, [calls[number]], lives, store=self._store, asking=True
                )  # fmt: skip
            elif isinstance(reply, StoreUnavailableError | ReplyLostError):
                self._is_stale = True
        return replies

    def _node(self, place: Place) -> Node:
        if place not in self._nodes:
            self._nodes[place] = Node(*place, self._address)
        return self._nodes[place]

    def _places(self, calls: Sequence[Call], waiting: Sequence[int]) -> dict[Place, list[int]]:
        places: dict[Place, list[int]] = {}
        for number in waiting:
            slot = hash_slot(calls[number].tag)
            place = next((place for first, last, place in self._ranges if first <= slot <= last), None)
            if place is None:
                self._is_stale = True
                reason = f"no node of the cluster has hash slot {slot}"
                raise StoreUnavailableError(store=self._store, reason=reason)
            places.setdefault(place, []).append(number)
        return places

    async def _look_around(self) -> None:
        """Ask the nodes who has what, if that may have changed.

        Raises:
            StoreError: None of them can tell.
            ConfigurationError: They are no cluster.
        """
        failure: StoreError | None = None
        for node in [*self._nodes.values()] if self._is_stale else ():
            try:
                (reply,) = await exchanged(node, [("CLUSTER", "SLOTS")], store=self._store)
                if isinstance(reply, redis_errors.RedisError):
                    raise self._no_cluster(reply)
            except StoreError as error:
                failure = error
                continue
            self._ranges = [
                (int(first), int(last), ((master[0] or b"").decode() or node.host, int(master[1])))
                for first, last, master, *_ in reply
            ]
            for _, _, place in self._ranges:
                self._node(place)
            self._is_stale = False
            return
        if failure is not None:
            raise failure

    def _no_cluster(self, reply: redis_errors.RedisError) -> FloxideError:
        if "cluster support disabled" in str(reply):
            sentence = f"The store {self._store} is no Redis Cluster: begin its URL with redis:// instead."
            return ConfigurationError(sentence)
        return store_error(reply, store=self._store)


def servers_of(address: Address) -> Servers:
    """Return who has what is at an address; nothing is connected yet."""
    return Cluster(address) if address.is_cluster else OneServer(address)


async def exchanged(node: Node, commands: Sequence[Command], *, store: str) -> list[Any]:
    """Return a server's replies to commands that may as well be repeated.

    Raises:
        StoreError: It cannot be reached, or did not answer.
    """
    try:
        return await node.exchange(lambda _: commands)
    except ReplyLostError as error:
        raise StoreUnavailableError(store=store, reason=str(error)) from error


def raised(reply: Reply) -> Reply:
    """Return a reply that is none of the errors; raise it otherwise.

    Raises:
        StoreError: The script did nothing.
        ReplyLostError: It is unknown whether it did.
    """
    if isinstance(reply, StoreError | ReplyLostError):
        raise reply
    return reply
