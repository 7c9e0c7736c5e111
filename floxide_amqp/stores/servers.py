"""The servers of a store that is moved to others: those it has, those it is to have, and those that are both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from floxide_amqp.exceptions import ReshardingError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.stores.places import ALONE
from floxide_amqp.stores.session import Session

THE_STORE = "the store"
"""What the one server of a store is called that has no shards."""


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """A server.

    Attributes:
        was: Its name so far; None of one that is new, empty of the one server of a store without shards.
        becomes: Its name to be; None of one that leaves.
        session: The conversation with it.
    """

    was: str | None
    becomes: str | None
    session: Session

    @property
    def name(self) -> str:
        """What it is called, and no other."""
        return self.session.shard


def servers_of(
    sources: Mapping[str, KeyValueStore], targets: Mapping[str, KeyValueStore], clock: Clock, patience_seconds: float
) -> Sequence[Server]:
    """Return the servers of both sets, each once, with conversations of their own.

    Raises:
        ReshardingError: One server has two names in the same set, or one of the sets is empty.
    """
    for shards in (sources, targets):
        if not shards or len({id(store) for store in shards.values()}) < len(shards):
            raise ReshardingError(reason="a server has two names", cure="Name each server of a store once.")
    names = {id(store): name for name, store in targets.items()}
    found: list[tuple[str | None, str | None, KeyValueStore]] = [
        (name, names.get(id(store)), store) for name, store in sorted(sources.items())
    ]
    known = {id(store) for store in sources.values()}
    found += [(None, name, store) for name, store in sorted(targets.items()) if id(store) not in known]
    taken = set(targets)
    servers: list[Server] = []
    for was, becomes, store in found:
        name = becomes or was or THE_STORE
        if becomes is None and name in taken:
            name = f"{name} (leaving)"
        servers.append(Server(was, becomes, Session(store, clock, patience_seconds=patience_seconds, shard=name)))
    return servers


def names_of(servers: Sequence[Server]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the shards the store has, and of those it is to have, each in order."""
    was = tuple(sorted(server.was for server in servers if server.was is not None))
    becomes = tuple(sorted(server.becomes for server in servers if server.becomes is not None))
    return was or (ALONE,), becomes
